//! The response to the client.

use crate::bindings::wasi::http::types::{Fields, OutgoingBody, OutgoingResponse, ResponseOutparam};
use crate::bindings::wasi::io::streams::OutputStream;
use crate::io::{Deadline, write};
use thread_budget_router_http_core::{Dialect, ErrorType};

/// Headers, as `wasi:http` has them.
pub(crate) type Headers = Vec<(String, Vec<u8>)>;

/// Why the client gets an error instead of an answer.
pub(crate) struct Problem {
    pub(crate) status: u16,
    pub(crate) kind: ErrorType,
    pub(crate) message: String,
    pub(crate) headers: Headers,
}

impl Problem {
    pub(crate) fn new(status: u16, kind: ErrorType, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), headers: Vec::new() }
    }
}

/// A header that this router makes.
pub(crate) fn header(name: &str, value: impl ToString) -> (String, Vec<u8>) {
    (name.into(), value.to_string().into_bytes())
}

/// The place for a response; there is one for each request.
pub(crate) struct Reply {
    place: Option<ResponseOutparam>,
    idle_timeout_ms: u64,
}

impl Reply {
    pub(crate) fn new(place: ResponseOutparam) -> Self {
        Self { place: Some(place), idle_timeout_ms: 0 }
    }

    /// How long the client may take before it takes more.
    pub(crate) fn set_idle_timeout(&mut self, ms: u64) {
        self.idle_timeout_ms = ms;
    }

    /// Send the head of a response. Its body ends when the writer is finished.
    pub(crate) fn start(&mut self, status: u16, headers: &[(String, Vec<u8>)]) -> Writer {
        // A header of the upstream that is none takes all of them along.
        let response = OutgoingResponse::new(Fields::from_list(headers).unwrap_or_else(|_| Fields::new()));
        // A status from an upstream is one.
        let _ = response.set_status_code(status);
        let body = response.body().ok();
        let stream = body.as_ref().and_then(|body| body.write().ok());
        if let Some(place) = self.place.take() {
            ResponseOutparam::set(place, Ok(response));
        }
        Writer { stream, body, idle_timeout_ms: self.idle_timeout_ms }
    }

    /// Send a response whose body is known; false when the client did not take it.
    pub(crate) fn send(&mut self, status: u16, mut headers: Headers, body: &[u8]) -> bool {
        headers.push(header("content-length", body.len()));
        let writer = self.start(status, &headers);
        writer.write(body) && writer.finish()
    }

    /// Say what went wrong, unless a response has begun.
    pub(crate) fn problem(&mut self, dialect: Option<Dialect>, mut problem: Problem) {
        if self.place.is_some() {
            problem.headers.push(header("content-type", "application/json"));
            let body = Dialect::error_body(dialect, problem.kind, &problem.message);
            self.send(problem.status, problem.headers, body.as_bytes());
        }
    }
}

/// The body of a response.
pub(crate) struct Writer {
    stream: Option<OutputStream>,
    body: Option<OutgoingBody>,
    idle_timeout_ms: u64,
}

impl Writer {
    /// False when the client is gone, or does not take it.
    pub(crate) fn write(&self, bytes: &[u8]) -> bool {
        self.stream.as_ref().is_some_and(|stream| {
            write(stream, bytes, |pollable| Deadline::in_ms(self.idle_timeout_ms).wait(pollable))
        })
    }

    /// End it well; a writer that is dropped instead breaks the response off.
    pub(crate) fn finish(mut self) -> bool {
        drop(self.stream.take());
        self.body.take().is_some_and(|body| OutgoingBody::finish(body, None).is_ok())
    }
}
