//! Threads that nobody uses are forgotten where that is wanted.

use crate::host::{Provider, config, eventually, held, post, raw, start, status};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_is_forgotten_once_it_is_not_used_and_never_while_it_holds() {
    let provider = Provider::start(Duration::from_millis(1_500)).await;
    let (running, registry) = start(config(&provider.url(), "forget_after_ms = 400")).await;
    let blocking = registry.blocking();
    blocking.consume("idle", 1, 1).unwrap();
    let address = running.address();
    let busy = tokio::spawn(async move { raw(address, &post("/v1/chat/completions", "t")).await });
    eventually("it arrives", || provider.requests() == 1).await;
    eventually("it is forgotten", || !blocking.has_budget("idle").unwrap()).await;
    assert!(held(&registry) > 0, "the request is still under way");
    assert_eq!(status(&busy.await.unwrap()), 200);
    assert!(blocking.has_budget("t").unwrap(), "it has just been used");
    eventually("it is forgotten, too", || !blocking.has_budget("t").unwrap()).await;
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_are_kept_unless_that_is_wanted() {
    let (running, registry) = start(config("http://127.0.0.1:9", "")).await;
    registry.consume("idle", 1, 1).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(registry.has_budget("idle").await.unwrap());
    running.shutdown().await;
}
