//! The stand-in for LLM providers says what its module says.

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};
use thread_budget_tests::provider::{Billed, CHUNK_BOMB_BYTES, Provider, Work};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

/// All bytes that a connection gave for one request, and none before its end.
fn raw(provider: &Provider, method: &str, path: &str, body: &str) -> String {
    let mut answer = String::new();
    open(provider, method, path, body).read_to_string(&mut answer).unwrap();
    answer
}

fn open(provider: &Provider, method: &str, path: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(provider.url().trim_start_matches("http://")).unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: stub\r\nX-Thread-Id: a\r\nconnection: close\r\n");
    write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    stream
}

/// The status and the body of an answer that is no stream.
fn post(provider: &Provider, path: &str, body: &Value) -> (String, Value) {
    let answer = raw(provider, "POST", path, &body.to_string());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let json = body.lines().find(|line| line.starts_with('{')).unwrap();
    (head.into(), serde_json::from_str(json).unwrap())
}

/// The data of a stream's events, and whether it came to its end.
fn stream(provider: &Provider, path: &str, mut body: Value) -> (Vec<String>, bool) {
    body["stream"] = true.into();
    let answer = raw(provider, "POST", path, &body.to_string());
    assert!(answer.contains("content-type: text/event-stream\r\n"), "{answer}");
    let data = answer.lines().filter_map(|line| line.strip_prefix("data: ")).map(Into::into).collect();
    (data, answer.ends_with("\r\n0\r\n\r\n"))
}

fn stream_of_json(provider: &Provider, path: &str, body: Value) -> Vec<Value> {
    let (data, ended) = stream(provider, path, body);
    assert!(ended, "{data:?}");
    let data = data.iter().filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "0123456789"}], "user": "u"})
}

fn types(events: &[Value]) -> Vec<&str> {
    let mut types: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    types.dedup();
    types
}

#[test]
fn a_chat_completion_is_bounded_and_billed_as_it_says() {
    let provider = Provider::start().unwrap();
    let (head, whole) = post(&provider, CHAT, &chat("stub"));
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    // "user" and ten characters.
    assert_eq!(whole["usage"]["prompt_tokens"], 4);
    assert_eq!(whole["usage"]["completion_tokens"], 16);
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(text.split_whitespace().count(), 16);

    for (field, limit) in [("max_tokens", 3), ("max_completion_tokens", 16)] {
        let mut body = chat("stub");
        body[field] = limit.into();
        let (_, whole) = post(&provider, CHAT, &body);
        assert_eq!(whole["choices"][0]["finish_reason"], "length");
        assert_eq!(whole["usage"]["completion_tokens"], limit);
    }
    let billed = Billed { answers: 3, prompt_tokens: 12, completion_tokens: 35 };
    assert_eq!(provider.stats().billed, billed);
    assert_eq!(provider.stats().users["u"], billed);
}

#[test]
fn a_stream_of_chat_completions_tells_its_usage_when_it_is_asked_to() {
    let provider = Provider::start().unwrap();
    let without = stream_of_json(&provider, CHAT, chat("stub-words-3"));
    assert_eq!(without.len(), 5);
    assert!(without.iter().all(|chunk| chunk.get("usage").is_none() && chunk["choices"][0].is_object()));
    let text: String =
        without.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "tokens flow where ");

    let mut body = chat("stub-words-3");
    body["stream_options"] = json!({"include_usage": true});
    let (data, _) = stream(&provider, CHAT, body.clone());
    assert_eq!(data.last().unwrap(), "[DONE]");
    let with = stream_of_json(&provider, CHAT, body.clone());
    let (last, others) = with.split_last().unwrap();
    assert!(others.iter().all(|chunk| chunk["usage"].is_null()));
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["total_tokens"], 7);

    body["model"] = "stub-no-usage".into();
    let none = stream_of_json(&provider, CHAT, body);
    assert!(none.iter().all(|chunk| chunk["usage"].is_null()));
}

