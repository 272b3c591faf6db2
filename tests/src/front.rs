//! What stands between clients and a server, passes everything on, and knows what has passed.

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// It stops when it is dropped.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    passed: Log,
    /// There until it is dropped.
    runtime: Option<Runtime>,
}

/// A request that was passed on.
#[derive(Clone, Debug)]
pub struct Passed {
    /// Such as `POST`.
    pub method: String,
    /// Without its query.
    pub path: String,
    /// Their names in lower case; of several with the same name, the last.
    pub headers: BTreeMap<String, String>,
    /// As it was sent.
    pub body: Bytes,
    /// How it was answered; none as long as it was not.
    pub status: Option<u16>,
}

type Log = Arc<Mutex<Vec<Passed>>>;
type Server = Client<HttpConnector, Full<Bytes>>;

impl Front {
    /// Start one in front of the server at `http://HOST:PORT`, on a port of 127.0.0.1 that is free.
    ///
    /// # Errors
    /// What the system says of a new thread or a port.
    pub fn start(server: &str) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
        let address = listener.local_addr()?;
        let passed = Log::default();
        runtime.spawn(serve(listener, server.to_owned(), passed.clone()));
        Ok(Self { address, passed, runtime: Some(runtime) })
    }

    /// Where it listens, as `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What has passed, in the order in which it arrived.
    #[must_use]
    pub fn passed(&self) -> Vec<Passed> {
        lock(&self.passed).clone()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn lock(passed: &Log) -> MutexGuard<'_, Vec<Passed>> {
    passed.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, server: String, passed: Log) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    while let Ok((stream, _)) = listener.accept().await {
        // A delay at worst.
        let _ = stream.set_nodelay(true);
        let (client, server, passed) = (client.clone(), server.clone(), passed.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| pass(&client, &server, &passed, request));
            // A peer that goes away is no concern of anybody's.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn pass(
    client: &Server,
    server: &str,
    passed: &Log,
    request: Request<Incoming>,
) -> Result<Response<Either<Incoming, Empty<Bytes>>>, Infallible> {
    let failed = || {
        let mut response = Response::new(Either::Right(Empty::new()));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        Ok(response)
    };
    let (mut head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return failed() };
    let body = body.to_bytes();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let place = {
        let mut passed = lock(passed);
        passed.push(Passed {
            method: head.method.to_string(),
            path: head.uri.path().into(),
            headers: head
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
                .collect(),
            body: body.clone(),
            status: None,
        });
        passed.len() - 1
    };
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let Ok(uri) = format!("{server}{path}").parse::<Uri>() else { return failed() };
    head.uri = uri;
    let Ok(response) = client.request(Request::from_parts(head, Full::new(body))).await else {
        return failed();
    };
    lock(passed)[place].status = Some(response.status().as_u16());
    Ok(response.map(Either::Left))
}
