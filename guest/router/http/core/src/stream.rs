//! What an answer that arrives as a stream says of itself, event by event.

use crate::dialect::Dialect;
use crate::request::Estimate;
use crate::splice::quote;
use crate::sse;
use crate::text::{CHARACTERS_PER_TOKEN, characters};
use crate::usage::{Reported, Usage};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// What is read of an event, of whichever API.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    created: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    index: Option<u64>,
    content_block: Option<Block>,
    /// Of Anthropic's `message_start`.
    #[serde(borrow)]
    message: Option<Holder<'a>>,
    /// Of OpenAI's `response.completed`.
    #[serde(borrow)]
    response: Option<Holder<'a>>,
}

#[derive(Deserialize)]
struct Holder<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Block {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
}

#[derive(Deserialize)]
struct Delta {
    tool_calls: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Stop {
    stop_reason: Option<String>,
}

/// A stream, as far as it has come.
#[derive(Debug)]
pub struct Stream {
    dialect: Dialect,
    hides_usage: bool,
    reported: Reported,
    characters: u64,
    has_ended: bool,
    calls_tools: bool,
    /// `id`, `created` and `model` of a chat's chunks, as JSON.
    chunk: Option<[String; 3]>,
    /// The number of Anthropic's next block.
    next_block: u64,
}

impl Stream {
    /// Before its first event. With `hides_usage` the client has not asked for the chunk with the usage.
    #[must_use]
    pub fn new(dialect: Dialect, hides_usage: bool) -> Self {
        Self {
            dialect,
            hides_usage,
            reported: Reported::default(),
            characters: 0,
            has_ended: false,
            calls_tools: false,
            chunk: None,
            next_block: 0,
        }
    }

    /// Take an event; false when it is not for the client.
    pub fn take(&mut self, event: &[u8]) -> bool {
        let data = sse::data(event);
        if self.dialect == Dialect::Chat && &*data == b"[DONE]" {
            self.has_ended = true;
            return true;
        }
        // A comment, or what no client can read either.
        let Ok(event) = serde_json::from_slice::<Event<'_>>(&data) else { return true };

        let usages = [
            event.usage,
            event.message.and_then(|message| message.usage),
            event.response.and_then(|response| response.usage),
        ];
        let mut has_usage = false;
        for usage in usages.into_iter().flatten() {
            if let Ok(reported) = serde_json::from_str(usage.get()) {
                self.reported = self.reported.updated(reported);
                has_usage = true;
            }
        }
        let texts = [event.choices, event.delta];
        self.characters += texts.into_iter().flatten().map(characters).sum::<u64>();

        match (self.dialect, event.kind.as_deref()) {
            (Dialect::Chat, _) => {
                let choices = event.choices.and_then(|choices| serde_json::from_str(choices.get()).ok());
                let choices: Vec<Choice> = choices.unwrap_or_default();
                if choices.is_empty() && has_usage {
                    return !self.hides_usage;
                }
                let mut deltas = choices.into_iter().filter_map(|choice| choice.delta);
                self.calls_tools |= deltas.any(|delta| delta.tool_calls.is_some());
                if self.chunk.is_none() {
                    let json = |value: Option<&RawValue>| value.map_or("null", RawValue::get).to_owned();
                    self.chunk = Some([event.id, event.created, event.model].map(json));
                }
            }
            (Dialect::Messages, Some("content_block_start")) => {
                self.next_block = event.index.unwrap_or(self.next_block).saturating_add(1);
                self.calls_tools |= event.content_block.is_some_and(|block| block.kind == "tool_use");
            }
            (Dialect::Messages, Some("message_delta")) => {
                let stop = event.delta.and_then(|delta| serde_json::from_str::<Stop>(delta.get()).ok());
                self.has_ended |= stop.is_some_and(|stop| stop.stop_reason.is_some());
            }
            (Dialect::Messages, Some("message_stop"))
            | (Dialect::Responses, Some("response.completed" | "response.incomplete" | "response.failed")) => {
                self.has_ended = true;
            }
            (Dialect::Messages | Dialect::Responses, _) => {}
        }
        true
    }