#[test]
fn responses_come_in_the_order_of_the_real_ones() {
    let provider = Provider::start().unwrap();
    let body = json!({"model": "stub", "input": "0123456789"});
    let events = stream_of_json(&provider, RESPONSES, body.clone());
    assert_eq!(
        types(&events),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    assert!(events.iter().enumerate().all(|(number, event)| event["sequence_number"] == number));
    let (_, whole) = post(&provider, RESPONSES, &body);
    assert_eq!(events.last().unwrap()["response"], whole);
    assert_eq!(whole["usage"]["input_tokens"], 3);
    assert_eq!(whole["usage"]["output_tokens"], 16);

    let body = json!({"model": "stub", "input": "x", "max_output_tokens": 2});
    let events = stream_of_json(&provider, RESPONSES, body);
    assert_eq!(events.last().unwrap()["type"], "response.incomplete");
}

#[test]
fn messages_come_in_the_order_of_the_real_ones_with_what_is_cached_apart() {
    let provider = Provider::start().unwrap();
    let mut body = json!({
        "model": "stub",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "0123456789012345"}],
        "metadata": {"user_id": "u"},
    });
    let events = stream_of_json(&provider, MESSAGES, body.clone());
    assert_eq!(
        types(&events),
        [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], 5);
    assert_eq!(events[events.len() - 2]["usage"]["output_tokens"], 16);

    body["system"] = json!([{"type": "text", "text": "0123", "cache_control": {"type": "ephemeral"}}]);
    let (_, whole) = post(&provider, MESSAGES, &body);
    let usage = &whole["usage"];
    assert_eq!(usage["cache_creation_input_tokens"], 2);
    assert_eq!(usage["cache_read_input_tokens"], 5);
    assert_eq!(usage["input_tokens"], 3);
    let billed = Billed { answers: 2, prompt_tokens: 5 + 10, completion_tokens: 32 };
    assert_eq!(provider.stats().users["u"], billed);
}

#[test]
fn a_tool_is_called_until_it_has_answered() {
    let provider = Provider::start().unwrap();
    let mut body = chat("stub-tool");
    body["tools"] = json!([{"type": "function", "function": {"name": "weather"}}]);
    let (_, whole) = post(&provider, CHAT, &body);
    let call = whole["choices"][0]["message"]["tool_calls"][0]["function"].clone();
    assert_eq!(call["name"], "weather");
    let chunks = stream_of_json(&provider, CHAT, body.clone());
    let arguments: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str())
        .collect();
    assert_eq!(call["arguments"], arguments);
    body["messages"] = json!([{"role": "tool", "content": "rain"}]);
    assert_eq!(post(&provider, CHAT, &body).1["choices"][0]["finish_reason"], "stop");

    let mut body =
        json!({"model": "stub-tool", "input": "x", "tools": [{"type": "function", "name": "weather"}]});
    let (_, whole) = post(&provider, RESPONSES, &body);
    assert_eq!(whole["output"][0]["arguments"], arguments);
    let events = stream_of_json(&provider, RESPONSES, body.clone());
    assert_eq!(events.last().unwrap()["response"], whole);
    body["input"] = json!([{"type": "function_call_output", "call_id": "call_stub", "output": "rain"}]);
    assert_eq!(post(&provider, RESPONSES, &body).1["output"][0]["type"], "message");

    let user = |content| json!([{"role": "user", "content": content}]);
    let tools = json!([{"name": "weather"}]);
    let mut body =
        json!({"model": "stub-tool", "max_tokens": 100, "messages": user(json!("x")), "tools": tools});
    let (_, whole) = post(&provider, MESSAGES, &body);
    assert_eq!(whole["content"][0]["input"]["city"], "Oslo");
    assert_eq!(whole["stop_reason"], "tool_use");
    let events = stream_of_json(&provider, MESSAGES, body.clone());
    let parts: String = events.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
    assert_eq!(parts, arguments);
    body["messages"] = user(json!([{"type": "tool_result", "tool_use_id": "toolu_stub", "content": "rain"}]));
    assert_eq!(post(&provider, MESSAGES, &body).1["stop_reason"], "end_turn");
}

#[test]
fn an_agents_model_goes_on_until_it_is_warned() {
    let provider = Provider::start().unwrap();
    let ends = |warning: &str, end: &str| {
        let messages = json!([{"role": "assistant", "content": "x"}, {"role": "system", "content": warning}]);
        let (_, whole) = post(&provider, CHAT, &json!({"model": "stub-agent", "messages": messages}));
        let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(text.ends_with(end), "{text}");
    };
    let warning = |end: &str| format!("Note: 76% of the token budget is used, {end}");
    ends(&warning("3,843 tokens are left."), "CONTINUE");
    ends(&warning("20 tokens are left."), "FINISH");
    ends(&warning("3,843 tokens are left. Consider wrapping up"), "FINISH");
    ends(&warning("3,843 tokens are left. The next request may fail"), "FINISH");
}

