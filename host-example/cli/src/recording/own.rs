//! The format of our own: an object for each call.

use super::json::{count, excerpt, moment, name, object, thread};
use super::{Fields, ReadValue, Record};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use thread_budget_router_core::usage::Tokens;

/// What an object of this format, or an answer, may hold, as it is written there.
#[derive(Deserialize)]
pub(super) struct JsonRecord<'a> {
    #[serde(borrow)]
    pub(super) thread_id: Option<&'a RawValue>,
    #[serde(borrow)]
    parent: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) conversation: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp_ms: Option<&'a RawValue>,
}

impl JsonRecord<'_> {
    /// What it says beside its thread and what was used.
    pub(super) fn record(&self) -> Result<Record, String> {
        let at = self.timestamp.or(self.timestamp_ms);
        Ok(Record {
            parent: thread(self.parent.map(RawValue::get), "parent")?,
            model: self.model.and_then(|model| name(model.get())).unwrap_or_default(),
            at: at.and_then(|at| moment(at.get())),
            ..Record::default()
        })
    }
}

pub(super) struct Own;

impl ReadValue for Own {
    fn read(&mut self, value: &str, found: &mut VecDeque<Fields>) -> Result<(), String> {
        let record: JsonRecord<'_> = object(value)?;
        let get = RawValue::get;
        let thread_id = thread(record.thread_id.map(get), "thread_id")?;
        let tokens = Tokens {
            input: count(record.prompt_tokens.map(get), "prompt_tokens")?,
            output: count(record.completion_tokens.map(get), "completion_tokens")?,
            ..Tokens::default()
        };
        let record = Record { tokens, ..record.record()? };
        found.push_back(Fields { thread_id, or_else: None, record });
        Ok(())
    }
}

/// The value as an object of that kind, if it is one.
pub(super) fn as_object<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    let is_object = value.get().starts_with('{');
    is_object.then(|| serde_json::from_str(value.get()).ok()).flatten()
}

/// As much of a value as a message can show.
pub(super) fn shown(value: &RawValue) -> String {
    excerpt(value.get())
}