    /// Whether the event that ends it has come, before which everything has been said.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// What the provider has reported, so far.
    #[must_use]
    pub fn reported(&self) -> Option<Usage> {
        self.reported.usage()
    }

    /// What it has used so far, as far as that can be seen: reported numbers where there are any, and
    /// else the estimated prompt and a quarter of the characters that came. Words may be longer than that
    /// rule has it, so up to twice the output that was asked for counts as just that.
    #[must_use]
    pub fn seen(&self, estimate: Estimate) -> Usage {
        let written = self.characters.div_ceil(CHARACTERS_PER_TOKEN);
        let most = estimate.completion;
        let written = if written <= most.saturating_mul(2) { written.min(most) } else { written };
        Usage {
            prompt: self.reported.prompt().unwrap_or(estimate.prompt),
            completion: written.max(self.reported.completion().unwrap_or(0)),
        }
    }

    /// Events that put messages at the end of the answer, to be sent before the event that ended it; none
    /// for an answer that calls tools, or whose text was complete before its usage was known.
    #[must_use]
    pub fn in_band(&self, messages: &[String]) -> Option<String> {
        let text = quote(&format!("\n\n{}", messages.join("\n\n")));
        match (self.dialect, &self.chunk) {
            _ if self.calls_tools || !self.has_ended || self.characters == 0 => None,
            (Dialect::Chat, Some([id, created, model])) => Some(format!(
                "data: {{\"id\":{id},\"object\":\"chat.completion.chunk\",\"created\":{created},\"model\":{model},\
                 \"choices\":[{{\"index\":0,\"delta\":{{\"content\":{text}}},\"finish_reason\":null}}]}}\n\n"
            )),
            (Dialect::Messages, _) => {
                let index = self.next_block;
                Some(format!(
                    "event: content_block_start\n\
                     data: {{\"type\":\"content_block_start\",\"index\":{index},\"content_block\":{{\"type\":\"text\",\"text\":\"\"}}}}\n\n\
                     event: content_block_delta\n\
                     data: {{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{{\"type\":\"text_delta\",\"text\":{text}}}}}\n\n\
                     event: content_block_stop\n\
                     data: {{\"type\":\"content_block_stop\",\"index\":{index}}}\n\n"
                ))
            }
            (Dialect::Chat | Dialect::Responses, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(stream: &mut Stream, data: &str) -> bool {
        stream.take(format!("data: {data}\n\n").as_bytes())
    }

    const ESTIMATE: Estimate = Estimate { prompt: 100, completion: 50 };

    fn usage(prompt: u64, completion: u64) -> Usage {
        Usage { prompt, completion }
    }

    #[test]
    fn a_chat() {
        let mut stream = Stream::new(Dialect::Chat, true);
        assert!(stream.take(b": comment\n\n"));
        assert!(take(
            &mut stream,
            r#"{"id":"c-1","created":5,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"usage":null}"#
        ));
        assert!(take(&mut stream, r#"{"choices":[{"index":0,"delta":{"content":"Hello"}}]}"#));
        assert_eq!(stream.seen(ESTIMATE), usage(100, 2));
        assert!(take(&mut stream, r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#));
        assert_eq!(stream.reported(), None);
        assert!(!take(&mut stream, r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1}}"#));
        assert!(!stream.has_ended());
        assert_eq!(stream.in_band(&[]), None);
        assert!(take(&mut stream, "[DONE]"));
        assert!(stream.has_ended());
        assert_eq!(stream.reported(), Some(usage(9, 1)));
        assert_eq!(
            stream.in_band(&["Note".into()]).unwrap(),
            "data: {\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":5,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\n\\nNote\"},\"finish_reason\":null}]}\n\n"
        );
    }

    #[test]
    fn a_chat_whose_client_asked_for_usage_keeps_it() {
        let mut stream = Stream::new(Dialect::Chat, false);
        assert!(take(&mut stream, r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1}}"#));
    }

    #[test]
    fn usage_beside_text_is_not_hidden_and_the_last_counts() {
        let mut stream = Stream::new(Dialect::Chat, true);
        for completion in 1..=3 {
            assert!(take(
                &mut stream,
                &format!(
                    r#"{{"choices":[{{"delta":{{"content":"abcd"}}}}],"usage":{{"prompt_tokens":9,"completion_tokens":{completion}}}}}"#
                )
            ));
        }
        assert_eq!(stream.reported(), Some(usage(9, 3)));
    }

    #[test]
    fn messages() {
        let mut stream = Stream::new(Dialect::Messages, false);
        for data in [
            r#"{"type":"message_start","message":{"usage":{"input_tokens":7,"cache_read_input_tokens":20,"output_tokens":1}}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"ping"}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello, world"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
        ] {
            assert!(take(&mut stream, data));
        }
        assert_eq!(stream.seen(ESTIMATE), usage(27, 3));
        assert!(!stream.has_ended());
        take(
            &mut stream,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":12}}"#,
        );
        assert!(stream.has_ended());
        assert_eq!(stream.reported(), Some(usage(27, 12)));
        let events = stream.in_band(&["Note".into()]).unwrap();
        assert!(
            events.starts_with(
                "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,"
            ),
            "{events}"
        );
        assert!(events.contains("\"text\":\"\\n\\nNote\""), "{events}");
    }

    #[test]
    fn responses() {
        let mut stream = Stream::new(Dialect::Responses, false);
        for data in [
            r#"{"type":"response.created","response":{"usage":null}}"#,
            r#"{"type":"response.output_text.delta","output_index":0,"delta":"Hello"}"#,
            r#"{"type":"response.function_call_arguments.delta","delta":"{}x"}"#,
        ] {
            assert!(take(&mut stream, data));
        }
        assert_eq!(stream.seen(ESTIMATE), usage(100, 2));
        take(
            &mut stream,
            r#"{"type":"response.completed","response":{"usage":{"input_tokens":9,"output_tokens":4}}}"#,
        );
        assert!(stream.has_ended());
        assert_eq!(stream.reported(), Some(usage(9, 4)));
        assert_eq!(stream.in_band(&["Note".into()]), None);
    }

    #[test]
    fn an_answer_that_calls_tools_has_no_place_for_a_warning() {
        let mut stream = Stream::new(Dialect::Chat, false);
        take(&mut stream, r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{}"}}]}}]}"#);
        take(&mut stream, "[DONE]");
        assert_eq!(stream.seen(ESTIMATE), usage(100, 1));
        assert_eq!(stream.in_band(&[]), None);
    }

    #[test]
    fn an_answer_of_long_words_is_within_what_it_asked_for_and_one_of_twice_that_is_not() {
        let mut stream = Stream::new(Dialect::Chat, false);
        let mut completion_after = |text: String| {
            take(&mut stream, &format!(r#"{{"choices":[{{"delta":{{"content":"{text}"}}}}]}}"#));
            stream.seen(ESTIMATE).completion
        };
        assert_eq!(completion_after("x".repeat(200)), 50);
        assert_eq!(completion_after("x".repeat(200)), 50);
        assert_eq!(completion_after("x".into()), 101);
    }

    #[test]
    fn nonsense_is_passed_on_and_counts_nothing() {
        let mut stream = Stream::new(Dialect::Chat, true);
        for data in ["", "{", "[]", r#"{"choices":7,"usage":{"prompt_tokens":-1}}"#, r#"{"usage":[]}"#] {
            assert!(take(&mut stream, data), "{data}");
        }
        assert_eq!(stream.reported(), None);
        assert_eq!(stream.seen(ESTIMATE), usage(100, 0));
    }
}
