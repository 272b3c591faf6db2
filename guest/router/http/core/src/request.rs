//! What a request asks for, and what the router adds to it.

use crate::dialect::Dialect;
use crate::splice::{Splice, quote, starts_with};
use crate::text::{CHARACTERS_PER_TOKEN, characters};
use crate::usage::Usage;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// The least that a prompt is estimated at, in tokens. A rule of the reference system.
const LEAST_ESTIMATE: u64 = 100;

/// Why a body is no request.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    /// It is not UTF-8.
    #[error("the body is not UTF-8: {0}")]
    Encoding(#[from] std::str::Utf8Error),
    /// It is not JSON, or a field that the router reads is not what it should be.
    #[error("the body cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

/// The fields that the router reads; one that is there twice is an error, since a provider might read
/// the other one.
#[derive(Deserialize)]
struct Fields<'a> {
    model: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    messages: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    system: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    instructions: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    input: Option<&'a RawValue>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    n: Option<u64>,
    stream: Option<bool>,
    #[serde(borrow, default, deserialize_with = "present")]
    stream_options: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    metadata: Option<&'a RawValue>,
}

/// A value that is there, be it null.
fn present<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(reader).map(Some)
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    thread_id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct StreamOptions<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    include_usage: Option<&'a RawValue>,
}

/// What tells whether a tool's result is still to come.
#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: Option<String>,
    call_id: Option<String>,
    tool_call_id: Option<String>,
    tool_calls: Option<Vec<ToolCall>>,
}

#[derive(Deserialize)]
struct ToolCall {
    id: Option<String>,
}

/// What a request is held for before it is sent, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// The prompt: a quarter of its characters, at least 100.
    pub prompt: u64,
    /// The most output that the request asks for, of all its choices together; 0 when it does not say.
    pub completion: u64,
}

impl Estimate {
    /// Both together.
    #[must_use]
    pub fn total(self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    /// What half an answer, or one that is not understood, used by its length in bytes.
    #[must_use]
    pub fn by_length(self, bytes: usize) -> Usage {
        Usage { prompt: self.prompt, completion: bytes as u64 / CHARACTERS_PER_TOKEN }
    }

    /// What is charged for a whole answer without usage: this, or what was seen of it when the request did
    /// not say how much output it wants.
    #[must_use]
    pub fn unless_seen(self, seen: Usage) -> Usage {
        let Self { prompt, completion } = self;
        if completion > 0 { Usage { prompt, completion } } else { seen }
    }
}

/// A request, read.
pub struct Request<'a> {
    dialect: Dialect,
    body: &'a str,
    fields: Fields<'a>,
}

impl<'a> Request<'a> {
    /// Read a request's body.
    ///
    /// # Errors
    /// [`BadRequest`].
    pub fn read(dialect: Dialect, body: &'a [u8]) -> Result<Self, BadRequest> {
        let body = std::str::from_utf8(body)?;
        let fields = serde_json::from_str(body)?;
        Ok(Self { dialect, body, fields })
    }

    /// The model asked for; empty when none is named.
    #[must_use]
    pub fn model(&self) -> &str {
        self.fields.model.as_deref().unwrap_or_default()
    }

    /// The thread that the body's `metadata.thread_id` names.
    ///
    /// # Errors
    /// [`BadRequest::Json`] when it is there and no string: a budget must not be lost over a typing error.
    pub fn thread_id(&self) -> Result<Option<String>, BadRequest> {
        let metadata = self.fields.metadata.and_then(|metadata| serde_json::from_str(metadata.get()).ok());
        let Some(Metadata { thread_id: Some(thread_id) }) = metadata else { return Ok(None) };
        Ok(Some(serde_json::from_str(thread_id.get())?))
    }

