//! A router in this process, in front of a provider that answers after a while.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use thread_budget_host::Registry;
use thread_budget_serve::{Config, Router, Running};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":8,"total_tokens":20}}"#;

pub(crate) const BODY: &str =
    r#"{"model":"m","max_tokens":10,"messages":[{"role":"user","content":"Hello?"}]}"#;

/// A provider that answers after a while, and counts.
pub(crate) struct Provider {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Provider {
    pub(crate) async fn start(delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = requests.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let counted = counted.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    counted.fetch_add(1, Ordering::SeqCst);
                    async move {
                        let _ = request.into_body().collect().await;
                        tokio::time::sleep(delay).await;
                        let response = Response::builder()
                            .header("content-type", "application/json")
                            .body(Full::new(ANSWER.into()));
                        Ok::<Response<Full<Bytes>>, Infallible>(response.unwrap())
                    }
                });
                tokio::spawn(async move {
                    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await
                });
            }
        });
        Self { address, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

pub(crate) fn config(upstream: &str, rest: &str) -> Config {
    let ports = "listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\n";
    Config::from_toml(&format!("{ports}upstreams = [{{ url = \"{upstream}\" }}]\n{rest}")).unwrap()
}

pub(crate) async fn start(config: Config) -> (Running, Registry) {
    let registry = config.registry().build().unwrap();
    (Router::new(config, registry.clone()).start().await.unwrap(), registry)
}

pub(crate) fn post(path: &str, thread: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: router\r\nconnection: close\r\ncontent-type: application/json\r\n\
         x-thread-id: {thread}\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    )
}

/// All that comes back for these bytes.
pub(crate) async fn raw(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // What was read before a reset counts.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

pub(crate) async fn chat(running: &Running) -> String {
    raw(running.address(), &post("/v1/chat/completions", "t")).await
}

pub(crate) fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

pub(crate) fn used(registry: &Registry) -> u64 {
    registry.blocking().get_usage("t").unwrap().map_or(0, |usage| usage.total_tokens)
}

pub(crate) fn held(registry: &Registry) -> u64 {
    registry.blocking().held_tokens("t").unwrap()
}

/// Until it holds, for a while.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
