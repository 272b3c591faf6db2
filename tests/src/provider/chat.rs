//! OpenAI's chat completions.

use super::answer::{Answer, Asked, CREATED, Finish, Tool, is_task};
use super::{Dialect, Event};
use hyper::StatusCode;
use serde_json::{Value, json};
use std::iter;

pub(super) struct Chat;

const ID: &str = "chatcmpl-stub";

impl Dialect for Chat {
    fn read(&self, body: &Value) -> Asked {
        let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
        let max_tokens = body["max_completion_tokens"].as_u64().or(body["max_tokens"].as_u64());
        Asked {
            max_tokens,
            tools: tools(body),
            tool_has_answered: messages.last().is_some_and(|message| message["role"] == "tool"),
            results: messages.iter().filter(|message| message["role"] == "tool").count() as u64,
            steps: messages.iter().filter(|message| message["role"] == "assistant").count(),
            is_sub_agent: messages
                .iter()
                .any(|message| message["role"] == "user" && is_task(&message["content"])),
            ..Asked::reading(body, &["messages", "tools"])
        }
        .without_tools_unless(body["tool_choice"] != "none")
    }

    fn whole(&self, answer: &Answer) -> Value {
        let mut message =
            json!({"role": "assistant", "content": answer.text(), "refusal": null, "annotations": []});
        if answer.tool().is_some() {
            let call = |number| call(answer, number, &answer.text());
            message["content"] = Value::Null;
            message["tool_calls"] = (0..answer.parts()).map(call).collect();
        }
        let mut whole = json!({
            "id": ID,
            "object": "chat.completion",
            "created": CREATED,
            "model": answer.asked.model,
            "choices": [{
                "index": 0,
                "message": message,
                "logprobs": null,
                "finish_reason": finish_reason(answer.finish),
            }],
            "service_tier": "default",
            "system_fingerprint": "fp_stub",
        });
        if answer.tells_usage {
            whole["usage"] = usage(answer);
        }
        whole
    }

    fn events<'a>(&self, answer: &'a Answer) -> Box<dyn Iterator<Item = Event> + Send + 'a> {
        let first = match answer.tool() {
            None => json!({"role": "assistant", "content": "", "refusal": null}),
            Some(_) => json!({"role": "assistant", "content": null, "refusal": null}),
        };
        let parts = (0..answer.parts()).flat_map(move |number| {
            let start = answer.tool().map(|_| {
                let mut call = call(answer, number, "");
                call["index"] = number.into();
                event(&chunk(answer, &choice(&json!({"tool_calls": [call]}), None)), 0)
            });
            let pieces = answer.pieces().map(move |piece| {
                let delta = match answer.tool() {
                    None => json!({"content": piece}),
                    Some(_) => json!({"tool_calls": [{"index": number, "function": {"arguments": piece}}]}),
                };
                event(&chunk(answer, &choice(&delta, None)), 1)
            });
            start.into_iter().chain(pieces)
        });
        let end = iter::once_with(|| {
            let end = chunk(answer, &choice(&json!({}), Some(answer.finish)));
            let mut events = vec![event(&end, 0)];
            if answer.asked.include_usage && answer.tells_usage {
                let mut chunk = chunk(answer, &json!([]));
                chunk["usage"] = usage(answer);
                events.push(event(&chunk, 0));
            }
            events.push(Event { text: "data: [DONE]\n\n".into(), tokens: 0 });
            events
        });
        let first = event(&chunk(answer, &choice(&first, None)), 0);
        Box::new(iter::once(first).chain(parts).chain(end.flatten()))
    }

    fn error(&self, status: StatusCode, message: &str) -> Value {
        let (kind, code) = match status {
            StatusCode::NOT_FOUND => ("invalid_request_error", json!("model_not_found")),
            StatusCode::UNAUTHORIZED => ("invalid_request_error", json!("invalid_api_key")),
            StatusCode::TOO_MANY_REQUESTS => ("tokens", json!("rate_limit_exceeded")),
            status if status.is_client_error() => ("invalid_request_error", Value::Null),
            _ => ("server_error", Value::Null),
        };
        json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
    }
}

fn tools(body: &Value) -> Vec<Tool> {
    let tools = body["tools"].as_array().into_iter().flatten();
    tools.filter_map(|tool| Tool::of(&tool["function"], "parameters")).collect()
}

/// A call of the tool, where there is one.
fn call(answer: &Answer, number: u64, arguments: &str) -> Value {
    let name = answer.tool().map(|tool| &tool.name);
    let id = format!("call_stub_{}", answer.asked.results + number);
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

fn chunk(answer: &Answer, choices: &Value) -> Value {
    let mut chunk = json!({
        "id": ID,
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": answer.asked.model,
        "service_tier": "default",
        "system_fingerprint": "fp_stub",
        "choices": choices,
    });
    if answer.asked.include_usage {
        chunk["usage"] = Value::Null;
    }
    chunk
}

fn choice(delta: &Value, finish: Option<Finish>) -> Value {
    json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish.map(finish_reason)}])
}

fn event(chunk: &Value, tokens: u64) -> Event {
    Event { text: format!("data: {chunk}\n\n"), tokens }
}

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Tool => "tool_calls",
    }
}

/// Not for an answer that never ends.
fn usage(answer: &Answer) -> Value {
    let completion_tokens = answer.output_tokens();
    let prompt_tokens = answer.asked.prompt_tokens;
    json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": answer.thought_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}
