//! Anthropic's messages, `POST /v1/messages`.

use super::{Answers, Api, Requests, latest_of_user, read};
use crate::body::{Fields, present};
use crate::json::{self, quote};
use crate::refusal::ErrorKind;
use crate::splice::Splice;
use crate::tally::Tally;
use alloc::format;
use alloc::string::String;

#[derive(Debug)]
pub(super) struct Messages;

impl Api for Messages {
    fn path(&self) -> &'static str {
        "/v1/messages"
    }
}

impl Requests for Messages {
    fn prompt(&self) -> &'static [&'static str] {
        &["messages", "system", "tools"]
    }

    fn ceilings(&self) -> &'static [&'static str] {
        &["max_tokens"]
    }

    fn tools_off(&self) -> &'static [[&'static str; 3]] {
        &[["tools", "tool_choice", r#"{"type":"none"}"#]]
    }

    /// A block behind the last one: what a cache has of the conversation ends before it.
    fn add_note<'a>(&self, fields: &Fields<'a>, note: &str, splice: &mut Splice<'a>) -> bool {
        let message = fields.messages.and_then(latest_of_user);
        let Some(content) = message.and_then(|message| json::field(message, "content")) else { return false };
        let note = format!(r#"{{"type":"text","text":{}}}"#, quote(note));
        let cache = present(fields.cache_control);
        if json::is_text(content) {
            let cached = cache.map(|cache| format!(r#","cache_control":{cache}"#)).unwrap_or_default();
            splice.replace(content, format!(r#"[{{"type":"text","text":{content}{cached}}},{note}]"#));
        } else if json::is_array(content) {
            if let Some(cache) = cache {
                let mut latest = None;
                let is_whole = json::items(content, &mut |block| latest = Some(block)).is_ok();
                let latest = latest.filter(|block| is_whole && json::is_object(block));
                if let Some(block) = latest.filter(|block| json::field(block, "cache_control").is_none()) {
                    splice.add_field(block, "cache_control", cache);
                }
            }
            splice.push(content, &note);
        } else {
            return false;
        }
        // Of the whole request it means the last block, which is to be cached, and not the note.
        if let Some(cache) = cache {
            splice.replace(cache, "null".into());
        }
        true
    }
}

impl Answers for Messages {
    fn whole(&self, body: &str, tally: &mut Tally) {
        read(body, &["content"], tally);
    }

    fn event(&self, data: &str, tally: &mut Tally) -> bool {
        let Some(kind) = json::field(data, "type").and_then(json::text) else { return false };
        match &*kind {
            "message_start" => {
                let message = json::field(data, "message");
                if let Some(usage) = message.and_then(|message| json::field(message, "usage")) {
                    tally.starts(usage);
                }
            }
            "content_block_delta" => read(data, &["delta"], tally),
            // There may be several, and the last counts, be it behind the one that says why the model stops.
            "message_delta" => {
                read(data, &[], tally);
                let reason = json::field(data, "delta").and_then(|delta| json::field(delta, "stop_reason"));
                if reason.is_some_and(|reason| reason != "null") {
                    tally.stops();
                }
            }
            "error" => tally.fails(),
            "message_stop" => {
                read(data, &[], tally);
                tally.ends();
            }
            _ => {}
        }
        false
    }

    fn error(&self, kind: ErrorKind, message: &str) -> String {
        let (kind, message) = (quote(kind.as_str()), quote(message));
        format!(r#"{{"type":"error","error":{{"type":{kind},"message":{message}}}}}"#)
    }

    fn error_events(&self, kind: ErrorKind, message: &str) -> String {
        format!("event: error\ndata: {}\n\n", self.error(kind, message))
    }
}
