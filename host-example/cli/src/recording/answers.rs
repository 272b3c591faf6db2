//! Answers as OpenAI and Anthropic give them, one by one or as the results of a batch.

use super::json::{count, field, object, thread};
use super::own::{JsonRecord, as_object, shown};
use super::{Fields, ReadValue, Record};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use thread_budget_router_core::usage::{Report, Tokens};

pub(super) struct Answers;

/// A line of a batch's results: of OpenAI with a response, of Anthropic with a result.
#[derive(Deserialize)]
struct BatchLine<'a> {
    #[serde(borrow)]
    custom_id: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

/// An object that may name the thread.
#[derive(Deserialize)]
struct JsonThread<'a> {
    #[serde(borrow)]
    thread_id: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

const EXPECTED: &str = "expected an object with prompt_tokens and completion_tokens";

impl ReadValue for Answers {
    fn read(&mut self, value: &str, found: &mut VecDeque<Fields>) -> Result<(), String> {
        let record: JsonRecord<'_> = object(value)?;
        if record.usage.is_none() {
            let line: BatchLine<'_> = object(value)?;
            if line.custom_id.is_some() {
                return read_result(&line, found);
            }
        }
        let thread_id = named_thread(&record)?;
        let tokens = used(value, record.usage)?;
        let record = Record { tokens, ..record.record()? };
        found.push_back(Fields { thread_id, or_else: None, record });
        Ok(())
    }
}

/// What failed, was cancelled or came too late has used nothing that is billed.
fn read_result(line: &BatchLine<'_>, found: &mut VecDeque<Fields>) -> Result<(), String> {
    let body = line.response.and_then(|response| field(response.get(), "body"));
    let message = line.result.and_then(|result| field(result.get(), "message"));
    let Some(answer) = body.or(message).filter(|answer| field(answer, "usage").is_some()) else {
        return Ok(());
    };
    let record: JsonRecord<'_> = object(answer)?;
    let fields = Fields {
        thread_id: named_thread(&record)?,
        or_else: thread(line.custom_id.map(RawValue::get), "custom_id")?,
        record: Record { tokens: used(answer, record.usage)?, ..record.record()? },
    };
    found.push_back(fields);
    Ok(())
}

/// What an answer says that it used.
fn used(answer: &str, usage: Option<&RawValue>) -> Result<Tokens, String> {
    let mut report = Report::default();
    report.read(answer);
    let undivided = report.undivided();
    if report.is_whole() || undivided > 0 {
        return Ok(if undivided > 0 {
            Tokens { input: undivided, ..Tokens::default() }
        } else {
            report.tokens()
        });
    }
    let usage = usage.ok_or_else(|| format!("no usage, {EXPECTED}"))?;
    if !usage.get().starts_with('{') {
        return Err(format!("usage is {}, {EXPECTED}", shown(usage)));
    }
    // An embedding has no completion, and a total that says so.
    if report.tokens().prompt() > 0 && field(usage.get(), "total_tokens").is_some() {
        return Ok(report.tokens());
    }
    let names = match field(usage.get(), "input_tokens") {
        Some(_) => ["input_tokens", "output_tokens"],
        None => ["prompt_tokens", "completion_tokens"],
    };
    for name in names {
        count(field(usage.get(), name), &format!("usage.{name}"))?;
    }
    Ok(report.tokens())
}

fn named_thread(record: &JsonRecord<'_>) -> Result<Option<String>, String> {
    let get = RawValue::get;
    if record.thread_id.is_some() {
        return thread(record.thread_id.map(get), "thread_id");
    }
    let named_in = |value: Option<_>| value.and_then(as_object::<JsonThread<'_>>);
    if let Some(thread_id) = named_in(record.metadata).and_then(|metadata| metadata.thread_id) {
        return thread(Some(thread_id.get()), "metadata.thread_id");
    }
    // The Responses API answers with an object, its requests may hold the id alone.
    match named_in(record.conversation) {
        Some(conversation) => thread(conversation.id.map(get), "conversation.id"),
        None => thread(record.conversation.map(get), "conversation"),
    }
}