#[test]
fn it_fails_in_the_form_of_the_provider() {
    let provider = Provider::start().unwrap();
    let (head, error) = post(&provider, CHAT, &chat("stub-error-429-retry-after-1"));
    assert!(head.starts_with("HTTP/1.1 429 ") && head.contains("\r\nretry-after: 1\r\n"), "{head}");
    assert_eq!(error["error"]["code"], "rate_limit_exceeded");
    let (head, error) = post(&provider, MESSAGES, &chat("stub-error-529"));
    assert!(head.starts_with("HTTP/1.1 529 "), "{head}");
    assert_eq!(error["error"]["type"], "overloaded_error");
    for nonsense in ["gpt-4", "stub-nonsense", "stub-slow-20", "stub-retry-after-1", "stub-error-1"] {
        let (head, error) = post(&provider, CHAT, &chat(nonsense));
        assert!(head.starts_with("HTTP/1.1 404 "), "{nonsense}: {head}");
        assert_eq!(error["error"]["code"], "model_not_found");
    }
    assert!(raw(&provider, "POST", CHAT, "{").starts_with("HTTP/1.1 400 "));
    assert!(raw(&provider, "POST", "/v1/else", "{}").starts_with("HTTP/1.1 404 "));
    assert_eq!(provider.stats().billed, Billed::default());

    for status in ["503", "503", "200", "503"] {
        let (head, _) = post(&provider, CHAT, &chat("stub-fail-twice"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
    assert_eq!(raw(&provider, "POST", CHAT, &chat("stub-drop").to_string()), "");
}

#[test]
fn it_misbehaves_as_it_is_told_to() {
    let provider = Provider::start().unwrap();
    let (data, ended) = stream(&provider, CHAT, chat("stub-broken-stream"));
    assert_eq!((data.len(), ended), (4, false));
    let (data, ended) = stream(&provider, CHAT, chat("stub-broken-json"));
    assert!(ended && serde_json::from_str::<Value>(data.last().unwrap()).is_err());
    let whole = raw(&provider, "POST", CHAT, &chat("stub-broken-json").to_string());
    assert!(whole.ends_with("\r\n0\r\n\r\n") && !whole.contains("usage"), "{whole}");
    let whole = raw(&provider, "POST", CHAT, &chat("stub-broken-stream").to_string());
    assert!(!whole.ends_with("\r\n0\r\n\r\n"), "{whole}");

    let mut body = chat("stub-overlong");
    body["max_tokens"] = 100.into();
    assert_eq!(post(&provider, CHAT, &body).1["usage"]["completion_tokens"], 200);
    assert!(post(&provider, CHAT, &chat("stub-no-usage")).1.get("usage").is_none());

    for body in [chat("stub-chunk-bomb"), json!({"model": "stub-chunk-bomb", "stream": true})] {
        assert!(raw(&provider, "POST", CHAT, &body.to_string()).len() > CHUNK_BOMB_BYTES);
    }

    let started = Instant::now();
    post(&provider, CHAT, &chat("stub-slow-50ms"));
    assert!(started.elapsed() >= Duration::from_millis(50));
    let started = Instant::now();
    stream(&provider, CHAT, chat("stub-slow-10ms-words-5"));
    assert!(started.elapsed() >= Duration::from_millis(80));
}

#[test]
fn what_never_ends_stops_when_nobody_reads_it() {
    let provider = Provider::start().unwrap();
    let mut body = chat("stub-endless");
    body["stream"] = true.into();
    let mut reader = open(&provider, "POST", CHAT, &body.to_string());
    let mut some = [0; 4_096];
    for _ in 0..20 {
        reader.read_exact(&mut some).unwrap();
    }
    drop(reader);
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut tokens = 0;
    while tokens != provider.stats().billed.completion_tokens {
        assert!(Instant::now() < deadline);
        tokens = provider.stats().billed.completion_tokens;
        thread::sleep(Duration::from_millis(200));
    }
    assert!(tokens > 100, "{tokens}");
}

#[test]
fn it_remembers_what_was_asked_until_it_is_told_to_forget() {
    let provider = Provider::start().unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| post(&provider, "/v1/chat/completions?a=b", &chat("stub-slow-500ms")));
        }
    });
    assert_eq!(provider.stats().requests, 3);
    assert_eq!(provider.stats().concurrent_maximum, 3);
    assert!(raw(&provider, "GET", "/v1/models", "").contains("stub-tool"));

    let requests = provider.requests();
    let first = &requests[0];
    assert_eq!((&*first.method, &*first.path), ("POST", "/v1/chat/completions?a=b"));
    assert_eq!(first.headers["x-thread-id"], "a");
    assert_eq!(first.body, chat("stub-slow-500ms"));
    assert_eq!((&*requests[3].path, &requests[3].body), ("/v1/models", &json!("")));
    let told = raw(&provider, "GET", "/stub/requests", "");
    let (_, told) = told.split_once("\r\n\r\n").unwrap();
    assert_eq!(serde_json::from_str::<Value>(told).unwrap(), json!(requests));
    assert!(raw(&provider, "GET", "/stub/stats", "").contains(r#""requests":4"#));

    raw(&provider, "DELETE", "/stub/requests", "");
    assert_eq!(provider.requests(), []);
    assert_eq!(provider.stats(), Default::default());
}

#[test]
fn the_least_it_can_do_is_a_chat_completion() {
    let provider = Provider::start_at(([127, 0, 0, 1], 0).into(), Work::Least).unwrap();
    let (_, whole) = post(&provider, CHAT, &chat("stub-error-500"));
    assert_eq!(whole["usage"]["completion_tokens"], 64);
    assert_eq!(provider.stats().requests, 1);
    assert_eq!(provider.requests(), []);
}
