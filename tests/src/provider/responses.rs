//! OpenAI's responses.

use super::answer::{Answer, Asked, CREATED, Finish, Tool, is_task};
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
            tools: tools(body),
            tool_has_answered: input.last().is_some_and(is_result),
            results: input.iter().filter(|item| is_result(item)).count() as u64,
            steps: input.iter().filter(|item| item["role"] == "assistant").count(),
            is_sub_agent: input.iter().any(|item| item["role"] == "user" && is_task(&item["content"])),
            ..Asked::reading(body, &["instructions", "input", "tools"])
        }
        .without_tools_unless(body["tool_choice"] != "none")
    }

    fn whole(&self, answer: &Answer) -> Value {
        let status = status(answer);
        let details = match answer.finish {
            Finish::Length => json!({"reason": "max_output_tokens"}),
            Finish::Stop | Finish::Tool => Value::Null,
        };
        let mut response = response(answer, status);
        response["incomplete_details"] = details;
        response["output"] =
            (0..answer.parts()).map(|number| item(answer, number, status, &answer.text())).collect();
        if answer.tells_usage {
            response["usage"] = usage(answer);
        }
        response
    }

    fn events<'a>(&self, answer: &'a Answer) -> Box<dyn Iterator<Item = Event> + Send + 'a> {
        let of_response = |kind| json!({"type": kind, "response": response(answer, "in_progress")});
        let start = [of_response("response.created"), of_response("response.in_progress")];
        let parts = (0..answer.parts()).flat_map(|number| part_events(answer, number));
        let end = iter::once_with(|| {
            let kind =
                if answer.finish == Finish::Length { "response.incomplete" } else { "response.completed" };
            (json!({"type": kind, "response": Self.whole(answer)}), 0)
        });
        let events = start.into_iter().map(|event| (event, 0)).chain(parts).chain(end);
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

/// The events of an item, and how many tokens each has.
fn part_events(answer: &Answer, number: u64) -> impl Iterator<Item = (Value, u64)> + Send {
    let called = answer.tool().is_some();
    // Where in the response a piece of it goes.
    let place = move |kind: &str, piece: (&str, &Value)| {
        let mut event = json!({"type": kind, "item_id": item_id(answer, number), "output_index": number});
        if !called {
            event["content_index"] = 0.into();
        }
        event[piece.0] = piece.1.clone();
        event
    };
    let mut start_item = item(answer, number, "in_progress", "");
    if !called {
        start_item["content"] = json!([]);
    }
    let mut start =
        vec![json!({"type": "response.output_item.added", "output_index": number, "item": start_item})];
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
        let mut end = Vec::new();
        if called {
            end.push(place("response.function_call_arguments.done", ("arguments", &text.as_str().into())));
        } else {
            let mut done = place("response.output_text.done", ("text", &text.as_str().into()));
            done["logprobs"] = json!([]);
            end.push(done);
            end.push(place("response.content_part.done", ("part", &part(&text))));
        }
        let item = item(answer, number, status(answer), &text);
        end.push(json!({"type": "response.output_item.done", "output_index": number, "item": item}));
        end
    });
    let start = start.into_iter().map(|event| (event, 0));
    start.chain(pieces.map(|event| (event, 1))).chain(end.flatten().map(|event| (event, 0)))
}

fn status(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Length => "incomplete",
        Finish::Stop | Finish::Tool => "completed",
    }
}

/// Functions, be they in a namespace.
fn tools(body: &Value) -> Vec<Tool> {
    let tools = body["tools"].as_array().into_iter().flatten();
    let functions = tools.flat_map(|tool| {
        let within = tool["tools"].as_array().into_iter().flatten();
        let namespace = tool["name"].as_str().filter(|_| tool["tools"].is_array());
        let own = Some(tool).filter(|_| namespace.is_none());
        within.chain(own).map(move |tool| (tool, namespace))
    });
    functions.filter_map(|(tool, namespace)| Some(Tool::of(tool, "parameters")?.within(namespace))).collect()
}

fn is_result(item: &Value) -> bool {
    item["type"] == "function_call_output"
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

fn item(answer: &Answer, number: u64, status: &str, text: &str) -> Value {
    let id = item_id(answer, number);
    let Some(tool) = answer.tool() else {
        return json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": [part(text)]});
    };
    let mut item = json!({
        "id": id,
        "type": "function_call",
        "status": status,
        "arguments": text,
        "call_id": format!("call_stub_{}", answer.asked.results + number),
        "name": tool.name,
    });
    if let Some(namespace) = &tool.namespace {
        item["namespace"] = namespace.as_str().into();
    }
    item
}

fn item_id(answer: &Answer, number: u64) -> String {
    match answer.tool() {
        Some(_) => format!("fc_stub_{}", answer.asked.results + number),
        None => "msg_stub".into(),
    }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
}

/// Not for an answer that never ends.
fn usage(answer: &Answer) -> Value {
    let output_tokens = answer.output_tokens();
    let input_tokens = answer.asked.prompt_tokens;
    json!({
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.thought_tokens},
        "total_tokens": input_tokens + output_tokens,
    })
}
