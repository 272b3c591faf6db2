//! OpenAI's chat completions, `POST /v1/chat/completions`.

use super::{Answers, Api, Requests, extend_content, latest_of_user};
use crate::body::{BadRequest, Fields, number};
use crate::json;
use crate::splice::Splice;
use crate::tally::Tally;

#[derive(Debug)]
pub(super) struct Chat;

impl Api for Chat {
    fn path(&self) -> &'static str {
        "/v1/chat/completions"
    }
}

impl Requests for Chat {
    fn prompt(&self) -> &'static [&'static str] {
        &["messages", "tools", "functions", "response_format"]
    }

    fn ceilings(&self) -> &'static [&'static str] {
        // OpenAI's own models refuse the older name, and other providers the newer one.
        &["max_completion_tokens", "max_tokens"]
    }

    fn choices(&self, fields: &Fields<'_>) -> Result<u64, BadRequest> {
        Ok(number("n", fields.n)?.unwrap_or(1).max(1))
    }

    fn must_ask_for_usage(&self) -> bool {
        true
    }

    fn tools_off(&self) -> &'static [[&'static str; 3]] {
        &[["tools", "tool_choice", r#""none""#], ["functions", "function_call", r#""none""#]]
    }

    fn add_note<'a>(&self, fields: &Fields<'a>, note: &str, splice: &mut Splice<'a>) -> bool {
        let message = fields.messages.and_then(latest_of_user);
        let content = message.and_then(|message| json::field(message, "content"));
        content.is_some_and(|content| extend_content(content, note, splice))
    }
}

impl Answers for Chat {
    fn event(&self, data: &str, tally: &mut Tally) -> bool {
        event(data, tally)
    }
}

/// Read a chunk, also of a completion.
pub(super) fn event(data: &str, tally: &mut Tally) -> bool {
    if data.trim() == "[DONE]" {
        tally.ends();
        return false;
    }
    let (mut has_choices, mut has_usage) = (false, false);
    let _ = json::fields(data, &mut |name, value| {
        tally.reads(name, value);
        match name {
            "choices" => {
                has_choices = !json::is_empty_array(value);
                tally.writes(value);
            }
            "usage" => has_usage = json::is_object(value),
            _ => {}
        }
    });
    if has_usage && !has_choices {
        tally.stops();
    }
    has_usage && !has_choices
}
