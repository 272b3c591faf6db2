//! Messages of OpenCode, which keeps its sessions in a database.

use super::json::{field, fields, moment, name, text};
use super::{Identity, Record};
use thread_budget_router_core::usage::Tokens;

/// The answer in a message's data; none for what a user said, and for an answer that used nothing.
#[must_use]
pub fn answer(id: &str, session: &str, parent: Option<&str>, data: &str) -> Option<Record> {
    let mut record = Record {
        thread_id: session.into(),
        parent: parent.filter(|parent| *parent != session).map(Into::into),
        identity: Identity::of(id),
        ..Record::default()
    };
    let mut is_answer = false;
    fields(data, &mut |name_of, value| match name_of {
        "role" => is_answer = text(value).as_deref() == Some("assistant"),
        "tokens" => record.tokens = tokens(value),
        "modelID" => record.model = name(value).unwrap_or_default(),
        "time" => record.at = field(value, "created").and_then(moment),
        "path" => record.project = field(value, "cwd").and_then(name),
        _ => {}
    })
    .ok()?;
    (is_answer && record.tokens != Tokens::default()).then_some(record)
}

/// Each kind stands beside the others.
fn tokens(usage: &str) -> Tokens {
    let count = |value: Option<&str>| value.and_then(|value| value.parse().ok()).unwrap_or(0);
    let of_cache = |name| count(field(usage, "cache").and_then(|cache| field(cache, name)));
    Tokens {
        input: count(field(usage, "input")),
        cached_input: of_cache("read"),
        cache_write: of_cache("write"),
        output: count(field(usage, "output")),
        reasoning: count(field(usage, "reasoning")),
    }
}
