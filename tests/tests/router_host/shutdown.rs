//! A stop: what is under way is waited for, what was used is charged.

use crate::host::{Provider, chat, config, eventually, held, post, raw, start, status, used};
use std::time::{Duration, Instant};
use thread_budget_host::Registry;
use thread_budget_tests::disk::SlowDisk;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_requests() {
    let provider = Provider::start(Duration::from_millis(500)).await;
    let (running, registry) = start(config(&provider.url(), "")).await;
    let address = running.address();
    let busy = tokio::spawn(async move { raw(address, &post("/v1/chat/completions", "t")).await });
    let idle = TcpStream::connect(address).await.unwrap();
    eventually("it arrives", || provider.requests() == 1).await;
    let started = Instant::now();
    running.shutdown().await;
    assert!(started.elapsed() < Duration::from_secs(5), "an idle connection is not waited for");
    assert_eq!(status(&busy.await.unwrap()), 200);
    assert!(used(&registry) > 0);
    assert!(TcpStream::connect(address).await.is_err());
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_no_longer_than_configured_and_charges_lost_calls() {
    let provider = Provider::start(Duration::from_secs(3_600)).await;
    let settings = "shutdown_timeout_ms = 200\nrouter.lost_calls = \"all\"";
    let (running, registry) = start(config(&provider.url(), settings)).await;
    let address = running.address();
    let busy = tokio::spawn(async move { raw(address, &post("/v1/chat/completions", "t")).await });
    eventually("it arrives", || provider.requests() == 1).await;
    let before = held(&registry);
    assert!(before >= 100, "{before}");
    let started = Instant::now();
    running.shutdown().await;
    assert!(started.elapsed() < Duration::from_secs(2));
    let answer = busy.await.unwrap();
    assert_eq!(status(&answer), 503, "{answer}");
    assert_eq!((held(&registry), used(&registry)), (0, before));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_pays_for_what_it_asked() {
    let provider = Provider::start(Duration::from_millis(200)).await;
    let (running, registry) = start(config(&provider.url(), "")).await;
    let mut stream = TcpStream::connect(running.address()).await.unwrap();
    stream.write_all(post("/v1/chat/completions", "t").as_bytes()).await.unwrap();
    eventually("it arrives", || provider.requests() == 1).await;
    drop(stream);
    eventually("it is charged", || used(&registry) > 0 && held(&registry) == 0).await;
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_has_what_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("budgets.redb");
    let provider = Provider::start(Duration::ZERO).await;
    let mut config = config(&provider.url(), "");
    config.database = Some(path.clone());
    let (running, registry) = start(config).await;
    for _ in 0..5 {
        assert_eq!(status(&chat(&running).await), 200);
    }
    let before = used(&registry);
    assert!(before > 0);
    running.shutdown().await;
    drop(registry);
    assert_eq!(used(&Registry::builder().database(&path).read_only().build().unwrap()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_a_slow_disk() {
    let Some(disk) = SlowDisk::mount() else { return };
    let path = disk.path().join("budgets.redb");
    let provider = Provider::start(Duration::from_millis(300)).await;
    let mut config = config(&provider.url(), "shutdown_timeout_ms = 100");
    config.database = Some(path.clone());
    let (running, registry) = start(config).await;
    let address = running.address();
    let busy = tokio::spawn(async move { raw(address, &post("/v1/chat/completions", "t")).await });
    eventually("it arrives", || provider.requests() == 1).await;
    let frozen = disk.freeze();
    // The provider has answered by then; what that cost is not on the disk.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let stop = tokio::spawn(running.shutdown());
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    assert!(!stop.is_finished(), "it does not wait");
    drop(frozen);
    assert_eq!(stop.await.unwrap(), Vec::<String>::new());
    assert_eq!(status(&busy.await.unwrap()), 200);
    drop(registry);
    let registry = Registry::builder().database(&path).read_only().build().unwrap();
    assert_eq!((used(&registry), held(&registry)), (20, 0), "what the provider said, not what was held");
}
