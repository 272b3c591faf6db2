//! Anthropic's messages.

use super::answer::{Answer, Asked, Finish, Tool, is_task};
use super::{Dialect, Event};
use hyper::StatusCode;
use serde_json::{Value, json};
use std::iter;

pub(super) struct Messages;

impl Dialect for Messages {
    fn read(&self, body: &Value) -> Asked {
        let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
        let results = |message: &Value| {
            let blocks = message["content"].as_array().into_iter().flatten();
            blocks.filter(|block| block["type"] == "tool_result").count() as u64
        };
        let latest = messages.iter().rfind(|message| message["role"] != "system");
        let mut asked = Asked {
            max_tokens: body["max_tokens"].as_u64(),
            user: body["metadata"]["user_id"].as_str().map(Into::into),
            tools: tools(body),
            tool_has_answered: latest.is_some_and(|message| results(message) > 0),
            results: messages.iter().map(results).sum(),
            steps: messages.iter().filter(|message| message["role"] == "assistant").count(),
            is_sub_agent: messages.iter().any(|message| is_task(&message["content"])),
            ..Asked::reading(body, &["system", "messages", "tools"])
        }
        .without_tools_unless(body["tool_choice"]["type"] != "none");
        if has_key(body, "cache_control") {
            asked.cache = (asked.prompt_tokens / 4, asked.prompt_tokens / 2);
        }
        asked
    }

    fn whole(&self, answer: &Answer) -> Value {
        let mut message = message(answer);
        let part = |number| match answer.tool() {
            None => json!({"type": "text", "text": answer.text(), "citations": null}),
            Some(_) => {
                let mut block = block(answer, number);
                // Of a call that was cut short, an API that gives JSON can only give what is complete.
                block["input"] = serde_json::from_str(&answer.text()).unwrap_or_else(|_| json!({}));
                block
            }
        };
        message["content"] = (0..answer.parts()).map(part).collect();
        message["stop_reason"] = stop_reason(answer.finish).into();
        if answer.tells_usage {
            message["usage"]["output_tokens"] = answer.output_tokens().into();
        }
        message
    }

    fn events<'a>(&self, answer: &'a Answer) -> Box<dyn Iterator<Item = Event> + Send + 'a> {
        let start = iter::once((json!({"type": "message_start", "message": message(answer)}), 0));
        let called = answer.tool().is_some();
        let parts = (0..answer.parts()).flat_map(move |number| {
            let start =
                json!({"type": "content_block_start", "index": number, "content_block": block(answer, number)});
            let ping = (number == 0).then(|| (json!({"type": "ping"}), 0));
            let pieces = answer.pieces().map(move |piece| {
                let delta = if called {
                    json!({"type": "input_json_delta", "partial_json": piece})
                } else {
                    json!({"type": "text_delta", "text": piece})
                };
                (json!({"type": "content_block_delta", "index": number, "delta": delta}), 1)
            });
            let stop = json!({"type": "content_block_stop", "index": number});
            iter::once((start, 0)).chain(ping).chain(pieces).chain(iter::once((stop, 0)))
        });
        let end = iter::once_with(|| {
            let delta = json!({"stop_reason": stop_reason(answer.finish), "stop_sequence": null});
            let mut message_delta = json!({"type": "message_delta", "delta": delta});
            if answer.tells_usage {
                message_delta["usage"] = usage(answer, answer.output_tokens());
            }
            [message_delta, json!({"type": "message_stop"})]
        });
        let events = start.chain(parts);
        let events = events.chain(end.flatten().map(|event| (event, 0)));
        Box::new(events.map(|(event, tokens)| {
            let kind = event["type"].as_str().unwrap_or_default();
            Event { text: format!("event: {kind}\ndata: {event}\n\n"), tokens }
        }))
    }

    fn error(&self, status: StatusCode, message: &str) -> Value {
        let kind = match status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            529 => "overloaded_error",
            400..=499 => "invalid_request_error",
            _ => "api_error",
        };
        let error = json!({"type": kind, "message": message});
        json!({"type": "error", "error": error, "request_id": "req_stub"})
    }
}

fn tools(body: &Value) -> Vec<Tool> {
    let tools = body["tools"].as_array().into_iter().flatten();
    tools.filter_map(|tool| Tool::of(tool, "input_schema")).collect()
}

fn has_key(value: &Value, key: &str) -> bool {
    match value {
        Value::Array(values) => values.iter().any(|value| has_key(value, key)),
        Value::Object(fields) => fields.iter().any(|(name, value)| name == key || has_key(value, key)),
        _ => false,
    }
}

/// A message that has not begun.
fn message(answer: &Answer) -> Value {
    let mut message = json!({
        "id": format!("msg_stub_{}", answer.asked.number),
        "type": "message",
        "role": "assistant",
        "model": answer.asked.model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
    });
    if answer.tells_usage {
        message["usage"] = usage(answer, 1);
        message["usage"]["service_tier"] = "standard".into();
    }
    message
}

/// A block that has not begun.
fn block(answer: &Answer, number: u64) -> Value {
    match answer.tool() {
        None => json!({"type": "text", "text": ""}),
        Some(tool) => {
            let id = format!("toolu_stub_{}", answer.asked.results + number);
            json!({"type": "tool_use", "id": id, "name": tool.name, "input": {}})
        }
    }
}

fn stop_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::Tool => "tool_use",
    }
}

/// What is read from the cache or put there is not among the input tokens.
fn usage(answer: &Answer, output_tokens: u64) -> Value {
    let (written, read) = answer.asked.cache;
    json!({
        "input_tokens": answer.asked.prompt_tokens - written - read,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output_tokens,
    })
}
