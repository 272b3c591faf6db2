//! What an instance writes to its standard error, as lines of the log: not too long, and not too many.

use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

const LONGEST_LINE: usize = 1_024;
const MOST_LINES: usize = 64;

/// The standard error of one request's instance. What is left of a line is logged when it is dropped.
#[derive(Clone)]
pub(super) struct Log(Arc<Mutex<Lines>>);

struct Lines {
    request: u64,
    /// The line that has begun.
    line: Vec<u8>,
    logged: usize,
}

impl Log {
    pub(super) fn of(request: u64) -> Self {
        Self(Arc::new(Mutex::new(Lines { request, line: Vec::new(), logged: 0 })))
    }
}

impl Lines {
    fn write(&mut self, bytes: &[u8]) {
        let mut parts = bytes.split(|byte| *byte == b'\n');
        let last = parts.next_back().unwrap_or_default();
        for part in parts {
            self.append(part);
            self.end();
        }
        self.append(last);
    }

    fn append(&mut self, part: &[u8]) {
        if self.logged < MOST_LINES {
            let room = LONGEST_LINE - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
        }
    }

    fn end(&mut self) {
        if self.line.is_empty() {
            return;
        }
        self.logged += 1;
        // Control characters would let a request write lines of its own.
        let line = String::from_utf8_lossy(&self.line).replace(char::is_control, "\u{fffd}");
        tracing::info!(target: "thread_budget::router", request = self.request, "{line}");
        self.line.clear();
        if self.logged == MOST_LINES {
            tracing::info!(target: "thread_budget::router", request = self.request, "(it has more to say)");
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.end();
    }
}

impl IsTerminal for Log {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Log {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    /// Of a later WASI than the router's.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }
}

impl OutputStream for Log {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

#[async_trait]
impl Pollable for Log {
    async fn ready(&mut self) {}
}
