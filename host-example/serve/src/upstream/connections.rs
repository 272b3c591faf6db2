//! Connections to one provider: made when there is none, kept while they are idle, shared where they are HTTP/2.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::collections::VecDeque;
use std::error::Error as StdError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_rustls::rustls::ClientConfig;
use tower_service::Service;

/// How long a connection may be idle before it is closed: less than providers' load balancers allow.
const IDLE: Duration = Duration::from_secs(55);

/// How often a connection of HTTP/2 on which requests wait is asked whether it is alive.
const PING: Duration = Duration::from_secs(20);

/// How often the system asks the other end of an idle connection whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// What makes connections: by name or address, over TLS or not.
pub(crate) type Connector = HttpsConnector<HttpConnector>;

/// One that asks for HTTP/2 where TLS is spoken.
pub(crate) fn connector(tls: ClientConfig, connect_timeout: Duration) -> Connector {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_keepalive(Some(KEEPALIVE));
    http.set_connect_timeout(Some(connect_timeout));
    HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(http)
}

/// The connections to one provider. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connections(Arc<Inner>);

struct Inner {
    connector: Connector,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// With since when they are idle, the longest first.
    idle: VecDeque<(Instant, http1::SendRequest<Full<Bytes>>)>,
    shared: Option<http2::SendRequest<Full<Bytes>>>,
}

/// What sends a request on a connection.
pub(super) enum Sender {
    /// The whole connection, and whether it has been used before.
    Http1(http1::SendRequest<Full<Bytes>>, bool),
    /// A part of one, and whether others have used it.
    Http2(http2::SendRequest<Full<Bytes>>, bool),
}

/// Why a request got no answer.
pub(super) enum Unsent {
    /// Nothing of it was sent.
    Whole(Box<Request<Full<Bytes>>>, String),
    /// Some of it may have been.
    Not(String),
}

impl Connections {
    pub(super) fn new(connector: Connector) -> Self {
        Self(Arc::new(Inner { connector, kept: Mutex::default() }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One to send a request on: kept, or new. The error says why there is none.
    pub(super) async fn get(&self, to: &Uri) -> Result<Sender, String> {
        if let Some(shared) = self.shared() {
            return Ok(Sender::Http2(shared, true));
        }
        while let Some(mut idle) = self.latest() {
            // It may still be busy with the end of the last answer.
            if idle.ready().await.is_ok() {
                return Ok(Sender::Http1(idle, true));
            }
        }
        self.connect(to).await
    }

    fn shared(&self) -> Option<http2::SendRequest<Full<Bytes>>> {
        let mut kept = self.kept();
        kept.shared.take_if(|shared| shared.is_closed());
        kept.shared.clone()
    }

    fn latest(&self) -> Option<http1::SendRequest<Full<Bytes>>> {
        let mut kept = self.kept();
        while kept.idle.front().is_some_and(|(since, sender)| since.elapsed() > IDLE || sender.is_closed()) {
            kept.idle.pop_front();
        }
        kept.idle.pop_back().map(|(_, sender)| sender)
    }

    async fn connect(&self, to: &Uri) -> Result<Sender, String> {
        let stream = self.0.connector.clone().call(to.clone()).await.map_err(|error| reason(&*error))?;
        if stream.connected().is_negotiated_h2() {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(PING)
                .adaptive_window(true)
                .handshake(stream)
                .await
                .map_err(|error| reason(&error))?;
            tokio::spawn(connection);
            self.kept().shared = Some(sender.clone());
            return Ok(Sender::Http2(sender, false));
        }
        let (sender, connection) = http1::handshake(stream).await.map_err(|error| reason(&error))?;
        tokio::spawn(connection);
        Ok(Sender::Http1(sender, false))
    }

    /// The answer to its last request was read to its end.
    pub(super) fn give_back(&self, sender: Sender) {
        if let Sender::Http1(sender, _) = sender
            && !sender.is_closed()
        {
            let mut kept = self.kept();
            kept.idle.push_back((Instant::now(), sender));
        }
    }
}

impl Sender {
    /// Whether its other end may have closed it by now.
    pub(super) fn was_used(&self) -> bool {
        matches!(self, Self::Http1(_, true) | Self::Http2(_, true))
    }

    /// Send a request, and wait for the head of its answer.
    pub(super) async fn send(
        mut self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Self), Unsent> {
        let sent = match &mut self {
            Self::Http1(sender, _) => {
                name_host(&mut request);
                sender.try_send_request(request).await
            }
            Self::Http2(sender, _) => sender.try_send_request(request).await,
        };
        match sent {
            Ok(response) => Ok((response, self)),
            Err(mut error) => Err(unsent(&mut error)),
        }
    }
}

/// HTTP/1 says to whom it speaks in a header, and asks for a path.
fn name_host(request: &mut Request<Full<Bytes>>) {
    let uri = request.uri().clone();
    if let Some(host) = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
        request.headers_mut().insert(HOST, host);
        let path = uri.path_and_query().cloned().map(Uri::from);
        *request.uri_mut() = path.unwrap_or_default();
    }
}

fn unsent(error: &mut TrySendError<Request<Full<Bytes>>>) -> Unsent {
    let unsent = error.take_message();
    let reason = reason(error.error());
    match unsent {
        Some(request) => Unsent::Whole(Box::new(request), reason),
        None => Unsent::Not(reason),
    }
}

/// What is behind an error, which is where it says what happened.
pub(super) fn reason(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
