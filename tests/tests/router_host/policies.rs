//! Policies that misbehave: what they break, they break for their own exchange.

use crate::host::{chat, config, post, raw, status};
use std::path::Path;
use std::time::{Duration, Instant};
use thread_budget_host::Registry;
use thread_budget_serve::{Config, Router, Running};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{ManglingAndAbi, Resolve};

/// A router whose policy is that code, and its registry.
async fn hostile(config: Config, step: &str) -> (Running, Registry) {
    let registry = config.registry().build().unwrap();
    let router = Router::new(config, registry.clone()).component_bytes(component(step));
    (router.start().await.unwrap(), registry)
}

/// A policy whose `step` is that code, which leaves the place of a turn. At 0 there is one that wants a hold for a
/// thread without a name; at 32 one that is done.
fn component(step: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    resolve.push_dir(&wit).unwrap();
    let (package, _) = resolve.push_dir(wit.join("router")).unwrap();
    let world = resolve.select_world(&[package], Some("router")).unwrap();
    let mangling = ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync);
    let module = wit_component::dummy_module(&resolve, world, mangling);
    let mut text = wasmprinter::print_bytes(module).unwrap();
    for (export, body) in [
        ("#step", step),
        ("#compile", "i32.const 32"),
        ("#configure", "i32.const 32"),
        ("cabi_realloc", "i32.const 4096"),
    ] {
        let named = format!("{export}\" (func ");
        let (_, number) = text.split_once(&named).unwrap();
        let function = format!("(func (;{};)", number.split(')').next().unwrap());
        let start = text.find(&function).unwrap();
        let at = start + text[start..].find("unreachable").unwrap();
        text.replace_range(at..at + "unreachable".len(), body);
    }
    let text = text.replace("(memory (;0;) 0)", "(memory (;0;) 16)").replacen(
        "(module",
        "(module (data (i32.const 8) \"\\02\") (data (i32.const 40) \"\\08\")",
        1,
    );
    let mut module = wat::parse_str(text).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

/// Several times, since whatever breaks must not take the next with it.
async fn always(running: &Running, expected: u16, text: &str) {
    for _ in 0..20 {
        let answer = chat(running).await;
        assert_eq!(status(&answer), expected, "{answer}");
        assert!(answer.contains(text), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_breaks_or_says_nothing_is_a_502() {
    for step in ["unreachable", "i32.const 32", "(i32.load (i32.const -1))"] {
        let (running, _) = hostile(config("http://127.0.0.1:9", ""), step).await;
        always(&running, 502, r#""type":"upstream_error""#).await;
        running.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_computes_forever_is_ended_and_others_go_on() {
    // In one step, and in many: at 0 it wants a hold, and then another.
    for step in ["(loop (br 0)) unreachable", "i32.const 0"] {
        computes_forever(step).await;
    }
}

async fn computes_forever(step: &str) {
    let limits = "limits = { cpu_ms = 100 }";
    let (running, _) = hostile(config("http://127.0.0.1:9", limits), step).await;
    let answers: Vec<_> = (0..8)
        .map(|_| {
            let address = running.address();
            tokio::spawn(async move { raw(address, &post("/v1/messages", "t")).await })
        })
        .collect();
    // Operators are answered meanwhile.
    let started = Instant::now();
    let health =
        raw(running.admin_address(), "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await;
    assert_eq!(status(&health), 200, "{health}");
    assert!(started.elapsed() < Duration::from_secs(2));
    for answer in answers {
        let answer = answer.await.unwrap();
        assert_eq!(status(&answer), 503, "{answer}");
        assert!(answer.contains(r#""type":"error""#) && answer.contains("processor time"), "{answer}");
        assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    }
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_wants_all_memory_is_ended() {
    let grow = "(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    for limits in
        ["limits = { instance_memory_bytes = 8_388_608 }", "limits = { total_memory_bytes = 4_194_304 }"]
    {
        let (running, _) = hostile(config("http://127.0.0.1:9", limits), grow).await;
        always(&running, 503, "more memory").await;
        running.shutdown().await;
    }
}
