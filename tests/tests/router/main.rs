//! The router as clients and providers see it: every case of `tests/router`, in the host that `serve` is.

mod case;
mod scripted;

use bytes::Bytes;
use case::{Body, Case, Expect, Sent, Step};
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use scripted::{Got, Script};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thread_budget_host::Registry;
use thread_budget_serve::{Config, Router, Running};

/// How long a hold may outlive its response: the instance that has it ends after the response does.
const PATIENCE: Duration = Duration::from_secs(5);

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("router");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    files
}

#[test]
fn every_case() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let files = cases();
    assert!(files.len() > 20, "{} cases", files.len());
    let mut failed = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap().display().to_string();
        let case = serde_json::from_slice(&fs::read(&file).unwrap());
        let case: Case = case.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        eprintln!("{name}: {}", case.title);
        if panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(run(&name, case)))).is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

async fn run(name: &str, case: Case) {
    let script = Script::default();
    let folder = tempfile::tempdir().unwrap();
    let mut config = vec![
        "listen = '127.0.0.1:0'".to_owned(),
        "admin.listen = '127.0.0.1:0'".into(),
        "tokens_per_thread = 1000".into(),
        "router.retry_pause_ms = 1".into(),
    ];
    if case.database {
        config.push(format!("database = '{}'", folder.path().join("budgets.redb").display()));
    }
    config.extend(case.config);
    for (number, models) in case.upstreams.iter().enumerate() {
        let url = script.start(number).await;
        config.push(format!("[[upstreams]]\nurl = '{url}'\nmodels = {models:?}"));
    }
    let config = Config::from_toml(&config.join("\n")).unwrap_or_else(|error| panic!("{name}: {error}"));
    let client = Client::builder(TokioExecutor::new()).build_http();
    let (mut running, mut registry) = start(&config).await;

    for (number, step) in case.steps.into_iter().enumerate() {
        let at = format!("{name}, step {number}");
        if step.restart {
            running.shutdown().await;
            drop(registry);
            (running, registry) = start(&config).await;
        }
        for (thread, limit) in &step.set_limits {
            registry.set_limit(thread, *limit).await.unwrap();
        }
        let base = format!("http://{}", running.address());
        take(&at, &client, &base, &script, &registry, step).await;
    }
    running.shutdown().await;
}

async fn start(config: &Config) -> (Running, Registry) {
    let registry = config.registry().build().unwrap();
    (Router::new(config.clone(), registry.clone()).start().await.unwrap(), registry)
}

async fn take(
    at: &str,
    client: &Client<HttpConnector, Full<Bytes>>,
    base: &str,
    script: &Script,
    registry: &Registry,
    step: Step,
) {
    script.answer(step.answers);
    let mut request = Request::builder().method(&*step.method).uri(format!("{base}{}", step.path));
    if let Some(kind) = step.body.content_type() {
        request = request.header(CONTENT_TYPE, kind);
    }
    for (name, value) in &step.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::from(step.body.bytes())).unwrap();
    let response = client.request(request).await.unwrap_or_else(|error| panic!("{at}: {error}"));
    let (head, mut body) = response.into_parts();
    let mut received = Vec::new();
    let breaks = loop {
        match body.frame().await {
            Some(Ok(frame)) => received.extend(frame.into_data().unwrap_or_default()),
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    let (unasked, got) = script.take();
    check(at, &step.expect, head.status, &head.headers, &received, breaks);
    assert_eq!(unasked, 0, "{at}: answers that no provider was asked for; asked were {got:#?}");
    if let Some(sent) = &step.sent {
        check_sent(at, sent, &got);
    }
    for (thread, usage) in step.usage {
        let of = |usage: thread_budget_host::Usage| {
            [usage.prompt_tokens, usage.completion_tokens, usage.request_count]
        };
        let known = registry.get_usage(&thread).await.unwrap().map(of);
        assert_eq!(known, usage, "{at}: usage of {thread}");
        let started = Instant::now();
        while registry.held_tokens(&thread).await.unwrap() > 0 {
            assert!(started.elapsed() < PATIENCE, "{at}: {thread} still holds tokens");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn check(at: &str, expect: &Expect, status: StatusCode, headers: &HeaderMap, body: &[u8], breaks: bool) {
    let text = String::from_utf8_lossy(body);
    assert_eq!(status.as_u16(), expect.status, "{at}: {text}");
    check_headers(at, &expect.headers, headers);
    check_body(at, &expect.body, body);
    if let Some(part) = &expect.contains {
        assert!(text.contains(part), "{at}: {text} does not contain {part}");
    }
    assert_eq!(breaks, expect.breaks, "{at}: it breaks off");
}

fn check_headers(at: &str, expected: &BTreeMap<String, Option<String>>, headers: &HeaderMap) {
    for (name, value) in expected {
        let all: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(all, value.as_deref().into_iter().collect::<Vec<_>>(), "{at}: header {name}");
    }
}

fn check_body(at: &str, expected: &Body, body: &[u8]) {
    match expected {
        Body::None => {}
        Body::Json(expected) => {
            let body: Value = serde_json::from_slice(body).unwrap_or_else(|error| {
                panic!("{at}: {error} in {}", String::from_utf8_lossy(body));
            });
            assert_eq!(body, *expected, "{at}");
        }
        expected => {
            assert_eq!(String::from_utf8_lossy(body), String::from_utf8_lossy(&expected.bytes()), "{at}");
        }
    }
}

fn check_sent(at: &str, expected: &[Sent], got: &[Got]) {
    assert_eq!(expected.len(), got.len(), "{at}: providers got {got:#?}");
    for (number, (expected, got)) in expected.iter().zip(got).enumerate() {
        let at = format!("{at}, what was sent, number {number}");
        assert_eq!(got.upstream, expected.upstream, "{at}: the provider");
        if let Some(path) = &expected.path {
            assert_eq!(got.path, *path, "{at}: the path");
        }
        check_headers(&at, &expected.headers, &got.headers);
        check_body(&at, &expected.body, &got.body);
        let length = got.headers.get(CONTENT_LENGTH).map(|length| length.to_str().unwrap().to_owned());
        assert!(length.is_none_or(|length| length == got.body.len().to_string()), "{at}: its length");
    }
}
