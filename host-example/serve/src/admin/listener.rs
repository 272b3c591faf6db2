//! Connections of operators: none shuts the others out.
//!
//! There may be so many at a time; when another comes, the one goes that has waited longest for its client. One
//! whose request is still on its way waits, as one does whose client gives a wrong token.

use super::{Error, MAX_BODY, Shared, guard};
use crate::connections::{Connections, Place, Work};
use crate::listener::accept;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// The most connections at a time, watchers among them.
const MAX_CONNECTIONS: usize = 256;

/// How long TLS, a request's head and its body may take to arrive, each, and the next request of a connection.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);

/// Serve until the future is dropped; connections end with it.
pub(super) async fn listen(listener: TcpListener, router: Router, tls: Option<TlsAcceptor>) {
    let server = Server { service: TowerToHyperService::new(router), tls };
    let places = Connections::new(MAX_CONNECTIONS);
    let mut connections = JoinSet::new();
    loop {
        let stream = accept(&listener).await;
        let place = places.place().await;
        connections.spawn(server.clone().connection(stream, place));
        while connections.try_join_next().is_some() {}
    }
}

#[derive(Clone)]
struct Server {
    service: TowerToHyperService<Router>,
    tls: Option<TlsAcceptor>,
}

impl Server {
    async fn connection(self, stream: TcpStream, place: Place) {
        let place = Arc::new(place);
        let serve = async {
            let Some(acceptor) = &self.tls else { return self.serve(stream, &place).await };
            // Whoever speaks something else, or nothing, has failed at it.
            if let Ok(Ok(stream)) = timeout(ARRIVES_WITHIN, acceptor.accept(stream)).await {
                self.serve(stream, &place).await;
            }
        };
        tokio::select! {
            () = serve => {}
            () = place.evicted() => {}
        }
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin, place: &Arc<Place>) {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(ARRIVES_WITHIN);
        let service = service_fn(|mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(place.clone());
            self.service.call(request)
        });
        // What a client does wrong concerns nobody else.
        let _ = http.serve_connection(TokioIo::new(stream), service).await;
    }
}

/// Let a request in that may ask, once it is there; from then on its connection stays until it is answered.
pub(super) async fn let_in(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let (head, body) = request.into_parts();
    guard::check(&shared, &head).await?;
    let body = timeout(ARRIVES_WITHIN, to_bytes(body, MAX_BODY)).await;
    let body = body.map_err(|_| Error::SlowBody)?.map_err(|_| Error::LongBody)?;
    let work = head.extensions.get::<Arc<Place>>().map(|place| place.work());
    let response = next.run(Request::from_parts(head, body.into())).await;
    Ok(response.map(|body| Body::new(Answering { body, _work: work })))
}

/// The body of an answer, whose connection works until it is over.
struct Answering {
    body: Body,
    _work: Option<Work>,
}

impl http_body::Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
