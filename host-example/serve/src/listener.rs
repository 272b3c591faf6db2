//! Connections of agents, and what is turned away before an exchange is begun.

use super::RouterError;
use super::client::Body;
use super::config::Config;
use super::connections::{Connections, Place};
use super::exchange::Exchanges;
use super::reply::Reply;
use super::tls;
use super::workers::Workers;
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// The longest head of a request, in bytes, and the most headers in it.
const LONGEST_HEAD: usize = 64 << 10;
const MOST_HEADERS: usize = 128;

/// The most requests at a time on one connection of HTTP/2.
const MOST_STREAMS: u32 = 256;

/// How often an HTTP/2 client is asked whether it is there.
const PING: Duration = Duration::from_secs(20);

/// How long to wait when the machine cannot take another connection.
const PAUSE: Duration = Duration::from_millis(50);

/// Have the workers serve connections until `stop` turns true, and wait for the last of them to end.
pub(super) async fn listen(
    listener: TcpListener,
    workers: &Workers,
    connections: Connections,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let next = async {
            let stream = accept(&listener).await;
            (stream, connections.place().await)
        };
        let (stream, place) = tokio::select! {
            next = next => next,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match stream.into_std() {
            Ok(stream) => workers.serve(stream, place),
            Err(error) => tracing::warn!(%error, "cannot pass a connection on"),
        }
    }
    drop(listener);
    connections.gone().await;
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

/// What serves connections, in one of this process's threads. Cheap to clone.
#[derive(Clone)]
pub(super) struct Server {
    exchanges: Exchanges,
    tls: Option<TlsAcceptor>,
    http: Builder<TokioExecutor>,
    header_timeout: Duration,
}

impl Server {
    pub(super) fn new(config: &Config, exchanges: Exchanges) -> Result<Self, RouterError> {
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
        let tls = config.tls.as_ref().map(|tls| tls::acceptor(tls, &["h2", "http/1.1"])).transpose()?;
        Ok(Self { exchanges, tls, http, header_timeout: config.header_timeout() })
    }

    /// Serve a connection until it ends, has to go, or `stop` turns true and what it is busy with is done.
    pub(super) async fn connection(
        self,
        stream: std::net::TcpStream,
        place: Place,
        stop: watch::Receiver<bool>,
    ) {
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => return tracing::warn!(%error, "cannot take a connection over"),
        };
        // Without it answers only come later.
        let _ = stream.set_nodelay(true);
        let place = Arc::new(place);
        let serve = async {
            let Some(acceptor) = &self.tls else { return self.serve(stream, &place, stop).await };
            match tokio::time::timeout(self.header_timeout, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => self.serve(stream, &place, stop).await,
                Ok(Err(error)) => tracing::debug!(%error, "a client's TLS"),
                Err(_) => tracing::debug!("a client took too long over TLS"),
            }
        };
        tokio::select! {
            () = serve => {}
            () = place.evicted() => tracing::debug!("a client has said nothing, and another has come"),
        }
    }

    async fn serve<S>(&self, stream: S, place: &Arc<Place>, mut stop: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let begun = AtomicBool::new(false);
        let service = service_fn(|request| {
            begun.store(true, Ordering::Relaxed);
            let (exchanges, place) = (self.exchanges.clone(), place.clone());
            async move { Ok::<_, Infallible>(answer(&exchanges, request, &place).await) }
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
}

async fn answer(exchanges: &Exchanges, request: Request<Incoming>, place: &Place) -> Response<Body> {
    match check(&request) {
        Ok(()) => exchanges.answer(request, place).await,
        Err(reply) => reply.response(request.uri().path()),
    }
}

/// Whether it is a request that a policy can decide on.
fn check(request: &Request<Incoming>) -> Result<(), Reply> {
    if request.method() == Method::CONNECT {
        return Err(Reply::BadRequest("this is no proxy"));
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next(), request.uri().authority()) {
        (_, Some(_), _) => Err(Reply::BadRequest("there is more than one host header")),
        (Some(host), None, _) if host.to_str().is_err() => {
            Err(Reply::BadRequest("the host header is no host"))
        }
        (None, None, None) => Err(Reply::BadRequest("there is no host header")),
        _ => Ok(()),
    }
}
