//! Requests to providers, and their answers, as the policy wants them sent and read.

mod connections;

pub(super) use connections::Connector;

use super::RouterError;
use super::config::Config;
use super::headers::{change, remove_hop_by_hop};
use super::policy::Broken;
use super::policy::contract::{self, Failure, FailureKind, OwnKey};
use super::tls;
use bytes::{Bytes, BytesMut};
use connections::{Connections, Sender, Unsent};
use http_body::{Body as _, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::{Authority, Scheme};
use hyper::{Method, Request, StatusCode, Uri};
use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

/// The configured providers, and the connections to them of one of this process's threads. Cheap to clone.
#[derive(Clone)]
pub(super) struct Upstreams(Arc<[Upstream]>);

/// A configured provider.
struct Upstream {
    scheme: Scheme,
    authority: Authority,
    connections: Connections,
    /// The environment variable that holds its key, and what that says.
    key: Option<(String, String)>,
}

/// A request that the policy wants sent. Whether it may be was looked at.
pub(super) struct Order {
    upstream: usize,
    request: Request<Full<Bytes>>,
    connect: Duration,
    head: Duration,
    idle: Duration,
    deadline: Instant,
    /// The longest answer, where all of it is wanted.
    whole: Option<usize>,
}

/// What makes connections to providers, for every thread.
pub(super) fn connector(config: &Config) -> Result<Connector, RouterError> {
    let connect_timeout = Duration::from_millis(config.router.connect_timeout_ms);
    Ok(connections::connector(tls::connector(config)?, connect_timeout))
}

impl Upstreams {
    /// Those of the configuration. Their connections belong to the thread that uses this.
    pub(super) fn new(config: &Config, connector: &Connector) -> Result<Self, RouterError> {
        let mut by_origin = HashMap::new();
        let upstreams = config.upstreams.iter().map(|upstream| {
            // Their configuration was checked.
            let unusable = || RouterError::Upstream { url: upstream.url.clone() };
            let uri: Uri = upstream.url.parse().map_err(|_| unusable())?;
            let (Some(scheme), Some(authority)) = (uri.scheme().cloned(), uri.authority().cloned()) else {
                return Err(unusable());
            };
            let connections = by_origin
                .entry((scheme.clone(), authority.clone()))
                .or_insert_with(|| Connections::new(connector.clone()))
                .clone();
            let key = match &upstream.key_env {
                Some(variable) => Some((variable.clone(), key(variable)?)),
                None => None,
            };
            Ok(Upstream { scheme, authority, connections, key })
        });
        Ok(Self(upstreams.collect::<Result<_, _>>()?))
    }

    /// The request that the policy wants sent for a client's; `body` is the client's own.
    ///
    /// # Errors
    /// The policy wants what it may not: to send to somebody else, or somebody else's key.
    pub(super) fn order(
        &self,
        method: &Method,
        headers: &HeaderMap,
        body: &Bytes,
        send: contract::ProviderRequest,
    ) -> Result<Order, Broken> {
        let refuse = || Broken::Policy(format!("it wants to send to {}, which is no upstream", send.url));
        let place = send.upstream as usize;
        let upstream = self.0.get(place).ok_or_else(refuse)?;
        let uri: Uri = send.url.parse().map_err(|_| refuse())?;
        if uri.scheme() != Some(&upstream.scheme) || uri.authority() != Some(&upstream.authority) {
            return Err(refuse());
        }
        let mut headers = headers.clone();
        remove_hop_by_hop(&mut headers);
        headers.remove(HOST);
        change(&mut headers, &send.remove, &send.set)?;
        if let Some(OwnKey { variable, header, prefix }) = &send.key {
            let foreign = || Broken::Policy(format!("it wants a key that is not the upstream's: {variable}"));
            let (_, key) = upstream.key.as_ref().filter(|(own, _)| own == variable).ok_or_else(foreign)?;
            let name: HeaderName = header.parse().map_err(|_| foreign())?;
            let mut value = HeaderValue::from_str(&format!("{prefix}{key}")).map_err(|_| foreign())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let mut request = Request::new(Full::new(send.body.map_or_else(|| body.clone(), Bytes::from)));
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(Order {
            upstream: place,
            request,
            connect: Duration::from_millis(send.connect_ms),
            head: Duration::from_millis(send.head_ms),
            idle: Duration::from_millis(send.idle_ms),
            deadline: after(Duration::from_millis(send.total_ms)),
            whole: send.whole.then(|| usize::try_from(send.most_bytes).unwrap_or(usize::MAX)),
        })
    }

    /// Send it, and wait for the answer's head, or for all of the answer where that is wanted.
    pub(super) async fn send(&self, order: Order) -> Result<Answer, Failure> {
        let Order { upstream, mut request, connect, head, idle, deadline, whole } = order;
        let to = self.0[upstream].uri();
        let connections = &self.0[upstream].connections;
        let (response, sender) = loop {
            // Asking the registry may have taken all of it.
            if deadline <= Instant::now() {
                return Err(failure(FailureKind::Unsent, "the time for the request is over"));
            }
            let connecting = connections.get(&to);
            let sender = match timeout_at(deadline.min(after(connect)), connecting).await {
                Ok(Ok(sender)) => sender,
                Ok(Err(reason)) => return Err(failure(FailureKind::Unsent, reason)),
                Err(_) => return Err(failure(FailureKind::Unsent, "connecting took too long")),
            };
            let was_used = sender.was_used();
            match timeout_at(deadline.min(after(head)), sender.send(request)).await {
                Ok(Ok(answered)) => break answered,
                // It had been closed while nothing was sent: a new one will do.
                Ok(Err(Unsent::Whole(unsent, _))) if was_used => request = *unsent,
                Ok(Err(Unsent::Whole(_, reason))) => return Err(failure(FailureKind::Unsent, reason)),
                Ok(Err(Unsent::Not(reason))) => return Err(failure(FailureKind::Lost, reason)),
                Err(_) => return Err(failure(FailureKind::Slow, "the answer took too long to begin")),
            }
        };
        let (mut parts, body) = response.into_parts();
        remove_hop_by_hop(&mut parts.headers);
        let mut body = Body {
            incoming: body,
            idle,
            deadline,
            received: 0,
            sender: Some((sender, connections.clone())),
            timer: None,
        };
        body.give_back_if_ended();
        let mut answer =
            Answer { status: parts.status, headers: parts.headers, whole: Bytes::new(), body: None };
        match whole {
            Some(most) => answer.whole = body.whole(most).await?,
            None => answer.body = Some(body),
        }
        Ok(answer)
    }
}

impl Upstream {
    fn uri(&self) -> Uri {
        let mut parts = hyper::http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(hyper::http::uri::PathAndQuery::from_static("/"));
        // It has all three parts.
        Uri::from_parts(parts).unwrap_or_default()
    }
}

/// What an upstream's own key is.
fn key(variable: &str) -> Result<String, RouterError> {
    match std::env::var(variable) {
        Ok(key) if !key.is_empty() => Ok(key),
        _ => Err(RouterError::Key { variable: variable.into() }),
    }
}

/// So much later; a time that never comes is one in thirty years.
fn after(time: Duration) -> Instant {
    const LONG: Duration = Duration::from_secs(30 * 365 * 24 * 3_600);
    Instant::now() + time.min(LONG)
}

fn failure(kind: FailureKind, reason: impl Into<String>) -> Failure {
    Failure { kind, received_bytes: 0, reason: reason.into() }
}

/// A provider's answer, without what concerns its connection only.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// All of its body, where that was wanted.
    pub(super) whole: Bytes,
    /// Else its body, to be read.
    pub(super) body: Option<Body>,
}

/// The body of an answer. Read to its end it gives its connection back; dropped before, it closes it.
pub(super) struct Body {
    incoming: Incoming,
    idle: Duration,
    deadline: Instant,
    received: u64,
    sender: Option<(Sender, Connections)>,
    /// By when more must come, while it is waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Body {
    /// The next piece, at most `within` that time; none at the end.
    pub(super) async fn next(&mut self, within: Duration) -> Result<Option<Bytes>, Failure> {
        let by = self.deadline.min(after(within));
        loop {
            let frame = match timeout_at(by, self.incoming.frame()).await {
                Ok(frame) => frame,
                Err(_) => return Err(self.slow()),
            };
            match self.take(frame) {
                Ok(Some(bytes)) if bytes.is_empty() => {}
                taken => return taken,
            }
        }
    }

    /// What has come by now beside `first`, up to about `most` bytes: who is given it at once does less work
    /// than who is given each part of it.
    pub(super) fn more_at_once(&mut self, first: Bytes, most: usize) -> Bytes {
        let mut gathered = BytesMut::new();
        while gathered.len().max(first.len()) < most && !self.is_ended() {
            let mut frame = pin!(self.incoming.frame());
            let Poll::Ready(Some(Ok(frame))) =
                frame.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()))
            else {
                break;
            };
            let Ok(bytes) = frame.into_data() else { continue };
            self.received += bytes.len() as u64;
            if gathered.is_empty() {
                gathered.extend_from_slice(&first);
            }
            gathered.extend_from_slice(&bytes);
        }
        if gathered.is_empty() { first } else { gathered.freeze() }
    }

    /// All that is left of it.
    async fn whole(&mut self, most: usize) -> Result<Bytes, Failure> {
        let mut gathered = BytesMut::new();
        let mut first = Bytes::new();
        while let Some(bytes) = self.next(self.idle).await? {
            if bytes.len() > most - first.len().max(gathered.len()) {
                return Err(
                    self.failure(FailureKind::TooLong, format!("the answer is longer than {most} bytes"))
                );
            }
            if first.is_empty() && gathered.is_empty() {
                first = bytes;
                continue;
            }
            if gathered.is_empty() {
                gathered.extend_from_slice(&first);
            }
            gathered.extend_from_slice(&bytes);
        }
        Ok(if gathered.is_empty() { first } else { gathered.freeze() })
    }

    /// The next piece, at most as long as the answer may pause; none at the end.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Failure>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) {
            self.timer = None;
            return Poll::Ready(self.take(frame));
        }
        let by = self.deadline.min(after(self.idle));
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(by)));
        match timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(self.slow())),
            Poll::Pending => Poll::Pending,
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    fn take(
        &mut self,
        frame: Option<Result<http_body::Frame<Bytes>, hyper::Error>>,
    ) -> Result<Option<Bytes>, Failure> {
        match frame {
            None => {
                self.give_back();
                Ok(None)
            }
            Some(Ok(frame)) => {
                // Trailers are no part of the body.
                let bytes = frame.into_data().unwrap_or_default();
                self.received += bytes.len() as u64;
                Ok(Some(bytes))
            }
            Some(Err(error)) => Err(self.failure(FailureKind::Lost, connections::reason(&error))),
        }
    }

    fn give_back_if_ended(&mut self) {
        if self.is_ended() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Some((sender, connections)) = self.sender.take() {
            connections.give_back(sender);
        }
    }

    fn slow(&self) -> Failure {
        self.failure(FailureKind::Slow, "the answer paused for too long")
    }

    fn failure(&self, kind: FailureKind, reason: impl Into<String>) -> Failure {
        Failure { kind, received_bytes: self.received, reason: reason.into() }
    }
}