    /// Whether the answer is to be a stream.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.fields.stream.unwrap_or(false)
    }

    /// Whether a stream's usage has to be asked for in the client's stead.
    #[must_use]
    pub fn lacks_usage(&self) -> bool {
        self.dialect == Dialect::Chat && self.is_stream() && !self.asks_for_usage()
    }

    fn asks_for_usage(&self) -> bool {
        let options = self.fields.stream_options.and_then(|options| serde_json::from_str(options.get()).ok());
        options
            .and_then(|options: StreamOptions<'_>| options.include_usage)
            .is_some_and(|it| it.get() == "true")
    }

    /// What it may use: `max(100, characters / 4)`, and the most output that it asks for.
    #[must_use]
    pub fn estimate(&self) -> Estimate {
        let Fields { messages, system, instructions, input, .. } = self.fields;
        let texts = [messages, system, instructions, input];
        let characters = texts.into_iter().flatten().map(characters).fold(0, u64::saturating_add);
        let Fields { max_tokens, max_completion_tokens, max_output_tokens, n, .. } = self.fields;
        let most = [max_tokens, max_completion_tokens, max_output_tokens].into_iter().flatten().max();
        Estimate {
            prompt: LEAST_ESTIMATE.max(characters / CHARACTERS_PER_TOKEN),
            completion: most.unwrap_or(0).saturating_mul(n.unwrap_or(1).max(1)),
        }
    }

    /// Whether a message can be put at its end: not while the result of a tool is still to come.
    #[must_use]
    pub fn takes_messages(&self) -> bool {
        match self.dialect {
            Dialect::Messages => self.fields.system.is_none_or(|system| {
                starts_with(system, '"') || starts_with(system, '[') || system.get() == "null"
            }),
            Dialect::Chat => self.fields.messages.is_some_and(has_all_results),
            Dialect::Responses => {
                self.fields.input.is_some_and(|input| starts_with(input, '"') || has_all_results(input))
            }
        }
    }

    /// The body with messages for the agent at its end, which [`Request::takes_messages`], and with the
    /// request for usage that it [lacks](Request::lacks_usage).
    #[must_use]
    pub fn body_with(&self, messages: &[String]) -> Cow<'a, [u8]> {
        let mut splice = Splice::new(self.body);
        if !messages.is_empty() {
            self.add_messages(&mut splice, messages);
        } else if !self.lacks_usage() {
            return Cow::Borrowed(self.body.as_bytes());
        }
        if self.lacks_usage() {
            self.ask_for_usage(&mut splice);
        }
        Cow::Owned(splice.finish().into_bytes())
    }

    fn add_messages(&self, splice: &mut Splice<'a>, messages: &[String]) {
        let items: Vec<_> =
            messages.iter().map(|text| format!(r#"{{"role":"system","content":{}}}"#, quote(text))).collect();
        match (self.dialect, self.fields.messages, self.fields.input, self.fields.system) {
            (Dialect::Chat, Some(array), ..) => splice.push(array, &items),
            (Dialect::Responses, _, Some(input), _) if starts_with(input, '[') => splice.push(input, &items),
            (Dialect::Responses, _, Some(input), _) => {
                let user = format!(r#"{{"role":"user","content":{}}}"#, input.get());
                splice.replace(input, format!("[{user},{}]", items.join(",")));
            }
            (Dialect::Messages, _, _, Some(system)) if starts_with(system, '[') => {
                let blocks: Vec<_> = messages
                    .iter()
                    .map(|text| format!(r#"{{"type":"text","text":{}}}"#, quote(text)))
                    .collect();
                splice.push(system, &blocks);
            }
            (Dialect::Messages, _, _, Some(system)) if system.get().len() > 2 && starts_with(system, '"') => {
                splice.extend_string(system, &format!("\n\n{}", messages.join("\n\n")));
            }
            (Dialect::Messages, _, _, Some(system)) => splice.replace(system, quote(&messages.join("\n\n"))),
            (Dialect::Messages, _, _, None) => {
                splice.add_first_field("system", &quote(&messages.join("\n\n")));
            }
            (Dialect::Chat | Dialect::Responses, ..) => {}
        }
    }

    fn ask_for_usage(&self, splice: &mut Splice<'a>) {
        const ASK: &str = r#"{"include_usage":true}"#;
        match self.fields.stream_options {
            None => splice.add_first_field("stream_options", ASK),
            Some(options) if !starts_with(options, '{') => splice.replace(options, ASK.into()),
            Some(options) => {
                let known = serde_json::from_str(options.get()).ok();
                match known.and_then(|known: StreamOptions<'a>| known.include_usage) {
                    Some(value) => splice.replace(value, "true".into()),
                    None => splice.add_field(options, "include_usage", "true"),
                }
            }
        }
    }
}

/// Whether every call of a tool in a conversation is followed by its result.
fn has_all_results(items: &RawValue) -> bool {
    let Ok(items) = serde_json::from_str::<Vec<Item>>(items.get()) else { return false };
    let mut pending = BTreeSet::new();
    for item in items {
        pending.extend(item.tool_calls.into_iter().flatten().filter_map(|call| call.id));
        match (item.kind.as_deref(), item.call_id) {
            (Some(kind), Some(call)) if kind.ends_with("_output") => {
                pending.remove(&call);
            }
            (Some(kind), Some(call)) if kind.ends_with("_call") => {
                pending.insert(call);
            }
            _ => {}
        }
        if let Some(call) = item.tool_call_id {
            pending.remove(&call);
        }
    }
    pending.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(dialect: Dialect, body: &str) -> Request<'_> {
        Request::read(dialect, body.as_bytes()).unwrap()
    }

    fn parsed(body: &[u8]) -> Value {
        serde_json::from_slice(body).unwrap()
    }

    const WARNINGS: [&str; 2] = ["Note: 76% \"used\"", "WARNING: 91%"];

    fn warned(dialect: Dialect, body: &Value) -> Value {
        let body = body.to_string();
        let request = read(dialect, &body);
        assert!(request.takes_messages(), "{body}");
        parsed(&request.body_with(&WARNINGS.map(String::from)))
    }

    #[test]
    fn estimates_follow_the_reference_system() {
        let estimate = |dialect, body: Value| read(dialect, &body.to_string()).estimate();
        let message = |length: usize| json!([{"role": "user", "content": "x".repeat(length)}]);
        let at_least = Estimate { prompt: 100, completion: 0 };
        assert_eq!(estimate(Dialect::Chat, json!({"messages": []})), at_least);
        assert_eq!(estimate(Dialect::Chat, json!({"messages": message(403)})), at_least);
        assert_eq!(
            estimate(Dialect::Chat, json!({"messages": message(404), "max_tokens": 50})),
            Estimate { prompt: 101, completion: 50 }
        );
        assert_eq!(
            estimate(
                Dialect::Chat,
                json!({"messages": message(4_000), "max_tokens": 5, "max_completion_tokens": 70, "n": 3})
            ),
            Estimate { prompt: 1_000, completion: 210 }
        );
        assert_eq!(
            estimate(
                Dialect::Messages,
                json!({"system": "s".repeat(400), "messages": message(400), "max_tokens": 9})
            ),
            Estimate { prompt: 200, completion: 9 }
        );
        assert_eq!(
            estimate(
                Dialect::Responses,
                json!({"instructions": "s".repeat(400), "input": "i".repeat(400), "max_output_tokens": 9})
            ),
            Estimate { prompt: 200, completion: 9 }
        );
        let most = json!({"messages": [], "max_tokens": u64::MAX, "n": 2});
        assert_eq!(estimate(Dialect::Chat, most).total(), u64::MAX);
    }

    #[test]
    fn a_request_that_needs_nothing_is_passed_on_as_it_is() {
        let body =
            r#" {"model":"m", "messages":[], "temperature":1.0, "big":123456789012345678901234567890 } "#;
        let request = read(Dialect::Chat, body);
        assert!(matches!(request.body_with(&[]), Cow::Borrowed(same) if same == body.as_bytes()));
    }

    #[test]
    fn warnings_are_the_last_messages_of_a_chat() {
        let user = json!({"role": "user", "content": "hi"});
        let systems = WARNINGS.map(|text| json!({"role": "system", "content": text}));
        assert_eq!(
            warned(Dialect::Chat, &json!({"messages": [user], "model": "m"})),
            json!({"messages": [user, systems[0], systems[1]], "model": "m"})
        );
        assert_eq!(
            warned(Dialect::Responses, &json!({"input": "hi"})),
            json!({"input": [user, systems[0], systems[1]]})
        );
        assert_eq!(
            warned(Dialect::Responses, &json!({"input": [user]})),
            json!({"input": [user, systems[0], systems[1]]})
        );
    }

    #[test]
    fn warnings_end_the_system_prompt_of_anthropic() {
        let text = WARNINGS.join("\n\n");
        let messages = json!([{"role": "user", "content": "hi"}]);
        let system = |system: Value| {
            warned(Dialect::Messages, &json!({"system": system, "messages": messages}))["system"].clone()
        };
        assert_eq!(system(json!("Be brief.")), json!(format!("Be brief.\n\n{text}")));
        assert_eq!(system(json!("")), json!(text));
        assert_eq!(system(json!(null)), json!(text));
        let blocks = WARNINGS.map(|text| json!({"type": "text", "text": text}));
        assert_eq!(system(json!([])), json!(blocks));
        let first = json!({"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}});
        assert_eq!(system(json!([first])), json!([first, blocks[0], blocks[1]]));
        assert_eq!(
            warned(Dialect::Messages, &json!({"messages": messages})),
            json!({"system": text, "messages": messages})
        );
    }

    #[test]
    fn nothing_comes_between_a_tool_call_and_its_result() {
        let chat = |messages: Value| {
            read(Dialect::Chat, &json!({"messages": messages}).to_string()).takes_messages()
        };
        let call = json!({"role": "assistant", "content": null, "tool_calls": [{"id": "a", "type": "function"}, {"id": "b"}]});
        let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "x"});
        assert!(!chat(json!([call])));
        assert!(!chat(json!([call, result("b")])));
        assert!(chat(json!([call, result("b"), result("a")])));
        assert!(!chat(json!([call, result("b"), result("a"), call])));
        assert!(!chat(json!({"not": "messages"})));

        let responses =
            |input: Value| read(Dialect::Responses, &json!({"input": input}).to_string()).takes_messages();
        let call = json!({"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"});
        let result = json!({"type": "function_call_output", "call_id": "a", "output": "x"});
        assert!(!responses(json!([call])));
        assert!(responses(json!([call, result])));
        assert!(responses(json!([result])), "its call is in an earlier response");
        assert!(!responses(json!(null)));
    }

    #[test]
    fn usage_is_asked_for_where_the_client_has_not() {
        let asked = |options: Option<Value>| {
            let mut body = json!({"messages": [], "stream": true});
            if let Some(options) = options {
                body["stream_options"] = options;
            }
            let body = body.to_string();
            let request = read(Dialect::Chat, &body);
            (request.lacks_usage(), parsed(&request.body_with(&[]))["stream_options"].clone())
        };
        let usage = json!({"include_usage": true});
        assert_eq!(asked(None), (true, usage.clone()));
        assert_eq!(asked(Some(json!(null))), (true, usage.clone()));
        assert_eq!(asked(Some(json!({}))), (true, usage.clone()));
        assert_eq!(asked(Some(json!({"include_usage": false}))), (true, usage.clone()));
        assert_eq!(asked(Some(json!({"include_usage": null}))), (true, usage.clone()));
        assert_eq!(asked(Some(json!({"x": 1}))), (true, json!({"include_usage": true, "x": 1})));
        assert_eq!(asked(Some(usage.clone())), (false, usage));
        assert!(!read(Dialect::Chat, r#"{"messages":[]}"#).lacks_usage());
        assert!(!read(Dialect::Messages, r#"{"messages":[],"stream":true}"#).lacks_usage());
    }

    #[test]
    fn a_thread_can_be_named_in_the_body() {
        let thread = |body: &str| read(Dialect::Chat, body).thread_id().ok();
        assert_eq!(thread(r#"{"metadata":{"thread_id":"agent-7"}}"#), Some(Some("agent-7".into())));
        assert_eq!(thread(r#"{"metadata":{"other":1}}"#), Some(None));
        assert_eq!(thread(r#"{"metadata":null}"#), Some(None));
        assert_eq!(thread("{}"), Some(None));
        assert_eq!(thread(r#"{"metadata":{"thread_id":7}}"#), None);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_request() {
        for body in [
            "",
            "[]",
            "{",
            r#"{"messages":[],"messages":[]}"#,
            r#"{"max_tokens":1,"max_tokens":100}"#,
            r#"{"max_tokens":-1}"#,
            r#"{"max_tokens":1.5}"#,
            r#"{"n":"2"}"#,
            r#"{"stream":"true"}"#,
            r#"{"messages":[]} {}"#,
        ] {
            assert!(Request::read(Dialect::Chat, body.as_bytes()).is_err(), "{body}");
        }
        assert!(matches!(
            Request::read(Dialect::Chat, b"{\"model\":\"\xff\"}"),
            Err(BadRequest::Encoding(_))
        ));
    }
}
