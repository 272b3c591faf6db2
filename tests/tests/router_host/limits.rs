//! What clients may take: requests at a time, connections, time to say something.

use crate::host::{BODY, Provider, chat, config, eventually, post, raw, start, status};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_at_a_time_are_turned_away_at_once() {
    let provider = Provider::start(Duration::from_millis(400)).await;
    let config = config(&provider.url(), "limits = { max_concurrent_requests = 2 }");
    let (running, _) = start(config).await;
    let address = running.address();
    let busy: Vec<_> = (0..2)
        .map(|_| tokio::spawn(async move { raw(address, &post("/v1/chat/completions", "t")).await }))
        .collect();
    eventually("both arrive", || provider.requests() == 2).await;
    let started = Instant::now();
    let answer = chat(&running).await;
    assert_eq!(status(&answer), 503, "{answer}");
    assert!(answer.contains("router_overloaded") && answer.contains("retry-after: 1\r\n"), "{answer}");
    assert!(started.elapsed() < Duration::from_millis(300));
    for busy in busy {
        assert_eq!(status(&busy.await.unwrap()), 200);
    }
    assert_eq!(status(&chat(&running).await), 200);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_be_read_in_two_ways_is_refused() {
    let provider = Provider::start(Duration::ZERO).await;
    let (running, _) = start(config(&provider.url(), "header_timeout_ms = 500")).await;
    let chat = "POST /v1/chat/completions HTTP/1.1\r\n";
    for head in [
        "host: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n",
        "host: a\r\ncontent-length: 5, 6\r\n",
        "host: a\r\ncontent-length: +5\r\n",
        "host: a\r\ntransfer-encoding: gzip\r\n",
        "host: a\r\ntransfer-encoding: chunked, gzip\r\n",
        "host: a\r\ncontent-length : 5\r\n",
        "host: a\r\nx: 1\r\n y: 2\r\n",
        "host: a\r\nhost: b\r\n",
        "content-length: 0\r\n",
    ] {
        let answer = raw(running.address(), &format!("{chat}{head}\r\n")).await;
        assert_eq!(status(&answer), 400, "{head:?}: {answer}");
    }
    // Of two that say where a body ends only one may count, and nothing behind it is a request.
    for head in [
        "host: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n",
        "host: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n",
    ] {
        let smuggled = "0\r\n\r\nGET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n";
        let answer = raw(running.address(), &format!("{chat}{head}\r\n{smuggled}")).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    let long = format!("{chat}host: a\r\nx: {}\r\n\r\n", "a".repeat(100_000));
    assert_eq!(status(&raw(running.address(), &long).await), 431);
    let many = format!("{chat}host: a\r\n{}\r\n", "x: 1\r\n".repeat(200));
    assert_eq!(status(&raw(running.address(), &many).await), 431);
    let answer = raw(running.address(), "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n").await;
    assert_eq!(status(&answer), 400, "{answer}");
    assert_eq!(provider.requests(), 0);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_say_nothing_or_little_are_left() {
    let provider = Provider::start(Duration::ZERO).await;
    let (running, _) = start(config(&provider.url(), "header_timeout_ms = 200")).await;
    for begun in ["", "P", "PRI * HTTP", "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx"] {
        let started = Instant::now();
        let answer = tokio::time::timeout(Duration::from_secs(5), raw(running.address(), begun)).await;
        assert!(answer.is_ok(), "{begun:?} is waited for");
        assert!(started.elapsed() >= Duration::from_millis(150), "{begun:?} is cut short");
    }
    // A connection that has served a request is not kept for one that does not come, either.
    let mut stream = TcpStream::connect(running.address()).await.unwrap();
    let request = post("/v1/chat/completions", "t").replace("connection: close\r\n", "");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut answer)).await;
    assert!(read.is_ok() && status(&answer) == 200, "{answer}");
    running.shutdown().await;
}

/// Connections that stay as they are: each has sent that.
async fn stuck(address: std::net::SocketAddr, count: usize, begun: &str) -> Vec<TcpStream> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        all.push(stream);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_come_shut_nobody_out() {
    let provider = Provider::start(Duration::ZERO).await;
    let limits = "limits = { max_concurrent_requests = 64, max_connections = 128 }";
    let (running, _) = start(config(&provider.url(), limits)).await;
    let half = &post("/v1/chat/completions", "t")[..];
    let half = &half[..half.len() - BODY.len() / 2];
    // As many as there may be requests, and as there may be connections.
    for count in [64, 200] {
        let stuck = stuck(running.address(), count, half).await;
        let answered = tokio::time::timeout(Duration::from_secs(5), chat(&running)).await;
        let answer = answered.unwrap_or_else(|_| panic!("{count} shut it out"));
        assert_eq!(status(&answer), 200, "{answer}");
        drop(stuck);
    }
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_shuts_operators_out() {
    let (running, _) = start(config("http://127.0.0.1:9", "limits.max_connections = 8")).await;
    let ask = async || {
        let health = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let answered = tokio::time::timeout(Duration::from_secs(5), raw(running.admin_address(), health));
        assert_eq!(status(&answered.await.expect("operators are shut out")), 200);
    };
    let agents = stuck(running.address(), 16, "").await;
    ask().await;
    let limit = "POST /threads/a/limit HTTP/1.1\r\nhost: localhost\r\ncontent-length: 20\r\n\r\n{";
    for begun in ["", "GET /healthz HTTP/1.1\r\n", limit] {
        let idle = stuck(running.admin_address(), 300, begun).await;
        ask().await;
        drop(idle);
    }
    drop(agents);
    running.shutdown().await;
}
