//! Cases through the component that `guest/router/http/compose` makes, which `wasmtime serve` runs.

use crate::ask::ask;
use crate::case::Case;
use crate::scripted::Script;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use thread_budget_tests::serving::{Serving, free_address};

/// How long the component may take to be compiled.
const PATIENCE: Duration = Duration::from_secs(60);

/// Those whose requests need nothing of the one before: each gets an instance, and so a registry, of its own.
/// What the threads have used afterwards is not looked at, for it is gone.
const CASES: [&str; 30] = [
    "answers-too-long",
    "base-paths",
    "bad-requests",
    "chat-without-thread",
    "counting-goes-to-its-provider",
    "doors-that-cost",
    "errors-of-providers",
    "fields-that-are-there-twice",
    "messages-stream-is-cut",
    "methods-that-hide",
    "no-upstream-for-model",
    "no-usage",
    "paths-that-hide",
    "retries",
    "stream-breaks",
    "stream-event-too-long",
    "stream-is-not-cut-when-configured",
    "stream-never-ends",
    "stream-pauses-too-long",
    "stream-within-its-hold-is-not-cut",
    "stream-without-usage",
    "thread-header-is-configurable",
    "thread-ids-are-bounded",
    "thread-in-metadata",
    "unidentified-refused",
    "unmetered-paths",
    "unmetered-paths-pass",
    "unmetered-paths-refused",
    "unmetered-paths-that-cost",
    "usage-is-not-asked-of-everybody",
];

#[test]
#[ignore = "it takes wasmtime, and what guest/router/http/compose makes"]
fn cases_of_requests_on_their_own() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let component = tests.join("../target/router.wasm");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for name in CASES {
        let case = fs::read(tests.join("router").join(name).with_extension("json")).unwrap();
        let case: Case = serde_json::from_slice(&case).unwrap();
        eprintln!("{name}: {}", case.title);
        runtime.block_on(run(name, case, &component));
    }
}

async fn run(name: &str, case: Case, component: &Path) {
    let script = Script::default();
    let mut config: Value = toml::from_str(&case.config.join("\n")).unwrap();
    let mut config = config["router"].take();
    config["retry_pause_ms"] = json!(1);
    config["allow_thread_options"] = json!(true);
    let mut upstreams = Vec::new();
    for (number, upstream) in case.upstreams.iter().enumerate() {
        upstreams.push(upstream.configured(&script.start(number).await));
    }
    config["upstreams"] = upstreams.into();

    let address = free_address().unwrap();
    let mut command = Command::new("wasmtime");
    command.args(["serve", "-Scli", "--addr"]).arg(address.to_string());
    command.arg("--env").arg(format!("THREAD_BUDGET_ROUTER={config}")).arg(component);
    let serving = Serving::start_at(address, &mut command, PATIENCE).unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    for (number, mut step) in case.steps.into_iter().enumerate() {
        // The limit of every thread.
        step.headers.push(("x-thread-max-tokens".into(), "1000".into()));
        ask(&format!("{name}, step {number}"), &client, serving.url(), &script, &mut step).await;
    }
}
