//! Exports of Langfuse: observations, or traces with theirs.

use super::json::{fields, items, moment, name, not_json, text};
use super::{Fields, ReadValue, Record};
use std::collections::VecDeque;
use thread_budget_router_core::usage::Tokens;

pub(super) struct Export;

impl ReadValue for Export {
    fn read(&mut self, value: &str, found: &mut VecDeque<Fields>) -> Result<(), String> {
        let (mut session, mut id, mut observations) = (None, None, None);
        fields(value, &mut |field, value| match field {
            "sessionId" | "session_id" => session = name(value),
            "id" => id = name(value),
            "observations" => observations = Some(value),
            _ => {}
        })
        .map_err(|error| not_json(&error))?;
        let Some(observations) = observations.filter(|all| all.starts_with('[')) else {
            found.extend(observation(value, session.as_deref()));
            return Ok(());
        };
        let session = session.or(id);
        items(observations, &mut |value| found.extend(observation(value, session.as_deref())))
            .map_err(|error| not_json(&error))
    }
}

/// A call of a model; none for spans and events, and for calls that say nothing of what they used.
fn observation(value: &str, session: Option<&str>) -> Option<Fields> {
    let mut record = Record::default();
    let mut thread_id = session.map(str::to_owned);
    let (mut trace, mut is_call, mut details, mut usage) = (None, true, None, None);
    let read = fields(value, &mut |field, value| match field {
        "traceId" | "trace_id" => trace = name(value),
        "sessionId" | "session_id" => thread_id = name(value).or(thread_id.take()),
        "type" => is_call = text(value).is_some_and(|kind| matches!(&*kind, "GENERATION" | "EMBEDDING")),
        "model" | "providedModelName" | "provided_model_name" => {
            record.model = name(value).unwrap_or_default()
        }
        "startTime" | "start_time" => record.at = moment(value),
        "usageDetails" | "usage_details" => details = Some(tokens(value)),
        "usage" => usage = Some(tokens(value)),
        _ => {}
    });
    read.ok().filter(|()| is_call)?;
    let has_any = |tokens: &Tokens| *tokens != Tokens::default();
    record.tokens = details.filter(has_any).or(usage.filter(has_any))?;
    Some(Fields { thread_id: thread_id.or(trace), or_else: None, record })
}

/// Counts whose names say what they are, each beside the others; a total is for what says nothing else.
fn tokens(usage: &str) -> Tokens {
    let (mut tokens, mut total) = (Tokens::default(), 0);
    let _ = fields(usage, &mut |name, value| {
        let Ok(count) = value.parse::<u64>() else { return };
        let name = name.to_ascii_lowercase();
        let has = |part| name.contains(part);
        let place = if has("total") {
            &mut total
        } else if has("cost") {
            return;
        } else if has("output") || has("completion") {
            if has("reasoning") { &mut tokens.reasoning } else { &mut tokens.output }
        } else if has("cache") {
            if has("creation") || has("write") { &mut tokens.cache_write } else { &mut tokens.cached_input }
        } else if has("input") || has("prompt") {
            &mut tokens.input
        } else {
            return;
        };
        *place = place.saturating_add(count);
    });
    if tokens == Tokens::default() { Tokens { input: total, ..tokens } } else { tokens }
}
