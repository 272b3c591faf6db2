//! Spans of the OpenTelemetry protocol as JSON, with the attributes of the conventions for generative AI.

use super::json::{field, fields, items, name, not_json, text};
use super::{Fields, ReadValue, Record, time::Moment};
use std::collections::VecDeque;
use thread_budget_router_core::usage::{Report, Tokens};

pub(super) struct Export;

impl ReadValue for Export {
    fn read(&mut self, value: &str, found: &mut VecDeque<Fields>) -> Result<(), String> {
        let either = |object, names: [&str; 2]| names.iter().find_map(|name| field(object, name));
        let mut resources = None;
        fields(value, &mut |field, value| {
            if matches!(field, "resourceSpans" | "resource_spans") {
                resources = Some(value);
            }
        })
        .map_err(|error| not_json(&error))?;
        let resources = resources.ok_or("no resourceSpans, expected a list")?;
        let mut problem = Ok(());
        let read = items(resources, &mut |resource| {
            let Some(scopes) = either(resource, ["scopeSpans", "scope_spans"]) else { return };
            let _ = items(scopes, &mut |scope| {
                let Some(spans) = field(scope, "spans") else { return };
                let _ = items(spans, &mut |span| match read_span(span) {
                    Ok(fields) => found.extend(fields),
                    Err(why) => problem = Err(why),
                });
            });
        });
        read.map_err(|error| not_json(&error)).and(problem)
    }
}

/// A call of a model; none for other spans. What an agent's or a tool's span sums up is in those of its calls.
fn read_span(span: &str) -> Result<Option<Fields>, String> {
    let (mut trace, mut attributes) = (None, None);
    let mut record = Record::default();
    fields(span, &mut |field, value| match field {
        "traceId" | "trace_id" => trace = name(value),
        "startTimeUnixNano" | "start_time_unix_nano" => {
            let nanoseconds = text(value).map_or_else(|| value.parse(), |text| text.parse::<i64>());
            record.at =
                nanoseconds.ok().map(|nanoseconds| Moment::from_milliseconds(nanoseconds / 1_000_000));
        }
        "attributes" => attributes = Some(value),
        _ => {}
    })
    .map_err(|error| not_json(&error))?;

    let (mut conversation, mut session) = (None, None);
    let (mut is_summary, mut usage) = (false, String::new());
    let _ = items(attributes.unwrap_or("[]"), &mut |attribute| {
        let (Some(key), Some(value)) = (field(attribute, "key").and_then(text), field(attribute, "value"))
        else {
            return;
        };
        let string = || field(value, "stringValue").and_then(name);
        let count = |name| {
            // 64-bit integers are strings in this JSON.
            let value = field(value, "intValue").or_else(|| field(value, "doubleValue"));
            value.map_or_else(String::new, |value| format!("\"{name}\":{value},"))
        };
        usage += &match &*key {
            "gen_ai.usage.input_tokens" | "gen_ai.usage.prompt_tokens" => count("prompt_tokens"),
            "gen_ai.usage.output_tokens" | "gen_ai.usage.completion_tokens" => count("completion_tokens"),
            "gen_ai.usage.cache_read.input_tokens" => count("cache_read_input_tokens"),
            "gen_ai.usage.cache_creation.input_tokens" => count("cache_creation_input_tokens"),
            "gen_ai.usage.reasoning.output_tokens" => count("reasoning_tokens"),
            other => {
                match other {
                    "gen_ai.conversation.id" => conversation = string(),
                    "session.id" => session = string(),
                    "gen_ai.response.model" => record.model = string().unwrap_or_default(),
                    "gen_ai.request.model" if record.model.is_empty() => {
                        record.model = string().unwrap_or_default();
                    }
                    "gen_ai.operation.name" => {
                        is_summary = string().is_some_and(|name| {
                            matches!(
                                &*name,
                                "invoke_agent" | "create_agent" | "invoke_workflow" | "execute_tool"
                            )
                        });
                    }
                    _ => {}
                }
                return;
            }
        };
    });
    let mut report = Report::default();
    report.read_usage(&format!("{{{}}}", usage.trim_end_matches(',')));
    record.tokens = report.tokens();
    if is_summary || record.tokens == Tokens::default() {
        return Ok(None);
    }
    Ok(Some(Fields { thread_id: conversation.or(session).or(trace), or_else: None, record }))
}
