//! The router's host: what it does to instances that misbehave, and to clients that do.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use thread_budget_host::Registry;
use thread_budget_serve::{Config, Router, Running};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{ManglingAndAbi, Resolve};

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":8,"total_tokens":20}}"#;
const BODY: &str = r#"{"model":"m","max_tokens":10,"messages":[{"role":"user","content":"Hello?"}]}"#;

/// A provider that answers after a while, and counts.
struct Provider {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Provider {
    async fn start(delay: Duration) -> Self {
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

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn config(upstream: &str, rest: &str) -> Config {
    let ports = "listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\n";
    Config::from_toml(&format!("{ports}upstreams = [{{ url = \"{upstream}\" }}]\n{rest}")).unwrap()
}

async fn start(config: Config) -> (Running, Registry) {
    let registry = config.registry().build().unwrap();
    (Router::new(config, registry.clone()).start().await.unwrap(), registry)
}

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

fn post(path: &str, thread: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: router\r\nconnection: close\r\ncontent-type: application/json\r\n\
         x-thread-id: {thread}\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    )
}

/// All that comes back for these bytes.
async fn raw(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // What was read before a reset counts.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn chat(running: &Running) -> String {
    raw(running.address(), &post("/v1/chat/completions", "t")).await
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

fn used(registry: &Registry) -> u64 {
    registry.blocking().get_usage("t").unwrap().map_or(0, |usage| usage.total_tokens)
}

fn held(registry: &Registry) -> u64 {
    registry.blocking().held_tokens("t").unwrap()
}

/// Until it holds, for a while.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
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
async fn http_2_without_tls_is_spoken() {
    let provider = Provider::start(Duration::ZERO).await;
    let (running, _) = start(config(&provider.url(), "")).await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Full<Bytes>>();
    let request = Request::post(format!("http://{}/v1/chat/completions", running.address()))
        .header("x-thread-id", "t")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(BODY)))
        .unwrap();
    let response = client.request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.version(), hyper::Version::HTTP_2);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), ANSWER.as_bytes());
    drop(client);
    running.shutdown().await;
}

/// A router behind another, over TLS.
#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_both_ways_and_only_with_who_is_known() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/router_tls");
    let [cert, key] = ["cert.pem", "key.pem"].map(|file| folder.join(file).display().to_string());
    let provider = Provider::start(Duration::ZERO).await;
    let (inner, _) =
        start(config(&provider.url(), &format!("tls = {{ cert = {cert:?}, key = {key:?} }}"))).await;
    let url = format!("https://localhost:{}", inner.address().port());
    let (trusting, _) = start(config(&url, &format!("upstream_ca = {cert:?}"))).await;
    let answer = chat(&trusting).await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(answer.ends_with(ANSWER), "{answer}");
    let (strict, _) = start(config(&url, "router.retries = 0")).await;
    assert_eq!(status(&chat(&strict).await), 502);
    assert_eq!(provider.requests(), 1);
    for running in [strict, trusting, inner] {
        running.shutdown().await;
    }
}

#[test]
fn a_wrong_configuration_says_where() {
    let error = |text: &str| match Config::from_toml(text) {
        Ok(config) => config.check().unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    let upstream = "upstreams = [{ url = \"https://a\" }]\n";
    for (rest, words) in [
        ("lisen = \"a\"", ["line 2", "lisen"]),
        ("[router]\nretrys = 1", ["line 3", "retrys"]),
        ("[limits]\ncpu_ms = \"soon\"", ["line 3", "cpu_ms"]),
        ("[limits]\nmax_concurrent_requests = 0", ["limits.max_concurrent_requests", "1 to 10,000"]),
        ("admin.listen = \"0.0.0.0:1\"", ["admin.token", "other machines"]),
        ("router.upstreams = [{ url = \"https://b\" }]", ["router.upstreams", "[[upstreams]]"]),
        ("router.thresholds = [{ percent = 0, severity = \"final\" }]", ["router.thresholds", "1 to 100"]),
    ] {
        let error = error(&format!("{upstream}{rest}"));
        assert!(words.iter().all(|word| error.contains(word)), "{rest}: {error}");
    }
    assert!(error("upstreams = [{ url = \"ftp://a\" }]").contains("ftp://a"));
    assert!(error("").contains("no upstream"));
}
