//! Providers that answer what they are told to, and keep what they got.

use crate::case::{Answer, Body};
use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

/// A request that a provider got.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) upstream: usize,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What is to be answered, and what was asked.
#[derive(Clone, Default)]
pub(crate) struct Script(Arc<Mutex<(VecDeque<Answer>, Vec<Got>)>>);

impl Script {
    pub(crate) fn answer(&self, answers: Vec<Answer>) {
        self.0.lock().unwrap().0.extend(answers);
    }

    /// Answers that nobody asked for, and what was asked since the last time.
    pub(crate) fn take(&self) -> (usize, Vec<Got>) {
        let mut script = self.0.lock().unwrap();
        (script.0.drain(..).count(), script.1.drain(..).collect())
    }

    /// Start provider `number`, and tell its URL.
    pub(crate) async fn start(&self, number: usize) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = self.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let script = script.clone();
                let service = service_fn(move |request| script.clone().serve(number, request));
                tokio::spawn(async move {
                    let connection = Builder::new(TokioExecutor::new());
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        url
    }

    async fn serve(
        self,
        upstream: usize,
        request: Request<Incoming>,
    ) -> Result<Response<Channel<Bytes, io::Error>>, io::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let answer = {
            let mut script = self.0.lock().unwrap();
            let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
            script.1.push(Got { upstream, path, headers: head.headers, body });
            script.0.pop_front()
        };
        let (mut sender, body) = Channel::new(1);
        let Some(answer) = answer else {
            return Ok(Response::builder().status(599).body(body).expect("it is a response"));
        };
        if answer.breaks && matches!(answer.body, Body::None) {
            return Err(io::Error::other("it breaks"));
        }
        let mut response = Response::builder().status(answer.status);
        if let Some(kind) = answer.body.content_type() {
            response = response.header(CONTENT_TYPE, kind);
        }
        for (name, value) in &answer.headers {
            response = response.header(name, value);
        }
        tokio::spawn(async move {
            let _ = sender.send_data(answer.body.bytes().into()).await;
            tokio::time::sleep(Duration::from_millis(answer.pause_ms)).await;
            if answer.breaks {
                sender.abort(io::Error::other("it breaks"));
            }
        });
        Ok(response.body(body).expect("it is a response"))
    }
}
