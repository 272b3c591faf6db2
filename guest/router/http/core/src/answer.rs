//! Warnings at the end of an answer that is not a stream.

use crate::dialect::Dialect;
use crate::splice::{Splice, quote, starts_with};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// An answer with a place for text at its end.
pub struct Answer<'a> {
    body: &'a str,
    place: Place<'a>,
}

enum Place<'a> {
    /// At the end of this text.
    Text(&'a RawValue),
    /// A block at the end of this list.
    Blocks(&'a RawValue),
}

#[derive(Deserialize)]
struct Chat<'a> {
    #[serde(borrow)]
    choices: Vec<Choice<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    message: Message<'a>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    tool_calls: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
struct Messages<'a> {
    #[serde(borrow)]
    content: &'a RawValue,
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct Responses<'a> {
    #[serde(borrow)]
    output: Vec<Item<'a>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    content: Option<Vec<Part<'a>>>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

impl<'a> Answer<'a> {
    /// Find the place; none in an answer that calls tools, which has no reader, or that is none.
    #[must_use]
    pub fn read(dialect: Dialect, body: &'a [u8]) -> Option<Self> {
        let body = std::str::from_utf8(body).ok()?;
        let place = match dialect {
            Dialect::Chat => {
                let chat: Chat<'a> = serde_json::from_str(body).ok()?;
                let Message { content, tool_calls } = chat.choices.into_iter().next()?.message;
                let text = content.filter(|content| starts_with(content, '"'))?;
                tool_calls.is_none_or(|calls| calls.is_empty()).then_some(Place::Text(text))?
            }
            Dialect::Messages => {
                let messages: Messages<'a> = serde_json::from_str(body).ok()?;
                let calls_tools = messages.stop_reason.is_some_and(|reason| reason == "tool_use");
                (!calls_tools && starts_with(messages.content, '['))
                    .then_some(Place::Blocks(messages.content))?
            }
            Dialect::Responses => {
                let responses: Responses<'a> = serde_json::from_str(body).ok()?;
                if responses.output.iter().any(|item| item.kind.ends_with("_call")) {
                    return None;
                }
                let message = responses.output.into_iter().rfind(|item| item.kind == "message")?;
                let text = message.content?.into_iter().next_back()?.text?;
                starts_with(text, '"').then_some(Place::Text(text))?
            }
        };
        Some(Self { body, place })
    }

    /// The body with these messages at the end of the answer.
    #[must_use]
    pub fn with(&self, messages: &[String]) -> String {
        let mut splice = Splice::new(self.body);
        match self.place {
            Place::Text(text) => splice.extend_string(text, &format!("\n\n{}", messages.join("\n\n"))),
            Place::Blocks(blocks) => {
                let block = |text: &String| format!(r#"{{"type":"text","text":{}}}"#, quote(text));
                splice.push(blocks, &messages.iter().map(block).collect::<Vec<_>>());
            }
        }
        splice.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(dialect: Dialect, body: &str) -> Option<String> {
        Some(Answer::read(dialect, body.as_bytes())?.with(&["Note: 76%".into(), "WARNING".into()]))
    }

    #[test]
    fn text_gets_longer() {
        assert_eq!(
            with(Dialect::Chat, r#"{"choices":[{"message":{"content":"Done.","tool_calls":[]}}]}"#).unwrap(),
            r#"{"choices":[{"message":{"content":"Done.\n\nNote: 76%\n\nWARNING","tool_calls":[]}}]}"#
        );
        assert_eq!(
            with(
                Dialect::Messages,
                r#"{"content":[{"type":"text","text":"Done."}],"stop_reason":"end_turn"}"#
            )
            .unwrap(),
            r#"{"content":[{"type":"text","text":"Done."},{"type":"text","text":"Note: 76%"},{"type":"text","text":"WARNING"}],"stop_reason":"end_turn"}"#
        );
        assert_eq!(
            with(Dialect::Responses, r#"{"output":[{"type":"reasoning"},{"type":"message","content":[{"type":"output_text","text":"Done."}]}]}"#).unwrap(),
            r#"{"output":[{"type":"reasoning"},{"type":"message","content":[{"type":"output_text","text":"Done.\n\nNote: 76%\n\nWARNING"}]}]}"#
        );
    }

    #[test]
    fn answers_that_call_tools_stay_as_they_are() {
        for (dialect, body) in [
            (Dialect::Chat, r#"{"choices":[{"message":{"content":"a","tool_calls":[{"id":"c"}]}}]}"#),
            (Dialect::Chat, r#"{"choices":[{"message":{"content":null}}]}"#),
            (Dialect::Chat, r#"{"choices":[]}"#),
            (Dialect::Messages, r#"{"content":[{"type":"tool_use"}],"stop_reason":"tool_use"}"#),
            (
                Dialect::Responses,
                r#"{"output":[{"type":"function_call"},{"type":"message","content":[{"text":"a"}]}]}"#,
            ),
            (Dialect::Responses, "nonsense"),
        ] {
            assert_eq!(with(dialect, body), None, "{body}");
        }
    }
}
