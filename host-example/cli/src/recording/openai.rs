//! Lines of responses as OpenAI and Anthropic give them.

use super::Fields;
use super::jsonl::{JsonRecord, count, excerpt, thread};
use serde::Deserialize;
use serde_json::value::RawValue;

/// What a provider reports. The Responses API and Anthropic say input and output, Chat Completions
/// prompt and completion.
#[derive(Deserialize)]
struct JsonUsage<'a> {
    #[serde(borrow)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens: Option<&'a RawValue>,
}

/// An object that may name the thread.
#[derive(Deserialize)]
struct JsonThread<'a> {
    #[serde(borrow)]
    thread_id: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

pub(super) fn record(record: JsonRecord<'_>) -> Result<Fields, String> {
    const EXPECTED: &str = "expected an object with prompt_tokens and completion_tokens";
    let usage = record.usage.ok_or_else(|| format!("no usage, {EXPECTED}"))?;
    let counts: JsonUsage<'_> =
        object(usage).ok_or_else(|| format!("usage is {}, {EXPECTED}", excerpt(usage)))?;
    let (prompt, completion) = if counts.input_tokens.is_some() {
        ((counts.input_tokens, "usage.input_tokens"), (counts.output_tokens, "usage.output_tokens"))
    } else {
        ((counts.prompt_tokens, "usage.prompt_tokens"), (counts.completion_tokens, "usage.completion_tokens"))
    };
    Ok(Fields {
        thread_id: named_thread(&record)?,
        prompt_tokens: count(prompt.0, prompt.1)?,
        completion_tokens: count(completion.0, completion.1)?,
    })
}

fn named_thread(record: &JsonRecord<'_>) -> Result<Option<String>, String> {
    if record.thread_id.is_some() {
        return thread(record.thread_id, "thread_id");
    }
    let named_in = |value: Option<_>| value.and_then(object::<JsonThread<'_>>);
    if let Some(thread_id) = named_in(record.metadata).and_then(|metadata| metadata.thread_id) {
        return thread(Some(thread_id), "metadata.thread_id");
    }
    // The Responses API answers with an object, its requests may hold the id alone.
    match named_in(record.conversation) {
        Some(conversation) => thread(conversation.id, "conversation.id"),
        None => thread(record.conversation, "conversation"),
    }
}

/// The value as an object of that kind, if it is one.
fn object<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    let is_object = value.get().starts_with('{');
    is_object.then(|| serde_json::from_str(value.get()).ok()).flatten()
}
