//! Requests to providers: to each in turn, again where that may help.

use crate::bindings::wasi::clocks::monotonic_clock;
use crate::bindings::wasi::http::outgoing_handler;
use crate::bindings::wasi::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions,
    Scheme,
};
use crate::bindings::wasi::io::poll::poll;
use crate::io::{Deadline, nanoseconds, pause, write};
use crate::reply::{Headers, Problem};
use thread_budget_router_http_core::{Config, ErrorType, Upstream, retry};

/// A request for a provider.
pub(crate) struct Outbound<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path_with_query: &'a str,
    pub(crate) headers: Headers,
    pub(crate) body: &'a [u8],
}

/// A provider's response, its body unread.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    response: IncomingResponse,
    /// Who gave it.
    pub(crate) upstream: String,
}

impl Answer {
    /// Whether it is what was asked for.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether it is a stream of events.
    pub(crate) fn is_stream(&self) -> bool {
        const EVENTS: &str = "text/event-stream";
        let kind = self.header("content-type").and_then(|kind| kind.get(..EVENTS.len()));
        kind.is_some_and(|kind| kind.eq_ignore_ascii_case(EVENTS))
    }

    /// A header of it, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// Its body; none when it was taken before.
    pub(crate) fn body(&self) -> Option<IncomingBody> {
        self.response.consume().ok()
    }
}

/// Whether a header says something about one connection, and nothing beyond it. `wasi:http` keeps most of
/// them to itself.
pub(crate) fn is_of_connection(name: &str) -> bool {
    const NAMES: [&str; 12] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Send a request to the first of these upstreams that answers it; what the last one said when none does.
pub(crate) fn send(
    config: &Config,
    upstreams: &[&Upstream],
    request: &Outbound<'_>,
    deadline: &Deadline,
) -> Result<Answer, Problem> {
    let mut last = Err(Failure { reason: "there is none".into(), is_timeout: false, may_pass: false });
    for upstream in upstreams {
        for trial in 0.. {
            let outcome = attempt(config, upstream, request, deadline);
            let (what, wait, may_pass) = match &outcome {
                Ok(answer) if !retry::may_pass(answer.status) => {
                    return outcome.map_err(Failure::into_problem);
                }
                Ok(answer) => {
                    let wait =
                        retry::asked_for(answer.header("retry-after"), answer.header("retry-after-ms"));
                    (format!("status {}", answer.status), wait, true)
                }
                Err(failure) => (failure.reason.clone(), None, failure.may_pass),
            };
            last = outcome;
            let next = may_pass.then(|| retry::pause(config, trial, wait, monotonic_clock::now())).flatten();
            match next {
                Some(ms) if !deadline.is_over() => {
                    eprintln!("upstream {}: {what}; again in {ms} ms", upstream.url);
                    pause(ms);
                }
                _ => {
                    eprintln!("upstream {}: {what}", upstream.url);
                    break;
                }
            }
        }
    }
    last.map_err(Failure::into_problem)
}

/// Why an upstream has not answered.
struct Failure {
    reason: String,
    is_timeout: bool,
    /// Whether it may answer if it is asked again.
    may_pass: bool,
}

impl Failure {
    fn lasting(reason: &str) -> Self {
        Self { reason: reason.into(), is_timeout: false, may_pass: false }
    }

    fn into_problem(self) -> Problem {
        let status = if self.is_timeout { 504 } else { 502 };
        Problem::new(status, ErrorType::Upstream, format!("no upstream answered: {}", self.reason))
    }
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        // Asked again it would take as long again, and the first answer may be on its way.
        let is_timeout = matches!(code, ErrorCode::ConnectionReadTimeout | ErrorCode::HttpResponseTimeout);
        let is_denied = matches!(code, ErrorCode::HttpRequestDenied | ErrorCode::HttpRequestUriInvalid);
        Self { reason: code.to_string(), is_timeout, may_pass: !is_timeout && !is_denied }
    }
}

fn attempt(
    config: &Config,
    upstream: &Upstream,
    request: &Outbound<'_>,
    deadline: &Deadline,
) -> Result<Answer, Failure> {
    let parts = upstream.parts().ok_or_else(|| Failure::lasting("its URL is none"))?;
    let fields = Fields::from_list(&request.headers).map_err(|_| Failure::lasting("a header is none"))?;
    let outgoing = OutgoingRequest::new(fields);
    let scheme = if parts.tls { Scheme::Https } else { Scheme::Http };
    let path = format!("{}{}", parts.prefix, request.path_with_query);
    outgoing
        .set_method(request.method)
        .and_then(|()| outgoing.set_scheme(Some(&scheme)))
        .and_then(|()| outgoing.set_authority(Some(parts.authority)))
        .and_then(|()| outgoing.set_path_with_query(Some(&path)))
        .map_err(|()| Failure::lasting("its URL or the request's path is none"))?;
    let body = outgoing.body().map_err(|()| Failure::lasting("no body"))?;

    let options = RequestOptions::new();
    // A host that does not support one of them has its own.
    let _ = options.set_connect_timeout(Some(nanoseconds(config.connect_timeout_ms)));
    let _ = options.set_first_byte_timeout(Some(nanoseconds(config.first_byte_timeout_ms)));
    let _ = options.set_between_bytes_timeout(Some(nanoseconds(config.idle_timeout_ms)));

    let response = outgoing_handler::handle(outgoing, Some(options))?;
    let ready = response.subscribe();
    if let Ok(stream) = body.write() {
        // An upstream may answer before it has all of a request, and take no more of it.
        let sent = write(&stream, request.body, |room| poll(&[room, &ready]) == [0]);
        drop(stream);
        if sent {
            OutgoingBody::finish(body, None)?;
        }
    }
    if !deadline.wait(&ready) {
        return Err(ErrorCode::HttpResponseTimeout.into());
    }
    match response.get() {
        Some(Ok(Ok(response))) => Ok(Answer {
            status: response.status(),
            headers: response.headers().entries(),
            response,
            upstream: upstream.url.clone(),
        }),
        Some(Ok(Err(code))) => Err(code.into()),
        Some(Err(())) | None => Err(Failure::lasting("no response")),
    }
}
