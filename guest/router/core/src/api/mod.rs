//! The APIs that cost tokens, a file each: where their requests say what, and how their answers say it.

mod chat;
mod completions;
mod embeddings;
mod messages;
mod responses;

use crate::body::{BadRequest, Fields};
use crate::json::{self, quote};
use crate::refusal::ErrorKind;
use crate::splice::Splice;
use crate::tally::Tally;
use alloc::format;
use alloc::string::String;
use core::fmt::Debug;

/// An API.
pub(crate) trait Api: Requests + Answers + Debug + Sync {
    /// The path of its calls, which are all `POST`.
    fn path(&self) -> &'static str;
}

/// What its requests say, and where something can be put into them.
pub(crate) trait Requests {
    /// The fields that the model reads.
    fn prompt(&self) -> &'static [&'static str];

    /// The fields that say how much output an answer may have. Where a client gives none of them, the first is
    /// added, or the next where a provider refuses that. Empty where it cannot be said.
    fn ceilings(&self) -> &'static [&'static str];

    /// Whether an answer has output.
    fn has_output(&self) -> bool {
        true
    }

    /// How many answers are asked for.
    fn choices(&self, _: &Fields<'_>) -> Result<u64, BadRequest> {
        Ok(1)
    }

    /// Whether a stream says what it used only when it is asked to, by `stream_options`.
    fn must_ask_for_usage(&self) -> bool {
        false
    }

    /// What takes the tools away from the model and leaves them in the prompt: where the first of these fields
    /// is there, the second is set to the third.
    fn tools_off(&self) -> &'static [[&'static str; 3]] {
        &[]
    }

    /// Put a note at the end of the conversation; false where there is no place for it that leaves the
    /// conversation a valid one.
    fn add_note<'a>(&self, _: &Fields<'a>, _note: &str, _: &mut Splice<'a>) -> bool {
        false
    }
}

/// How its answers say what they used and how they ended, and what its clients take for an error.
pub(crate) trait Answers {
    /// Read an answer that is no stream.
    fn whole(&self, body: &str, tally: &mut Tally) {
        read(body, &["choices"], tally);
    }

    /// Read an event of a stream; true when it carries the usage and nothing else.
    fn event(&self, data: &str, tally: &mut Tally) -> bool;

    /// The body of a response that is an error.
    fn error(&self, kind: ErrorKind, message: &str) -> String {
        let (kind, message) = (quote(kind.as_str()), quote(message));
        format!(r#"{{"error":{{"message":{message},"type":{kind},"param":null,"code":{kind}}}}}"#)
    }

    /// The events that end a stream early.
    fn error_events(&self, kind: ErrorKind, message: &str) -> String {
        format!("data: {}\n\ndata: [DONE]\n\n", self.error(kind, message))
    }
}

/// Which API a path belongs to. Providers may be lenient about a path, so this is too: a budget must not
/// depend on its spelling.
pub(crate) fn of(path: &str) -> Option<&'static dyn Api> {
    const ALL: [&dyn Api; 6] = [
        &chat::Chat,
        &completions::Completions,
        &embeddings::Embeddings,
        &responses::Responses,
        &responses::Compact,
        &messages::Messages,
    ];
    let path = path.trim_end_matches('/');
    ALL.into_iter().find(|api| path.eq_ignore_ascii_case(api.path()))
}

/// The API whose responses can be asked for again.
pub(crate) fn responses() -> &'static dyn Api {
    &responses::Responses
}

/// The API that an error is written for where no API costs anything.
pub(crate) fn of_client(is_anthropic: bool) -> &'static dyn Api {
    if is_anthropic { &messages::Messages } else { &chat::Chat }
}

/// Read an answer or an event: what it says of usage and errors, and these fields, which hold what the model
/// wrote.
fn read(object: &str, written: &[&str], tally: &mut Tally) {
    // What comes before an error in it can be read all the same.
    let _ = json::fields(object, &mut |name, value| {
        tally.reads(name, value);
        if written.contains(&name) {
            tally.writes(value);
        }
    });
}

/// Put a note at the end of a message's content, be it text or a list of parts.
fn extend_content<'a>(content: &'a str, note: &str, splice: &mut Splice<'a>) -> bool {
    if json::is_text(content) {
        splice.extend_string(content, &format!("\n\n{note}"));
        return true;
    }
    if json::is_array(content) {
        splice.push(content, &format!(r#"{{"type":"text","text":{}}}"#, quote(note)));
        return true;
    }
    false
}

/// The latest message of the user, or result of a tool, that nothing of the model follows.
fn latest_of_user(messages: &str) -> Option<&str> {
    let mut latest = None;
    json::items(messages, &mut |message| {
        match json::field(message, "role").and_then(json::text).as_deref() {
            Some("user" | "tool" | "function") => latest = Some(message),
            // What instructs the model in between changes nothing.
            Some("system" | "developer") => {}
            _ => latest = None,
        }
    })
    .ok()?;
    latest
}
