//! LiteLLM's spend log: a row for each request.

use super::json::{count, excerpt, field, fields, moment, name, not_json, text, thread};
use super::{Fields, ReadValue, Record};
use std::collections::VecDeque;
use thread_budget_router_core::usage::{Report, Tokens};

pub(super) struct SpendLog;

impl ReadValue for SpendLog {
    fn read(&mut self, value: &str, found: &mut VecDeque<Fields>) -> Result<(), String> {
        let mut record = Record::default();
        let (mut session, mut metadata) = (None, None);
        let mut counts = [None; 2];
        fields(value, &mut |field, value| match field {
            "session_id" => session = Some(value),
            "prompt_tokens" => counts[0] = Some(value),
            "completion_tokens" => counts[1] = Some(value),
            "model" => record.model = name(value).unwrap_or_default(),
            "startTime" => record.at = moment(value),
            "metadata" => metadata = Some(value),
            _ => {}
        })
        .map_err(|error| not_json(&error))?;
        let [prompt, completion] = ["prompt_tokens", "completion_tokens"];
        count(counts[0], prompt)?;
        count(counts[1], completion)?;
        // In a file the metadata is an object, in an export of the database its text.
        let inner = metadata.and_then(text);
        record.tokens = used(value, inner.as_deref().or(metadata));
        let thread_id = thread(session, "session_id")?.filter(|id| !id.is_empty());
        if thread_id.is_none() && session.is_some_and(|value| value != "null" && value != "\"\"") {
            return Err(format!("session_id is {}, expected a string", excerpt(session.unwrap_or_default())));
        }
        found.push_back(Fields { thread_id, or_else: None, record });
        Ok(())
    }
}

/// What a row says that it used; its metadata tells the kinds of tokens apart.
pub(super) fn used(row: &str, metadata: Option<&str>) -> Tokens {
    let mut report = Report::default();
    report.read_usage(row);
    if let Some(usage) = metadata.and_then(|metadata| field(metadata, "usage_object")) {
        report.read_usage(usage);
    }
    report.tokens()
}
