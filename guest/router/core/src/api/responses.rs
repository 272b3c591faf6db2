//! OpenAI's responses, `POST /v1/responses`, and their compaction, `POST /v1/responses/compact`.

use super::{Answers, Api, Requests, read};
use crate::body::Fields;
use crate::json::{self, quote};
use crate::refusal::ErrorKind;
use crate::splice::Splice;
use crate::tally::Tally;
use alloc::format;
use alloc::string::String;

#[derive(Debug)]
pub(super) struct Responses;

impl Api for Responses {
    fn path(&self) -> &'static str {
        "/v1/responses"
    }
}

impl Requests for Responses {
    fn prompt(&self) -> &'static [&'static str] {
        &["input", "instructions", "tools", "text"]
    }

    fn ceilings(&self) -> &'static [&'static str] {
        &["max_output_tokens"]
    }

    fn tools_off(&self) -> &'static [[&'static str; 3]] {
        &[["tools", "tool_choice", r#""none""#]]
    }

    fn add_note<'a>(&self, fields: &Fields<'a>, note: &str, splice: &mut Splice<'a>) -> bool {
        let Some(input) = fields.input else { return false };
        if json::is_text(input) {
            splice.extend_string(input, &format!("\n\n{note}"));
            return true;
        }
        let mut latest = None;
        if json::items(input, &mut |item| latest = Some(item)).is_err() || !latest.is_some_and(takes_an_item)
        {
            return false;
        }
        let content = format!(r#"[{{"type":"input_text","text":{}}}]"#, quote(note));
        splice.push(input, &format!(r#"{{"type":"message","role":"user","content":{content}}}"#));
        true
    }
}

/// Whether an item may follow this one: a message to the model, or the result of a call. A call is followed
/// by its result, and what the model has begun by what it goes on with.
fn takes_an_item(item: &str) -> bool {
    let text = |name| json::field(item, name).and_then(json::text);
    match text("type").as_deref() {
        None | Some("message") => text("role").is_some_and(|role| role != "assistant"),
        Some(kind) => kind.ends_with("_output") || kind.ends_with("_response"),
    }
}

impl Answers for Responses {
    fn whole(&self, body: &str, tally: &mut Tally) {
        read(body, &["output"], tally);
    }

    fn event(&self, data: &str, tally: &mut Tally) -> bool {
        let Some(kind) = json::field(data, "type").and_then(json::text) else { return false };
        match &*kind {
            "response.created" | "response.queued" => {
                let id = json::field(data, "response").and_then(|response| json::field(response, "id"));
                if let Some(id) = id.and_then(json::text) {
                    tally.names(&id);
                }
            }
            "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" => {
                if let Some(response) = json::field(data, "response") {
                    read(response, &[], tally);
                }
                tally.ends();
            }
            "error" => tally.fails(),
            kind if kind.ends_with(".delta") => read(data, &["delta"], tally),
            _ => {}
        }
        false
    }

    fn error_events(&self, kind: ErrorKind, message: &str) -> String {
        let (kind, message) = (quote(kind.as_str()), quote(message));
        format!(
            "event: error\ndata: {{\"type\":\"error\",\"code\":{kind},\"message\":{message},\"param\":null}}\n\n"
        )
    }
}

/// A conversation is made shorter: what would be put into it would stay in it.
#[derive(Debug)]
pub(super) struct Compact;

impl Api for Compact {
    fn path(&self) -> &'static str {
        "/v1/responses/compact"
    }
}

impl Requests for Compact {
    fn prompt(&self) -> &'static [&'static str] {
        &["input", "instructions"]
    }

    fn ceilings(&self) -> &'static [&'static str] {
        &[]
    }
}

impl Answers for Compact {
    fn whole(&self, body: &str, tally: &mut Tally) {
        Responses.whole(body, tally);
    }

    fn event(&self, data: &str, tally: &mut Tally) -> bool {
        Responses.event(data, tally)
    }
}
