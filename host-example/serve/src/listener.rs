//! Connections of agents, and what is turned away before an instance is spent on it.

use super::RouterError;
use super::config::{Config, Tls};
use super::reply::{Body, Failure};
use super::sandbox::Sandbox;
use super::upstream::remove_hop_by_hop;
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;

/// The longest head of a request, in bytes, and the most headers in it.
const LONGEST_HEAD: usize = 64 << 10;
const MOST_HEADERS: usize = 128;

/// The most requests at a time on one connection of HTTP/2.
const MOST_STREAMS: u32 = 256;

/// How often an HTTP/2 client is asked whether it is there.
const PING: Duration = Duration::from_secs(20);

/// How long to wait when the machine cannot take another connection.
const PAUSE: Duration = Duration::from_millis(50);

/// What serves connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Server {
    sandbox: Sandbox,
    tls: Option<TlsAcceptor>,
    http: Builder<TokioExecutor>,
    requests: Arc<Semaphore>,
    header_timeout: Duration,
}

impl Server {
    /// `requests` has a permit for each that may be served at a time.
    pub(super) fn new(
        config: &Config,
        sandbox: Sandbox,
        requests: Arc<Semaphore>,
    ) -> Result<Self, RouterError> {
        let mut http = Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(config.header_timeout())
            .max_buf_size(LONGEST_HEAD)
            .max_headers(MOST_HEADERS);
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MOST_STREAMS)
            .max_header_list_size(LONGEST_HEAD as u32)
            .keep_alive_interval(PING)
            .adaptive_window(true);
        let tls = config.tls.as_ref().map(acceptor).transpose()?;
        Ok(Self { sandbox, tls, http, requests, header_timeout: config.header_timeout() })
    }

    /// Accept connections until `stop` turns true, then let those that are busy finish what they do.
    pub(super) async fn serve(self, listener: TcpListener, most: u32, mut stop: watch::Receiver<bool>) {
        let connections = Arc::new(Semaphore::new(most as usize));
        loop {
            let next = async {
                let permit = connections.clone().acquire_owned().await;
                (accept(&listener).await, permit)
            };
            let (stream, permit) = tokio::select! {
                next = next => next,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let (server, stop) = (self.clone(), stop.clone());
            tokio::spawn(async move {
                server.connection(stream, stop).await;
                drop(permit);
            });
        }
        drop(listener);
        let _ = connections.acquire_many(most).await;
    }

    async fn connection(self, stream: TcpStream, stop: watch::Receiver<bool>) {
        // Without it answers only come later.
        let _ = stream.set_nodelay(true);
        let Some(acceptor) = &self.tls else {
            return self.exchange(stream, Scheme::Http, stop).await;
        };
        match tokio::time::timeout(self.header_timeout, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => self.exchange(stream, Scheme::Https, stop).await,
            Ok(Err(error)) => tracing::debug!(%error, "a client's TLS"),
            Err(_) => tracing::debug!("a client took too long over TLS"),
        }
    }

    async fn exchange<S>(&self, stream: S, scheme: Scheme, mut stop: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let begun = AtomicBool::new(false);
        let service = service_fn(|request| {
            begun.store(true, Ordering::Relaxed);
            let (server, scheme) = (self.clone(), scheme.clone());
            async move { Ok::<_, Infallible>(server.answer(scheme, request).await) }
        });
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), service));
        // hyper's own timeout begins when it knows which HTTP the client speaks.
        let mut silence = pin!(tokio::time::sleep(self.header_timeout));
        let (mut silent, mut stopping) = (true, false);
        let result = loop {
            tokio::select! {
                result = connection.as_mut() => break result,
                () = silence.as_mut(), if silent => {
                    silent = false;
                    if !begun.load(Ordering::Relaxed) {
                        return tracing::debug!("a client sent no request");
                    }
                }
                _ = stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(error, "a client's connection");
        }
    }

    async fn answer(&self, scheme: Scheme, mut request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let answer = async {
            check(&request)?;
            remove_hop_by_hop(request.headers_mut());
            let permit = self.requests.clone().try_acquire_owned().map_err(|_| Failure::Overloaded)?;
            self.sandbox.handle(scheme, request, permit).await
        };
        answer.await.unwrap_or_else(|failure| failure.reply(&path))
    }
}

/// The next connection. What keeps the machine from taking one passes.
pub(super) async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Whether an instance can be given it.
fn check(request: &Request<Incoming>) -> Result<(), Failure> {
    if request.method() == Method::CONNECT {
        return Err(Failure::BadRequest("this is no proxy"));
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next(), request.uri().authority()) {
        (_, Some(_), _) => Err(Failure::BadRequest("there is more than one host header")),
        (Some(host), None, _) if host.to_str().is_err() => {
            Err(Failure::BadRequest("the host header is no host"))
        }
        (None, None, None) => Err(Failure::BadRequest("there is no host header")),
        _ => Ok(()),
    }
}

fn acceptor(tls: &Tls) -> Result<TlsAcceptor, RouterError> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |error: pem::Error| RouterError::Certificate { path, reason: error.to_string() }
    };
    let certificates = CertificateDer::pem_file_iter(&tls.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unusable(&tls.cert))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(unusable(&tls.key))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
        .map_err(RouterError::Tls)?;
    config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
