//! Many agents at once, and a router that is killed among them: nobody overspends, and nothing that an agent
//! has an answer to is forgotten.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use thread_budget_host::{Registry, Usage};
use thread_budget_serve::{Config, Router};
use thread_budget_tests::provider::Provider;
use thread_budget_tests::serving::{Serving, router};
use tokio::task::JoinSet;

const CLIENTS: usize = 200;

/// What a request is estimated at: the least for its prompt, and the output it asks for.
const OUTPUT: u64 = 50;
const ESTIMATE: u64 = 100 + OUTPUT;

/// The limit: so many calls fit.
const CALLS: u64 = 50;

type Agent = Client<HttpConnector, Full<Bytes>>;

fn agent() -> Agent {
    Client::builder(TokioExecutor::new()).build_http()
}

async fn ask(
    agent: &Agent,
    url: &str,
    thread: &str,
    model: &str,
    stream: bool,
) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
    ask_for(
        agent,
        url,
        thread,
        &json!({
            "model": model,
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": OUTPUT,
            "stream": stream,
        }),
    )
    .await
}

async fn ask_for(
    agent: &Agent,
    url: &str,
    thread: &str,
    body: &Value,
) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
    let request = Request::post(format!("{url}/v1/chat/completions"))
        .header("x-thread-id", thread)
        .body(Full::from(body.to_string()));
    agent.request(request.expect("it is a request")).await
}

/// Try something with a provider.
fn with_provider(attempt: impl AsyncFnOnce(&Provider)) {
    let provider = Provider::start().expect("a provider");
    tokio::runtime::Runtime::new().expect("a runtime").block_on(attempt(&provider));
}

/// Start a router in this process whose threads may spend so much.
async fn start(provider: &Provider, limit: u64) -> (thread_budget_serve::Running, Registry) {
    let config = Config::from_toml(&format!(
        "listen = '127.0.0.1:0'\nadmin.listen = '127.0.0.1:0'\ntokens_per_thread = {limit}\nupstreams = [{{ url = '{}' }}]",
        provider.url()
    ));
    let config = config.expect("it is a configuration");
    let registry = config.registry().build().expect("a registry");
    (Router::new(config, registry.clone()).start().await.expect("it starts"), registry)
}

