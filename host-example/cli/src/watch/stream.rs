//! The admin side's events, as they come, over connections that may break.

use super::super::Failure;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::time::Duration;
use thread_budget_serve::admin::Live;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// The router says something every 15 seconds; who is silent for longer is gone.
const SILENCE: Duration = Duration::from_secs(40);

/// How long a connection is left alone after it broke.
const PAUSE: Duration = Duration::from_secs(1);

/// More than any event takes, in bytes.
const MAX_EVENT: usize = 64 << 20;

pub(super) enum Update {
    Connected,
    Event {
        event: Box<Live>,
        /// As it came, JSON in one line.
        data: String,
    },
    /// There is no connection, for that reason; it is tried again.
    Lost(String),
    /// The router does not want this watcher.
    Refused(String),
}

pub(super) struct Source {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    uri: Uri,
    authorization: Option<HeaderValue>,
}

/// Why a connection ended.
enum End {
    Lost(String),
    Refused(String),
    /// Nobody takes the updates any more.
    Unwanted,
}

impl Source {
    pub(super) fn new(url: &str, token: Option<&str>) -> Result<Self, Failure> {
        let uri: Uri = format!("{}/events", url.trim_end_matches('/'))
            .parse()
            .ok()
            .filter(|uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")))
            .ok_or_else(|| {
                Failure::Input(format!("{url} is no address that starts with http:// or https://"))
            })?;
        let authorization = token.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| Failure::Input("the admin token cannot be sent in a header".into()))?;
            value.set_sensitive(true);
            Ok::<_, Failure>(value)
        });
        let connector =
            HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, uri, authorization: authorization.transpose()? })
    }

    /// Send updates until nobody takes them or the router refuses.
    pub(super) async fn follow(self, updates: mpsc::Sender<Update>) {
        loop {
            let update = match self.connect(&updates).await {
                End::Lost(reason) => Update::Lost(reason),
                End::Refused(reason) => {
                    // It may find nobody, which is as well.
                    let _ = updates.send(Update::Refused(reason)).await;
                    return;
                }
                End::Unwanted => return,
            };
            if updates.send(update).await.is_err() {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    async fn connect(&self, updates: &mpsc::Sender<Update>) -> End {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uri.clone();
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        let response = match timeout(SILENCE, self.client.request(request)).await {
            Ok(Ok(response)) if response.status() == StatusCode::OK => response,
            Ok(Ok(response)) => return refusal(response).await,
            Ok(Err(error)) => return End::Lost(format!("no connection to {}: {}", self.uri, causes(&error))),
            Err(_) => return End::Lost(format!("{} does not answer", self.uri)),
        };
        if updates.send(Update::Connected).await.is_err() {
            return End::Unwanted;
        }
        let mut body = response.into_body();
        let mut events = EventStream::default();
        loop {
            let bytes = match timeout(SILENCE, body.frame()).await {
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Ok(Some(Err(error))) => {
                    return End::Lost(format!("the connection broke: {}", causes(&error)));
                }
                Ok(None) => return End::Lost("the router ended the connection".into()),
                Err(_) => return End::Lost("the router fell silent".into()),
            };
            events.push(&bytes);
            while let Some(data) = events.next_data() {
                let event = match serde_json::from_str(&data) {
                    Ok(event) => Box::new(event),
                    Err(error) => {
                        return End::Refused(format!("this is no admin side of this version: {error}"));
                    }
                };
                if updates.send(Update::Event { event, data }).await.is_err() {
                    return End::Unwanted;
                }
            }
            if events.0.len() > MAX_EVENT {
                return End::Refused("this is no admin side: an event does not end".into());
            }
        }
    }
}

/// What an answer that is no stream means.
async fn refusal(response: Response<Incoming>) -> End {
    let status = response.status();
    let body = timeout(SILENCE, http_body_util::Limited::new(response.into_body(), 64 << 10).collect()).await;
    let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = json["error"]["message"].as_str().unwrap_or("it says no more");
    let reason = format!("the router answers {status}: {message}");
    // Overload passes.
    if status.is_server_error() { End::Lost(reason) } else { End::Refused(reason) }
}

/// An error with what is behind it, which is where the reason is.
fn causes(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Takes the data of server-sent events out of bytes.
#[derive(Default)]
struct EventStream(Vec<u8>);

impl EventStream {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The data of the next event that is there whole. Comments have none.
    fn next_data(&mut self) -> Option<String> {
        while let Some(end) = self.0.windows(2).position(|pair| pair == b"\n\n") {
            let frame: Vec<u8> = self.0.drain(..end + 2).collect();
            let text = String::from_utf8_lossy(&frame);
            let lines: Vec<_> = text
                .lines()
                .filter_map(|line| line.strip_prefix("data:"))
                .map(|data| data.strip_prefix(' ').unwrap_or(data))
                .collect();
            if !lines.is_empty() {
                return Some(lines.join("\n"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_the_bytes_are_cut() {
        let bytes =
            ":\n\nevent: thread\ndata: {\"a\":\"ü\"}\n\n:\n\ndata:1\ndata: 2\n\nevent: none\n\ndata: cut";
        for size in 1..bytes.len() {
            let mut stream = EventStream::default();
            let mut found = Vec::new();
            for part in bytes.as_bytes().chunks(size) {
                stream.push(part);
                found.extend(std::iter::from_fn(|| stream.next_data()));
            }
            assert_eq!(found, ["{\"a\":\"ü\"}", "1\n2"], "in parts of {size}");
        }
    }

    #[test]
    fn an_address_is_one_of_http() {
        for wrong in ["localhost:8081", "ftp://localhost", "http://", ""] {
            assert!(Source::new(wrong, None).is_err(), "{wrong}");
        }
        let source = Source::new("http://localhost:8081/", Some("secret")).map_err(|_| ()).unwrap();
        assert_eq!(source.uri, "http://localhost:8081/events");
    }
}
