//! HTTP and TLS, and settings that cannot be used.

use crate::host::{ANSWER, BODY, Provider, chat, config, start, status};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::path::Path;
use std::time::Duration;
use thread_budget_serve::Config;

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
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/router_host/tls");
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