/// Wait for the last instances to end, which they may do after their clients have everything.
async fn without_holds(registry: &Registry, thread: &str) -> Usage {
    let started = Instant::now();
    while registry.held_tokens(thread).await.expect("it answers") > 0 {
        assert!(started.elapsed() < Duration::from_secs(10), "a hold is left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    registry.get_usage(thread).await.expect("it answers").expect("it exists")
}

/// Clients that go on until they are refused; how many answers they got, and the tokens of those.
async fn crowd(url: String, model: &'static str, stream: bool) -> (u64, u64) {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let url = url.clone();
        clients.spawn(async move {
            let agent = agent();
            let (mut answers, mut tokens) = (0, 0);
            loop {
                let response = ask(&agent, &url, "shared", model, stream).await.expect("it answers");
                let status = response.status();
                let body = response.into_body().collect().await.expect("a whole answer").to_bytes();
                if status == 400 || status == 429 {
                    assert!(String::from_utf8_lossy(&body).contains("budget_exhausted"));
                    return (answers, tokens);
                }
                assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
                answers += 1;
                if !stream {
                    let body: Value = serde_json::from_slice(&body).expect("JSON");
                    tokens += body["usage"]["total_tokens"].as_u64().expect("usage");
                }
            }
        });
    }
    let mut sum = (0, 0);
    while let Some(client) = clients.join_next().await {
        let (answers, tokens) = client.expect("no client fails");
        sum = (sum.0 + answers, sum.1 + tokens);
    }
    sum
}

#[test]
fn two_hundred_clients_stay_within_one_budget() {
    for stream in [false, true] {
        with_provider(async |provider| {
            let (running, registry) = start(provider, CALLS * ESTIMATE).await;
            let url = format!("http://{}", running.address());
            let (answers, tokens) = crowd(url, "stub-slow-5ms-words-500", stream).await;
            let usage = without_holds(&registry, "shared").await;
            assert!(usage.total_tokens <= usage.max_tokens, "{usage:?}");
            assert_eq!(usage.request_count, answers);
            assert!(
                answers >= CALLS,
                "as many as fit, and more since they use less than they hold: {answers}"
            );
            assert!(usage.remaining < ESTIMATE, "what is left is less than a request: {usage:?}");
            let billed = provider.stats().billed;
            assert_eq!(usage.total_tokens, billed.prompt_tokens + billed.completion_tokens);
            if !stream {
                assert_eq!(usage.total_tokens, tokens);
            }
            running.shutdown().await;
        });
    }
}

/// How much output is held at a time for an answer whose length nobody has said.
const SLICE: u64 = 4_096;

#[test]
fn requests_that_name_no_ceiling_spend_the_limit_and_a_slice_each_at_most() {
    const LIMIT: u64 = 10_000;
    const THOUGHT: u64 = 6_000;
    for (model, stream, thought) in [
        ("stub-slow-300ms-words-8500", false, 0),
        ("stub-words-8500", true, 0),
        ("stub-slow-300ms-thinks-6000-words-500", false, 0),
        // Of what a stream does not show, all is known when it is over.
        ("stub-thinks-6000-words-500", true, THOUGHT),
    ] {
        with_provider(async |provider| {
            let (running, registry) = start(provider, LIMIT).await;
            let url = format!("http://{}", running.address());
            let body =
                json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream});
            let mut clients = JoinSet::new();
            for _ in 0..16 {
                let (url, body) = (url.clone(), body.clone());
                clients.spawn(async move {
                    let response = ask_for(&agent(), &url, "shared", &body).await.expect("it answers");
                    let status = response.status().as_u16();
                    response.into_body().collect().await.expect("a whole answer");
                    status
                });
            }
            let statuses = clients.join_all().await;
            let answers = statuses.iter().filter(|&&status| status == 200).count() as u64;
            assert!(answers > 0, "{statuses:?}");
            assert!(statuses.iter().all(|status| [200, 400, 429].contains(status)), "{statuses:?}");
            let usage = without_holds(&registry, "shared").await;
            let billed = provider.stats().billed;
            let spent = billed.prompt_tokens + billed.completion_tokens;
            let most = LIMIT + if stream { answers * (SLICE + thought) } else { 0 };
            assert!(spent <= most, "{model}: {spent} of {LIMIT} by {answers} answers");
            // The words of a stream that is cut are counted by their length.
            if !stream || thought > 0 {
                assert!(usage.total_tokens >= spent.min(LIMIT), "{model}: {usage:?} of {billed:?}");
            }
            running.shutdown().await;
        });
    }
}

#[test]
fn more_than_there_is_may_be_asked_for() {
    with_provider(async |provider| {
        let (running, _registry) = start(provider, 100_000).await;
        let url = format!("http://{}", running.address());
        for stream in [false, true] {
            let thread = if stream { "streams" } else { "whole" };
            let body = json!({
                "model": "stub", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 128_000, "stream": stream
            });
            let response = ask_for(&agent(), &url, thread, &body).await.expect("it answers");
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.expect("a whole answer");
        }
        let asked: Vec<_> =
            provider.requests().iter().map(|request| request.body["max_tokens"].as_u64()).collect();
        assert_eq!(asked, [Some(99_900); 2]);
        running.shutdown().await;
    });
}

#[test]
fn a_provider_can_overshoot_by_no_more_than_it_delivers_beyond_its_maximum() {
    with_provider(async |provider| {
        let (running, registry) = start(provider, CALLS * ESTIMATE).await;
        let url = format!("http://{}", running.address());
        let (answers, tokens) = crowd(url, "stub-overlong", false).await;
        let usage = without_holds(&registry, "shared").await;
        assert_eq!((usage.request_count, usage.total_tokens), (answers, tokens));
        assert!(usage.total_tokens <= usage.max_tokens + answers * OUTPUT, "{usage:?}");
        running.shutdown().await;
    });
}

