//! The router as clients and providers see it: every case of `tests/router`, in the host that `serve` is.

mod ask;
mod case;
mod composed;
mod scripted;

use ask::ask;
use bytes::Bytes;
use case::{Case, Step};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use scripted::Script;
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
    let mut config = Config::from_toml(&config.join("\n")).unwrap_or_else(|error| panic!("{name}: {error}"));
    for (number, upstream) in case.upstreams.iter().enumerate() {
        let upstream = upstream.configured(&script.start(number).await);
        config.upstreams.push(serde_json::from_value(upstream).unwrap());
    }
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
    mut step: Step,
) {
    ask(at, client, base, script, &mut step).await;
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
