//! wrk, which asks for chat completions as fast as they come.

use crate::proxies::Running;
use serde::Deserialize;
use serde_json::Value;
use std::io;
use std::io::{Error, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

/// How many connections ask at the same time.
pub(crate) const CONNECTIONS: [u32; 3] = [1, 16, 64];

/// Some connections, for some time.
pub(crate) struct Load {
    pub(crate) connections: u32,
    pub(crate) duration: Duration,
}

/// What wrk says in the end, and what the proxy took.
#[derive(Clone, Copy, Deserialize)]
pub(crate) struct Sample {
    /// The processor time of the proxy.
    #[serde(skip)]
    pub(crate) cpu: Duration,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    failed: u64,
}

impl Load {
    /// Put it on a proxy that forwards to the stub.
    ///
    /// # Errors
    /// wrk cannot run, a request failed, or the stub has not seen as many as were answered.
    pub(crate) fn put_on(&self, proxy: &Running, stub: &str) -> io::Result<Sample> {
        let url = proxy.url();
        let before = (forwarded(stub)?, proxy.cpu());
        let output = Command::new("wrk")
            .args(proxy.headers().iter().flat_map(|header| ["--header", header]))
            .args(["--threads", "1", "--timeout", "60s"])
            .args(["--connections", &self.connections.to_string()])
            .args(["--duration", &format!("{}s", self.duration.as_secs())])
            .args(["--script", concat!(env!("CARGO_MANIFEST_DIR"), "/benches/router/chat.lua")])
            .arg(format!("{url}/v1/chat/completions"))
            .output()
            .map_err(|error| Error::new(error.kind(), format!("wrk: {error}")))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let sample = text.lines().last().and_then(|line| serde_json::from_str::<Sample>(line).ok());
        let Some(mut sample) = sample else { return Err(Error::other(format!("wrk said: {text}"))) };
        if sample.failed > 0 {
            return Err(Error::other(format!(
                "{} of {} requests failed at {url}",
                sample.failed, sample.requests
            )));
        }
        sample.cpu = proxy.cpu().saturating_sub(before.1);
        let forwarded = forwarded(stub)? - before.0;
        if forwarded < sample.requests {
            return Err(Error::other(format!(
                "{url} answered {} requests and forwarded only {forwarded}",
                sample.requests
            )));
        }
        Ok(sample)
    }
}

/// How many requests the stub has seen.
fn forwarded(stub: &str) -> io::Result<u64> {
    let mut stream = TcpStream::connect(stub.trim_start_matches("http://"))?;
    stream.write_all(b"GET /stub/stats HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    let stats: Value = serde_json::from_str(body)?;
    stats["requests"].as_u64().ok_or_else(|| Error::other(format!("the stub said: {answer}")))
}
