//! OpenAI's responses.

use super::answer::{Answer, Asked, CREATED, Finish};
use super::chat::Chat;
use super::{Dialect, Event};
use hyper::StatusCode;
use serde_json::{Value, json};
use std::iter;

pub(super) struct Responses;

impl Dialect for Responses {
    fn read(&self, body: &Value) -> Asked {
        let input = body["input"].as_array().map_or(&[][..], Vec::as_slice);
        Asked {
            max_tokens: body["max_output_tokens"].as_u64(),
            tool: body["tools"][0]["name"].as_str().map(Into::into),
            tool_has_answered: input.last().is_some_and(|item| item["type"] == "function_call_output"),
            steps: input.iter().filter(|item| item["role"] == "assistant").count(),
            ..Asked::reading(body, &["instructions", "input"])
        }
    }

    fn whole(&self, answer: &Answer) -> Value {
        let (status, details) = match answer.finish {
            Finish::Length => ("incomplete", json!({"reason": "max_output_tokens"})),
            Finish::Stop | Finish::Tool => ("completed", Value::Null),
        };
        let mut response = response(answer, status);
        response["incomplete_details"] = details;
        response["output"] = json!([item(answer, status, &answer.text())]);
        if answer.tells_usage {
            response["usage"] = usage(answer);
        }
        response
    }

    fn events<'a>(&self, answer: &'a Answer) -> Box<dyn Iterator<Item = Event> + Send + 'a> {
        let called = answer.tool().is_some();
        // Where in the response a piece of it goes.
        let place = move |kind: &str, piece: (&str, &Value)| {
            let mut event = json!({"type": kind, "item_id": item_id(answer), "output_index": 0});
            if !called {
                event["content_index"] = 0.into();
            }
            event[piece.0] = piece.1.clone();
            event
        };

        let of_response = |kind| json!({"type": kind, "response": response(answer, "in_progress")});
        let mut start_item = item(answer, "in_progress", "");
        if !called {
            start_item["content"] = json!([]);
        }
        let mut start = vec![
            of_response("response.created"),
            of_response("response.in_progress"),
            json!({"type": "response.output_item.added", "output_index": 0, "item": start_item}),
        ];
        if !called {
            start.push(place("response.content_part.added", ("part", &part(""))));
        }

        let pieces = answer.pieces().map(move |piece| {
            if called {
                return place("response.function_call_arguments.delta", ("delta", &piece.into()));
            }
            let mut delta = place("response.output_text.delta", ("delta", &piece.into()));
            delta["logprobs"] = json!([]);
            delta
        });

        let end = iter::once_with(move || {
            let text = answer.text();
            let whole = Self.whole(answer);
            let mut end = Vec::new();
            if called {
                end.push(place("response.function_call_arguments.done", ("arguments", &text.into())));
            } else {
                let mut done = place("response.output_text.done", ("text", &text.as_str().into()));
                done["logprobs"] = json!([]);
                end.push(done);
                end.push(place("response.content_part.done", ("part", &part(&text))));
            }
            let item = &whole["output"][0];
            end.push(json!({"type": "response.output_item.done", "output_index": 0, "item": item}));
            let kind =
                if answer.finish == Finish::Length { "response.incomplete" } else { "response.completed" };
            end.push(json!({"type": kind, "response": whole}));
            end
        });

        let events = start.into_iter().map(|event| (event, 0));
        let events = events.chain(pieces.map(|event| (event, 1)));
        let events = events.chain(end.flatten().map(|event| (event, 0)));
        Box::new(events.enumerate().map(|(number, (mut event, tokens))| {
            event["sequence_number"] = number.into();
            let kind = event["type"].as_str().unwrap_or_default();
            Event { text: format!("event: {kind}\ndata: {event}\n\n"), tokens }
        }))
    }

    fn error(&self, status: StatusCode, message: &str) -> Value {
        Chat.error(status, message)
    }
}

/// A response without output.
fn response(answer: &Answer, status: &str) -> Value {
    json!({
        "id": "resp_stub",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": false,
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "max_output_tokens": answer.asked.max_tokens,
        "metadata": {},
        "model": answer.asked.model,
        "output": [],
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null},
        "service_tier": "default",
        "store": true,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": null,
        "user": answer.asked.user,
    })
}

fn item(answer: &Answer, status: &str, text: &str) -> Value {
    let id = item_id(answer);
    match answer.tool() {
        None => {
            json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": [part(text)]})
        }
        Some(tool) => json!({
            "id": id,
            "type": "function_call",
            "status": status,
            "arguments": text,
            "call_id": "call_stub",
            "name": tool,
        }),
    }
}

fn item_id(answer: &Answer) -> &'static str {
    if answer.tool().is_some() { "fc_stub" } else { "msg_stub" }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
}

/// Not for an answer that never ends.
fn usage(answer: &Answer) -> Value {
    let output_tokens = answer.completion_tokens.unwrap_or(0);
    let input_tokens = answer.asked.prompt_tokens;
    json!({
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input_tokens + output_tokens,
    })
}
