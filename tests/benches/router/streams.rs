//! Many streams at the same time: how many events come through, and how much later than they were sent.

use crate::proxies::{Proxy, Running};
use crate::table::median;
use anstyle::Style;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::fmt::Write;
use std::io::{Error, Result};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use thread_budget_tests::serving::Serving;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const EVENTS: usize = 200;

/// As fast as they come, and as a model writes.
const MODELS: [&str; 2] = ["stub-clock-words-200", "stub-clock-words-200-slow-50ms"];

const BOLD: Style = Style::new().bold();

/// What came through.
struct Measured {
    events_per_second: f64,
    /// From the provider to the client, of each event, ascending, in µs.
    delays: Vec<f64>,
}

/// A table of the proxies that can be told apart by it.
pub(crate) fn measure(filter: &str, folder: &Path, streams: usize) -> Result<String> {
    let stub = Serving::start(&mut Command::new(env!("CARGO_BIN_EXE_stub_provider")))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    // Others leave out comments, by which an event says when it was sent.
    let proxies = [Proxy::None, Proxy::Nginx, Proxy::Router];
    let mut text = format!(
        "{BOLD}{:<20}{:>15}{:>20}{:>20}{BOLD:#}\n",
        format!("{streams} streams"),
        "events/s",
        "delay p50, µs",
        "delay p99, µs"
    );
    for proxy in proxies.into_iter().filter(|proxy| *proxy == Proxy::None || proxy.name().contains(filter)) {
        let Ok(running) = proxy.start(stub.url(), folder) else { continue };
        let [fast, paced] = MODELS.map(|model| runtime.block_on(put_on(&running, model, streams)));
        let (fast, paced) = (fast?, paced?);
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "{:<20}{:>15.0}{:>20.0}{:>20.0}",
            proxy.name(),
            fast.events_per_second,
            median(paced.delays.iter().copied()),
            paced.delays[paced.delays.len() * 99 / 100],
        );
    }
    Ok(
        text + "events/s: as fast as they come; delay: of an event on its way, with one every 50 ms in each stream\n"
    )
}

async fn put_on(proxy: &Running, model: &'static str, streams: usize) -> Result<Measured> {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..streams {
        tasks.spawn(stream(proxy.url().trim_start_matches("http://").to_owned(), model, number));
    }
    let mut delays = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        delays.extend(ended.map_err(Error::other)??);
    }
    let events_per_second = delays.len() as f64 / started.elapsed().as_secs_f64();
    delays.sort_by(f64::total_cmp);
    Ok(Measured { events_per_second, delays })
}

/// One stream to its end; how late each of its events was, in µs.
async fn stream(address: String, model: &str, number: usize) -> Result<Vec<f64>> {
    let connection = TcpStream::connect(&address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(connection)).await.map_err(Error::other)?;
    tokio::spawn(connection);
    let body = json!({"model": model, "stream": true, "max_tokens": EVENTS, "messages": [{"role": "user", "content": "Go on."}]});
    let request = Request::post("/v1/chat/completions")
        .header(HOST, &address)
        .header(CONTENT_TYPE, "application/json")
        .header("x-thread-id", format!("stream-{number}"))
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(Error::other)?;
    let mut answer = sender.send_request(request).await.map_err(Error::other)?.into_body();
    let mut line = Vec::new();
    let mut delays = Vec::new();
    while let Some(frame) = answer.frame().await {
        let Ok(data) = frame.map_err(Error::other)?.into_data() else { continue };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_micros() as f64;
        for byte in data {
            if byte != b'\n' {
                line.push(byte);
                continue;
            }
            if let Some(sent) = line.strip_prefix(b": sent ").and_then(|sent| std::str::from_utf8(sent).ok())
            {
                delays.push((now - sent.parse::<f64>().map_err(Error::other)?).max(0.0));
            }
            line.clear();
        }
    }
    if delays.len() < EVENTS {
        return Err(Error::other(format!("a stream of {model} ended after {} events", delays.len())));
    }
    Ok(delays)
}
