//! What the policy takes of an exchange, in an instance of its own: `cargo bench -p thread-budget-tests --bench policy`.
//!
//! A plain chat with an answer in one: made, configured, four events, and cleared away. The host is as lean as
//! may be: places for instances are made beforehand, and epochs are on.

use std::path::Path;
use std::time::{Duration, Instant};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

mod bindings {
    wasmtime::component::bindgen!({
        path: ["../wit", "../wit/router"],
        world: "thread-budget:router/router",
    });
}
use bindings::RouterPre;
use bindings::exports::thread_budget::registry::types::{Consumed, Held, Usage};
use bindings::exports::thread_budget::router::policy::{Answer, Event, Next, Request, RequestBody};

const EXCHANGES: u32 = 20_000;
const ROUNDS: u32 = 5;
/// Of the user's message, in bytes.
const LENGTHS: [usize; 3] = [60, 6_000, 200_000];

const CONFIG: &str = r#"{"upstreams":[{"url":"http://127.0.0.1:8000"},{"url":"https://b","models":["claude-"],"key_env":"B"}]}"#;
const HEADERS: &str = "host: 127.0.0.1:4000\nuser-agent: OpenAI/Python 2.1.0\naccept: application/json\n\
    content-type: application/json\nauthorization: Bearer sk-abcdefghijklmnopqrstuvwxyz\nx-thread-id: agent-1234567\n\
    x-stainless-lang: python\nx-stainless-os: Linux\nx-stainless-arch: x64\nx-stainless-runtime: CPython\n\
    connection: keep-alive\ncontent-length: 150\n";
const ANSWER_HEADERS: &str = "content-type: application/json\ndate: Wed, 25 Nov 2026 17:00:00 GMT\nserver: stub\n\
    x-request-id: req_123456789\ncontent-length: 300\nconnection: keep-alive\n";
const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1764000000,"model":"gpt-5","choices":[{"index":0,"message":{"role":"assistant","content":"Done, as you asked me to do."},"finish_reason":"stop"}],"usage":{"prompt_tokens":30,"completion_tokens":10,"total_tokens":40}}"#;

/// What a part of an exchange takes.
const PARTS: [&str; 7] = ["instance", "configure", "request", "held", "answer", "settled", "clear away"];

fn main() -> wasmtime::Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../host-example/serve/component/thread_budget_router.wasm");
    let engine = engine()?;
    let component = Component::from_file(&engine, file)?;
    let pre = RouterPre::new(Linker::<()>::new(&engine).instantiate_pre(&component)?)?;
    let mut store = store(&engine);
    let policy = pre.instantiate(&mut store)?;
    let policy = policy.thread_budget_router_policy();
    let compiled = policy.call_compile(&mut store, CONFIG)?.map_err(wasmtime::Error::msg)?;

    println!("microseconds an exchange, the best of {ROUNDS} rounds\n");
    println!("{:>10} {}", "message", PARTS.map(|part| format!("{part:>10}")).join(" ") + "        all");
    for length in LENGTHS {
        let exchanges = EXCHANGES.min(100_000_000 / u32::try_from(length).unwrap_or(u32::MAX));
        let mut best = [Duration::MAX; PARTS.len()];
        for _ in 0..ROUNDS {
            let mut sums = [Duration::ZERO; PARTS.len()];
            for number in 0..exchanges {
                let parts = exchange(&engine, &pre, &compiled, number, length)?;
                sums.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
            }
            best.iter_mut().zip(sums).for_each(|(best, sum)| *best = sum.min(*best));
        }
        let each = best.map(|sum| sum.as_secs_f64() * 1e6 / f64::from(exchanges));
        let all: f64 = each.iter().sum();
        println!("{length:>10} {} {all:>10.2}", each.map(|part| format!("{part:>10.2}")).join(" "));
    }
    Ok(())
}

fn engine() -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(8)
        .total_core_instances(16)
        .total_memories(8)
        .total_tables(16)
        .linear_memory_keep_resident(1 << 20)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config.epoch_interruption(true).allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

fn store(engine: &Engine) -> Store<()> {
    let mut store = Store::new(engine, ());
    store.set_epoch_deadline(1_000_000);
    store
}

/// An exchange, and what its parts took.
fn exchange(
    engine: &Engine,
    pre: &RouterPre<()>,
    compiled: &[u8],
    number: u32,
    length: usize,
) -> wasmtime::Result<[Duration; PARTS.len()]> {
    let usage = |total_tokens| Usage {
        prompt_tokens: total_tokens,
        completion_tokens: 0,
        total_tokens,
        remaining: 100_000 - total_tokens,
        max_tokens: 100_000,
        request_count: 1,
    };
    let body = format!(
        r#"{{"model":"gpt-5","messages":[{{"role":"user","content":"{}"}}],"max_tokens":100}}"#,
        "word ".repeat(length / 5)
    );
    let events = [
        Event::Request(Request {
            id: format!("exchange-{number}"),
            chance: 7,
            date: "2026-11-25".into(),
            method: "POST".into(),
            target: "/v1/chat/completions".into(),
            headers: HEADERS.into(),
            body: RequestBody::Whole(body.into_bytes()),
        }),
        Event::Held(Held {
            completion_tokens: 100,
            usage: usage(5_000),
            room: 90_000,
            severity: None,
            runway: None,
            pending: Vec::new(),
            repeated: false,
        }),
        Event::Answer(Answer { status: 200, headers: ANSWER_HEADERS.into(), body: ANSWER.into() }),
        Event::Settled(Consumed {
            usage: usage(5_040),
            room: 94_960,
            severity: None,
            crossed: Vec::new(),
            repeated: false,
        }),
    ];
    let mut times = vec![Instant::now()];
    let mut store = store(engine);
    let instance = pre.instantiate(&mut store)?;
    times.push(Instant::now());
    let policy = instance.thread_budget_router_policy();
    policy.call_configure(&mut store, compiled)?.map_err(wasmtime::Error::msg)?;
    times.push(Instant::now());
    for event in &events {
        let turn = policy.call_step(&mut store, 0, event)?;
        times.push(Instant::now());
        let is_right = match event {
            Event::Request(_) => matches!(turn.next, Next::Hold(_)),
            Event::Held(_) => matches!(turn.next, Next::Send(_)),
            Event::Answer(_) => matches!(turn.next, Next::Settle(_)),
            _ => matches!(turn.next, Next::Done),
        };
        assert!(is_right, "{turn:?}");
    }
    drop(store);
    times.push(Instant::now());
    let mut parts = [Duration::ZERO; PARTS.len()];
    for (part, pair) in parts.iter_mut().zip(times.windows(2)) {
        *part = pair[1] - pair[0];
    }
    Ok(parts)
}
