//! The client: its request, and the response to it.

use crate::bindings::thread_budget::router::policy::RequestBody;
use crate::bindings::wasi::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use crate::bindings::wasi::io::streams::OutputStream;
use crate::headers::{Headers, put};
use crate::io::{Deadline, ReadError, Reader, write};

/// A client's request, its body unread.
pub(crate) struct Inbound {
    request: IncomingRequest,
    pub(crate) method: Method,
    /// The path and the query.
    pub(crate) target: String,
    pub(crate) headers: Headers,
}

impl Inbound {
    pub(crate) fn new(request: IncomingRequest) -> Self {
        let method = request.method();
        let target = request.path_with_query().unwrap_or_else(|| "/".into());
        let headers = request.headers().entries();
        Self { request, method, target, headers }
    }

    pub(crate) fn method_name(&self) -> &str {
        match &self.method {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Connect => "CONNECT",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
            Method::Other(name) => name,
        }
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Its body, of at most so many bytes, by that time.
    pub(crate) fn body(&self, most: u64, by: Deadline) -> RequestBody {
        let Some(mut reader) = self.request.consume().ok().and_then(Reader::new) else {
            return RequestBody::Whole(Vec::new());
        };
        match reader.rest(most, || by) {
            Ok(body) => RequestBody::Whole(body),
            Err(ReadError::TooLong) => RequestBody::TooLong,
            Err(ReadError::TooSlow) => RequestBody::TooSlow,
            Err(ReadError::Broken) => RequestBody::Broken,
        }
    }
}

/// Where the response goes. Dropped before `end`, it breaks off.
pub(crate) struct Client {
    /// Until the response begins.
    place: Option<ResponseOutparam>,
    /// While it goes on.
    body: Option<Body>,
    /// How long the client may take before it takes more, in milliseconds.
    patience_ms: u64,
    /// Whether it takes no more.
    pub(crate) is_gone: bool,
}

struct Body {
    // Dropped before the body, which it is a part of.
    stream: OutputStream,
    body: OutgoingBody,
}

impl Client {
    pub(crate) fn new(place: ResponseOutparam) -> Self {
        Self { place: Some(place), body: None, patience_ms: 0, is_gone: false }
    }

    pub(crate) fn set_patience(&mut self, ms: u64) {
        self.patience_ms = ms;
    }

    /// Begin the response, unless one has begun. What follows is its body.
    pub(crate) fn begin(&mut self, status: u16, headers: &[(String, Vec<u8>)]) {
        let Some(place) = self.place.take() else { return };
        // A header of the upstream that is none takes all of them along.
        let response = OutgoingResponse::new(Fields::from_list(headers).unwrap_or_else(|_| Fields::new()));
        // A status from an upstream is one.
        let _ = response.set_status_code(status);
        let body = response.body().ok();
        self.body = body.and_then(|body| Some(Body { stream: body.write().ok()?, body }));
        ResponseOutparam::set(place, Ok(response));
    }

    /// Send more of it.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let wait = |room: &_| Deadline::in_ms(self.patience_ms).first_of(&[room]).is_some();
        let Some(Body { stream, .. }) = &self.body else { return };
        if !write(stream, bytes, wait) {
            self.is_gone = true;
            self.body = None;
        }
    }

    /// Send a response whose body is known.
    pub(crate) fn respond(&mut self, status: u16, mut headers: Headers, body: &[u8]) {
        if !body.is_empty() {
            put(&mut headers, "content-length", body.len());
        }
        self.begin(status, &headers);
        self.send(body);
    }

    /// The response ends well.
    pub(crate) fn end(&mut self) {
        if let Some(Body { stream, body }) = self.body.take() {
            drop(stream);
            // It fails when the client is gone.
            let _ = OutgoingBody::finish(body, None);
        }
    }
}
