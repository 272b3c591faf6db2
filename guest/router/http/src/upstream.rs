//! Requests to providers, and their answers, as the policy wants them sent and read.

use crate::bindings::thread_budget::router::policy::{Failure, FailureKind, OwnKey, ProviderRequest};
use crate::bindings::wasi::http::outgoing_handler;
use crate::bindings::wasi::http::types::{
    ErrorCode, Fields, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};
use crate::client::Inbound;
use crate::headers::{Headers, change, put, remove_hop_by_hop};
use crate::io::{Deadline, ReadError, Reader, nanoseconds, write};

/// A provider's answer, without what concerns its connection only.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: AnswerBody,
}

/// The body of an answer.
pub(crate) enum AnswerBody {
    /// All of it, as it was asked for.
    Whole(Vec<u8>),
    /// It is to be read.
    Unread(Unread),
}

/// A body that is to be read.
pub(crate) struct Unread {
    reader: Reader,
    idle_ms: u64,
    deadline: Deadline,
}

impl Unread {
    /// The next piece, at most `within_ms` from now; none at the end.
    pub(crate) fn next(&mut self, within_ms: u64) -> Result<Option<Vec<u8>>, Failure> {
        let by = self.deadline.min(Deadline::in_ms(within_ms));
        self.reader.next(by).map_err(|error| self.failure(error))
    }

    /// The next piece, at most as long from now as the answer may pause; none at the end.
    pub(crate) fn next_in_time(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        self.next(self.idle_ms)
    }

    fn whole(mut self, most: u64) -> Result<Vec<u8>, Failure> {
        let Self { idle_ms, deadline, .. } = self;
        let by = || deadline.min(Deadline::in_ms(idle_ms));
        self.reader.rest(most, by).map_err(|error| self.failure(error))
    }

    fn failure(&self, error: ReadError) -> Failure {
        let (kind, reason) = match error {
            ReadError::TooLong => (FailureKind::TooLong, "the answer is too long"),
            ReadError::TooSlow => (FailureKind::Slow, "the answer paused for too long"),
            ReadError::Broken => (FailureKind::Lost, "the answer broke off"),
        };
        Failure { kind, received_bytes: self.reader.received, reason: reason.into() }
    }
}

/// Send a request for a client's, whose body is `body`, and wait for the answer's head, or for all of the answer
/// where that is wanted.
pub(crate) fn send(inbound: &Inbound, body: &[u8], send: &ProviderRequest) -> Result<Answer, Failure> {
    let deadline = Deadline::in_ms(send.total_ms);
    let body = send.body.as_deref().unwrap_or(body);
    let request = request(inbound, body, send).map_err(|reason| failure(FailureKind::Unsent, reason))?;

    let options = RequestOptions::new();
    // A host that does not support one of them has its own.
    let _ = options.set_connect_timeout(Some(nanoseconds(send.connect_ms)));
    let _ = options.set_first_byte_timeout(Some(nanoseconds(send.head_ms)));
    // How long a body may pause is looked at here.
    let _ = options.set_between_bytes_timeout(Some(nanoseconds(send.total_ms)));

    let outgoing = request.body().map_err(|()| failure(FailureKind::Unsent, "it has no body"))?;
    let response = outgoing_handler::handle(request, Some(options))?;
    let head_by = deadline.min(Deadline::in_ms(send.connect_ms.saturating_add(send.head_ms)));
    let ready = response.subscribe();
    if let Ok(stream) = outgoing.write() {
        // An upstream may answer before it has all of a request, and take no more of it.
        let sent = write(&stream, body, |room| deadline.first_of(&[room, &ready]) == Some(0));
        drop(stream);
        if sent {
            OutgoingBody::finish(outgoing, None)?;
        }
    }
    if head_by.first_of(&[&ready]).is_none() {
        return Err(failure(FailureKind::Slow, "the answer took too long to begin"));
    }
    let response = match response.get() {
        Some(Ok(response)) => response?,
        Some(Err(())) | None => return Err(failure(FailureKind::Lost, "there is no response")),
    };
    let mut headers = response.headers().entries();
    remove_hop_by_hop(&mut headers);
    let body = match response.consume().ok().and_then(Reader::new) {
        None => AnswerBody::Whole(Vec::new()),
        Some(reader) => {
            let unread = Unread { reader, idle_ms: send.idle_ms, deadline };
            match send.whole {
                true => AnswerBody::Whole(unread.whole(send.most_bytes)?),
                false => AnswerBody::Unread(unread),
            }
        }
    };
    Ok(Answer { status: response.status(), headers, body })
}

/// The head of the request. The error says why there is none.
fn request(inbound: &Inbound, body: &[u8], send: &ProviderRequest) -> Result<OutgoingRequest, String> {
    let mut headers = inbound.headers.clone();
    remove_hop_by_hop(&mut headers);
    change(&mut headers, &send.remove, &send.set);
    if let Some(OwnKey { variable, header, prefix }) = &send.key {
        let key = std::env::var(variable).ok().filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| format!("its key is not in the variable {variable}"))?;
        put(&mut headers, header, format_args!("{prefix}{key}"));
    }
    if !body.is_empty() || matches!(inbound.method, Method::Post | Method::Put | Method::Patch) {
        put(&mut headers, "content-length", body.len());
    }
    let fields = Fields::from_list(&headers).map_err(|error| format!("a header cannot be: {error}"))?;
    let (scheme, rest) = send.url.split_once("://").unwrap_or_default();
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let request = OutgoingRequest::new(fields);
    request
        .set_method(&inbound.method)
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(target)))
        .map_err(|()| format!("{} cannot be asked for", send.url))?;
    Ok(request)
}

fn failure(kind: FailureKind, reason: impl Into<String>) -> Failure {
    Failure { kind, received_bytes: 0, reason: reason.into() }
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        use ErrorCode as Code;
        let kind = match code {
            Code::DnsTimeout
            | Code::DnsError(_)
            | Code::DestinationNotFound
            | Code::DestinationUnavailable
            | Code::DestinationIpProhibited
            | Code::DestinationIpUnroutable
            | Code::ConnectionRefused
            | Code::ConnectionTimeout
            | Code::ConnectionLimitReached
            | Code::TlsProtocolError
            | Code::TlsCertificateError
            | Code::HttpRequestDenied
            | Code::HttpRequestMethodInvalid
            | Code::HttpRequestUriInvalid
            | Code::HttpRequestUriTooLong => FailureKind::Unsent,
            Code::ConnectionReadTimeout | Code::ConnectionWriteTimeout | Code::HttpResponseTimeout => {
                FailureKind::Slow
            }
            // Whatever else there is may have come after the request was sent.
            _ => FailureKind::Lost,
        };
        failure(kind, code.to_string())
    }
}
