//! The providers: connections that are kept and shared, and nothing but the configured ones.

use super::RouterError;
use super::config::Config;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::uri::{Authority, Scheme};
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::error::Error as _;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, crypto};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// How long a connection may be idle before it is closed: less than providers' load balancers allow.
const IDLE_CONNECTION: Duration = Duration::from_secs(55);

/// How often a connection of HTTP/2 on which requests wait is asked whether it is alive.
const PING: Duration = Duration::from_secs(20);

/// The configured providers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Upstreams(Arc<Shared>);

struct Shared {
    client: Client<HttpsConnector<HttpConnector>, WasiBody>,
    allowed: Vec<(Scheme, Authority)>,
    connect_timeout: Duration,
    first_byte_timeout: Duration,
    idle_timeout: Duration,
}

impl Upstreams {
    pub(super) fn new(config: &Config) -> Result<Self, RouterError> {
        let connect_timeout = Duration::from_millis(config.router.connect_timeout_ms);
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(Duration::from_secs(60)));
        http.set_connect_timeout(Some(connect_timeout));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls(config)?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .http2_keep_alive_interval(PING)
            .http2_adaptive_window(true)
            .build(https);
        let allowed = config.upstreams.iter().filter_map(|upstream| {
            let parts = upstream.parts()?;
            let scheme = if parts.tls { Scheme::HTTPS } else { Scheme::HTTP };
            Some((scheme, parts.authority.parse().ok()?))
        });
        Ok(Self(Arc::new(Shared {
            client,
            allowed: allowed.collect(),
            connect_timeout,
            first_byte_timeout: Duration::from_millis(config.router.first_byte_timeout_ms),
            idle_timeout: Duration::from_millis(config.router.idle_timeout_ms),
        })))
    }

    /// What one request's instance sends through.
    pub(super) fn outgoing(&self) -> Outgoing {
        Outgoing { upstreams: self.clone(), sent: false }
    }

    fn allows<B>(&self, request: &Request<B>) -> bool {
        let (scheme, authority) = (request.uri().scheme(), request.uri().authority());
        self.0.allowed.iter().any(|(s, a)| Some(s) == scheme && Some(a) == authority)
    }

    async fn send(
        &self,
        mut request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<Response<WasiBody>, Error> {
        remove_hop_by_hop(request.headers_mut());
        // The guest asks for the configured times; the connector knows its own already.
        let timeout = options.connect_timeout.unwrap_or(self.0.connect_timeout)
            + options.first_byte_timeout.unwrap_or(self.0.first_byte_timeout);
        let idle = options.between_bytes_timeout.unwrap_or(self.0.idle_timeout);
        let mut response = tokio::time::timeout(timeout, self.0.client.request(request))
            .await
            .map_err(|_| Error::ConnectionReadTimeout)?
            .map_err(|error| from_client(&error))?;
        remove_hop_by_hop(response.headers_mut());
        Ok(response.map(|body| Answer { body, idle, deadline: None }.boxed_unsync()))
    }
}

/// TLS towards the providers: the usual authorities, and perhaps some more.
fn tls(config: &Config) -> Result<ClientConfig, RouterError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
    if let Some(path) = &config.upstream_ca {
        let unusable = |reason: String| RouterError::Certificate { path: path.clone(), reason };
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unusable(error.to_string()))?;
        if certificates.is_empty() {
            return Err(unusable("it holds no certificate".into()));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
    }
    Ok(ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(RouterError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// What an instance sends its requests through.
pub(super) struct Outgoing {
    upstreams: Upstreams,
    /// Whether it has sent one: tokens may be spent from then on.
    pub(super) sent: bool,
}

type Sent = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Outgoing {
    /// The client sets it, where the protocol has it.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        if !self.upstreams.allows(&request) {
            tracing::error!(uri = %request.uri(), "the router asked for what is no upstream");
            return Box::new(async { Err(Error::HttpRequestDenied) });
        }
        self.sent = true;
        let upstreams = self.upstreams.clone();
        Box::new(async move {
            let response = upstreams.send(request, options.unwrap_or_default()).await?;
            Ok((response, Box::new(async { Ok(()) }) as _))
        })
    }
}

/// Remove what concerns one connection only, and what `Connection` says does.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        header::CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

/// A provider's answer, which may not pause for too long.
struct Answer {
    body: Incoming,
    idle: Duration,
    /// Until when more must come, while it is waited for.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.deadline = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| from_hyper(&error))));
        }
        let idle = self.idle;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + idle)));
        deadline.as_mut().poll(context).map(|()| Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn from_hyper(error: &hyper::Error) -> Error {
    tracing::debug!(%error, "upstream");
    if error.is_timeout() {
        Error::ConnectionReadTimeout
    } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        Error::ConnectionTerminated
    } else {
        Error::HttpProtocolError
    }
}

fn from_client(error: &ClientError) -> Error {
    let causes = || std::iter::successors(error.source(), |&error| error.source());
    tracing::debug!(%error, cause = causes().last().map(tracing::field::display), "upstream");
    if !error.is_connect() {
        let hyper = causes().find_map(|cause| cause.downcast_ref::<hyper::Error>());
        return hyper.map_or(Error::HttpProtocolError, from_hyper);
    }
    if causes().any(|cause| cause.to_string().starts_with("dns error")) {
        return Error::DnsError { rcode: None, info_code: None };
    }
    let io = causes().filter_map(|cause| cause.downcast_ref::<io::Error>()).last();
    let tls = io.and_then(io::Error::get_ref).and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (tls, io.map(io::Error::kind)) {
        (Some(rustls::Error::InvalidCertificate(_)), _) => Error::TlsCertificateError,
        (Some(_), _) => Error::TlsProtocolError,
        (None, Some(io::ErrorKind::TimedOut)) => Error::ConnectionTimeout,
        (None, Some(io::ErrorKind::ConnectionRefused)) => Error::ConnectionRefused,
        (None, _) => Error::DestinationUnavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Empty;

    #[tokio::test]
    async fn nothing_but_the_configured_is_sent_to() {
        let config = Config::from_toml(r#"upstreams = [{ url = "https://Example.com/openai/v1" }]"#).unwrap();
        let upstreams = Upstreams::new(&config).unwrap();
        let request =
            |uri: &str| Request::post(uri).body(Empty::new().map_err(Error::from).boxed_unsync()).unwrap();
        assert!(upstreams.allows(&request("https://example.com/openai/v1/models")));
        for uri in ["http://example.com/", "https://example.com:8443/", "https://example.com.evil/", "/v1"] {
            assert!(!upstreams.allows(&request(uri)), "{uri}");
            let mut outgoing = upstreams.outgoing();
            let sent = outgoing.send_request(request(uri), None, Box::new(async { Ok(()) }));
            assert!(matches!(Pin::from(sent).await, Err(Error::HttpRequestDenied)));
            assert!(!outgoing.sent);
        }
    }

    #[test]
    fn what_concerns_one_connection_is_not_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("keep-alive", "5"),
            ("authorization", "Bearer a"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["authorization"]);
    }
}
