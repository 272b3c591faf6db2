//! How long a request may take, and how long its events may be.

use crate::host::{Provider, config, held, post, raw, start, status, used};
use std::time::{Duration, Instant};
use thread_budget_serve::Upstream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_takes_no_longer_than_it_may_and_is_charged_where_it_was_sent() {
    let silent = Provider::start(Duration::from_secs(3_600)).await;
    let other = Provider::start(Duration::ZERO).await;
    let settings = "router = { request_timeout_ms = 500, lost_calls = \"all\", retries = 5 }";
    let mut config = config(&silent.url(), settings);
    config.upstreams.push(Upstream { url: other.url(), ..Upstream::default() });
    let (running, registry) = start(config).await;
    let started = Instant::now();
    let answer = raw(running.address(), &post("/v1/chat/completions", "t")).await;
    let took = started.elapsed();
    assert_eq!(status(&answer), 504, "{answer}");
    assert!((Duration::from_millis(495)..Duration::from_millis(1_500)).contains(&took), "{took:?}");
    assert_eq!((silent.requests(), other.requests()), (1, 0));
    assert_eq!(
        (used(&registry), held(&registry)),
        (110, 0),
        "its prompt, estimated, and all that it asked for"
    );
    running.shutdown().await;
}

/// A provider of one stream, whose first event is so long.
async fn streaming(bytes: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 64 << 10];
        let _ = stream.read(&mut request).await;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        let event = format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
            "x".repeat(bytes)
        );
        let end = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":8}}\n\ndata: [DONE]\n\n";
        for part in [head, &event, end] {
            stream.write_all(part.as_bytes()).await.unwrap();
        }
        // Closed before the other end has read all, it would be cut off.
        let _ = stream.shutdown().await;
        let _ = stream.read(&mut request).await;
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_event_takes_processor_time_in_proportion() {
    for (mib, cpu_ms) in [(8, 400), (31, 1_600)] {
        let url = streaming(mib << 20).await;
        let settings = format!("limits = {{ cpu_ms = {cpu_ms} }}\nrouter.cut_streams = false");
        let (running, registry) = start(config(&url, &settings)).await;
        let request = post("/v1/chat/completions", "t").replace("\"max_tokens\":10,", "\"stream\":true  ,");
        let answer = raw(running.address(), &request).await;
        assert!(
            answer.len() > mib << 20 && answer.contains("data: [DONE]"),
            "{mib} MiB: {} bytes",
            answer.len()
        );
        assert_eq!((used(&registry), held(&registry)), (20, 0));
        running.shutdown().await;
    }
}