#[test]
fn clients_that_leave_are_charged_and_hold_nothing() {
    with_provider(async |provider| {
        let (running, registry) = start(provider, CALLS * ESTIMATE).await;
        let url = format!("http://{}", running.address());
        for _ in 0..10 {
            let response =
                ask(&agent(), &url, "left", "stub-slow-20ms-words-40", true).await.expect("it answers");
            let mut body = response.into_body();
            for _ in 0..3 {
                body.frame().await.expect("another event").expect("it is whole");
            }
        }
        let usage = without_holds(&registry, "left").await;
        assert_eq!(usage.request_count, 10);
        assert!(usage.completion_tokens >= 10, "{usage:?}");
        assert!(usage.completion_tokens < 10 * 40, "it was not drained: {usage:?}");
        running.shutdown().await;
    });
}

/// A router that can be killed.
struct Killable(Serving);

impl Killable {
    fn start(provider: &Provider, database: &Path) -> Self {
        let thread_budget = Path::new(env!("CARGO_BIN_EXE_stub_provider")).with_file_name("thread-budget");
        let mut command: Command = router(&thread_budget, &provider.url(), 1 << 40);
        command.arg("--database").arg(database).stderr(Stdio::null());
        Self(Serving::start(&mut command).expect("it starts"))
    }

    fn kill(self) {
        let status = Command::new("kill").args(["-9", &self.0.pid().to_string()]).status();
        assert!(status.expect("kill is there").success());
    }
}

#[test]
fn a_killed_router_forgets_nothing_that_was_answered() {
    with_provider(async |provider| {
        const AGENTS: usize = 32;
        const KILLS: usize = 5;
        let folder = tempfile::tempdir().expect("a folder");
        let database = folder.path().join("budgets.redb");
        // By thread: requests that were sent, and those that were answered.
        let threads: BTreeMap<String, [Arc<AtomicU64>; 2]> =
            (0..AGENTS).map(|number| (format!("agent-{}", number / 2), Default::default())).collect();

        for kill in 0..KILLS {
            let router = Killable::start(provider, &database);
            let stop = Arc::new(AtomicBool::new(false));
            let mut agents = JoinSet::new();
            for number in 0..AGENTS {
                let thread = format!("agent-{}", number / 2);
                let (url, stop) = (router.0.url().to_owned(), stop.clone());
                let [sent, answered] = threads[&thread].clone();
                agents.spawn(async move {
                    let agent = agent();
                    while !stop.load(Ordering::Relaxed) {
                        sent.fetch_add(1, Ordering::Relaxed);
                        let response = ask(&agent, &url, &thread, "stub", number % 4 == 0).await;
                        let Ok(response) = response else { return };
                        let status = response.status();
                        let Ok(body) = response.into_body().collect().await else { return };
                        let body = body.to_bytes();
                        let whole = number % 4 != 0 || String::from_utf8_lossy(&body).ends_with("[DONE]\n\n");
                        if status == 200 && whole {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            tokio::time::sleep(Duration::from_millis(300 + 70 * kill as u64)).await;
            router.kill();
            stop.store(true, Ordering::Relaxed);
            agents.join_all().await;
        }

        let registry = Registry::builder().database(&database).build().expect("the file is sound");
        let mut all = 0;
        for (thread, [sent, answered]) in &threads {
            let usage = registry.get_usage(thread).await.expect("it answers").expect("it was used");
            let (sent, answered) = (sent.load(Ordering::Relaxed), answered.load(Ordering::Relaxed));
            let counted = usage.request_count;
            assert!((answered..=sent).contains(&counted), "{thread}: {answered} <= {counted} <= {sent}");
            assert_eq!(registry.held_tokens(thread).await, Ok(0));
            all += answered;
        }
        assert!(all > 100, "{all} answers");
    });
}
