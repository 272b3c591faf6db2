//! A disk that is full, and one that is slow.

use crate::host::{Provider, config, held, post, raw, start, status, used};
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use thread_budget_host::Registry;
use thread_budget_tests::disk::{SlowDisk, SmallDisk};
use tokio::task::JoinSet;

async fn health(address: SocketAddr) -> [u16; 2] {
    let ask = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        status(&raw(address, &request).await)
    };
    [ask("/healthz").await, ask("/readyz").await]
}

/// What all threads have used, and whether they hold something.
async fn all_used(registry: &Registry) -> (u64, bool) {
    let (mut used, mut holds) = (0, false);
    for (thread, usage) in registry.get_all_usage().await.unwrap() {
        used += usage.total_tokens;
        holds |= registry.held_tokens(&thread).await.unwrap() > 0;
    }
    (used, holds)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_admits_nothing_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let provider = Provider::start(Duration::from_millis(20)).await;
    let mut config = config(&provider.url(), "");
    config.database = Some(disk.path().join("budgets.redb"));
    let (running, registry) = start(config).await;
    let (address, operators) = (running.address(), running.admin_address());
    assert_eq!(health(operators).await, [200, 200]);

    let filler = disk.path().join("filler");
    assert!(fs::write(&filler, vec![1; 5 << 20]).is_err(), "the disk is full");
    // Many at a time, each with a long name of its own, until there is no room for one more.
    let (mut number, mut refused) = (0, 0);
    while refused == 0 {
        assert!(number < 20_000, "it goes on");
        let mut wave = JoinSet::new();
        for _ in 0..64 {
            number += 1;
            let request = post("/v1/chat/completions", &format!("{number}-{:0900}", 0));
            wave.spawn(async move { raw(address, &request).await });
        }
        for answer in wave.join_all().await {
            match status(&answer) {
                200 => {}
                503 => {
                    assert!(
                        answer.contains("retry-after: ") && answer.contains("router_overloaded"),
                        "{answer}"
                    );
                    assert!(!answer.contains("redb"), "where the file is does not concern agents: {answer}");
                    refused += 1;
                }
                _ => panic!("{answer}"),
            }
        }
    }
    let called = provider.requests();
    for _ in 0..5 {
        assert_eq!(status(&raw(address, &post("/v1/chat/completions", "t")).await), 503);
        assert_eq!(health(operators).await, [503, 503]);
    }
    assert_eq!(provider.requests(), called, "no provider is asked for what cannot be charged");

    fs::remove_file(&filler).unwrap();
    let started = Instant::now();
    while health(operators).await != [200, 200] {
        assert!(started.elapsed() < Duration::from_secs(10), "it does not recover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status(&raw(address, &post("/v1/chat/completions", "t")).await), 200);
    let answered = 20 * provider.requests() as u64;
    assert_eq!(all_used(&registry).await, (answered, false), "each answer is charged, once");
    assert_eq!(running.shutdown().await, Vec::<String>::new());
    assert_eq!(all_used(&registry).await, (answered, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_says_what_is_not_recorded() {
    let Some(disk) = SlowDisk::mount() else { return };
    let provider = Provider::start(Duration::from_millis(300)).await;
    let mut config = config(&provider.url(), "shutdown_timeout_ms = 100");
    config.database = Some(disk.path().join("budgets.redb"));
    let (running, _registry) = start(config).await;
    let address = running.address();
    let busy = tokio::spawn(async move { raw(address, &post("/v1/chat/completions", "t")).await });
    while provider.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let frozen = disk.freeze();
    tokio::time::sleep(Duration::from_millis(400)).await;
    let unrecorded = running.shutdown().await;
    assert!(unrecorded.iter().any(|what| what.contains("12 prompt and 8 completion")), "{unrecorded:?}");
    drop(frozen);
    drop(busy);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_when_the_disk_took_all_the_time() {
    let Some(disk) = SlowDisk::mount() else { return };
    let provider = Provider::start(Duration::ZERO).await;
    let mut config = config(&provider.url(), "router.request_timeout_ms = 300");
    config.database = Some(disk.path().join("budgets.redb"));
    let (running, registry) = start(config).await;
    let address = running.address();
    // A connection to the provider is there.
    assert_eq!(status(&raw(address, &post("/v1/chat/completions", "t")).await), 200);
    let before = used(&registry);
    let frozen = disk.freeze();
    let late = tokio::spawn(async move { raw(address, &post("/v1/chat/completions", "t")).await });
    tokio::time::sleep(Duration::from_millis(600)).await;
    drop(frozen);
    let answer = late.await.unwrap();
    assert!([502, 504].contains(&status(&answer)), "{answer}");
    assert_eq!((provider.requests(), used(&registry), held(&registry)), (1, before, 0));
    running.shutdown().await;
}
