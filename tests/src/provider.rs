//! A stand-in for LLM providers, which answers as OpenAI and Anthropic do, and can be told to misbehave.
//!
//! `POST /v1/chat/completions`, `POST /v1/responses` and `POST /v1/messages` answer as JSON or as a stream, `GET
//! /v1/models` lists some models. An answer is words that are the same every time; a word is a token, and so are every
//! four characters of the strings in what the model reads, the descriptions of tools included. What is billed is what the answer's usage says.
//!
//! The model's name is what the stub does. Whatever comes before `stub` is ignored, so that models can be
//! routed by their first letters; parts after it go together, as in `gpt-stub-slow-20ms-words-500`.
//!
//! | part | what it does |
//! |---|---|
//! | `stub` | 16 words, or as many as the request's maximum of output tokens if that is less |
//! | `-words-N` | N words instead of 16 |
//! | `-thinks-N` | N tokens before them that are not shown, within the request's maximum; the usage tells them |
//! | `-slow-Nms` | a pause of N milliseconds before an answer that is no stream, and before every event of one |
//! | `-no-usage` | no usage in the answer |
//! | `-clock` | before every event of a stream, a comment `: sent N` with the microseconds since 1970 |
//! | `-tool` | calls the request's first tool; once the last message is a tool's result, it answers |
//! | `-steps-N` | runs a command, by the tool that does, until the conversation has N results; then it answers |
//! | `-fleet-N` | starts N sub-agents at once, by the tool that does; they and then it do what the rest of the name says |
//! | `-agent` | `CONTINUE` ends a step; `FINISH` a summary, when it reads that its budget would not last for two more |
//! | `-overlong` | twice as many words as the request allows |
//! | `-endless` | never ends: words every millisecond, or white space when it is no stream |
//! | `-error-N` | status N in the provider's form of an error |
//! | `-retry-after-N` | a header `retry-after: N` on that error |
//! | `-fail-twice` | status 503 twice for the same body, then it answers |
//! | `-drop` | the connection is closed without an answer |
//! | `-broken-json` | half of the JSON, or half of an event's |
//! | `-broken-stream` | the connection dies after three words, or within the body when it is no stream |
//! | `-chunk-bomb` | one line of 64 MiB |
//!
//! `GET /stub/requests` tells what was asked, as a list of [`Received`]; `DELETE /stub/requests` forgets
//! that and what was counted. `GET /stub/stats` tells what was counted, as [`Stats`].

mod answer;
mod behaviour;
mod chat;
mod messages;
mod responses;

use answer::{Answer, Asked};
use behaviour::{Behaviour, Course};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, channel::Channel, channel::Sender, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{io, iter};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::time::sleep;

/// How many bytes the line of a chunk bomb has.
pub const CHUNK_BOMB_BYTES: usize = 64 << 20;

/// A running stub. It stops when it is dropped.
#[derive(Debug)]
pub struct Provider {
    address: SocketAddr,
    state: Arc<State>,
    /// There until it is dropped.
    runtime: Option<Runtime>,
}

/// How much a stub does for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// All that this module says.
    Everything,
    /// Any `POST` gets the same chat completion, unread and unrecorded, to measure what is in front of it.
    Least,
}

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Received {
    /// Such as `POST`.
    pub method: String,
    /// With its query.
    pub path: String,
    /// Their names in lower case; of several with the same name, the last.
    pub headers: BTreeMap<String, String>,
    /// JSON, or a string when it is none.
    pub body: Value,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Stats {
    /// Requests below `/v1`.
    pub requests: u64,
    /// How many requests were being answered at the same time, at most.
    pub concurrent_maximum: u64,
    /// All tokens.
    pub billed: Billed,
    /// Those of each end user: the field `user`, or Anthropic's `metadata.user_id`.
    pub users: BTreeMap<String, Billed>,
}

/// What a provider would send an invoice for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Billed {
    /// Answers, also those that were not finished.
    pub answers: u64,
    /// Tokens that were read, cached ones included.
    pub prompt_tokens: u64,
    /// Tokens that were written, also those of a stream that its reader left.
    pub completion_tokens: u64,
}

impl Provider {
    /// Start one with a thread of its own, on a port of 127.0.0.1 that is free.
    ///
    /// # Errors
    /// What the system says of a new thread or a port.
    pub fn start() -> io::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), Work::Everything)
    }

    /// Start one with a thread of its own.
    ///
    /// # Errors
    /// What the system says of a new thread or of the address.
    pub fn start_at(address: SocketAddr, work: Work) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(address))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { work, memory: Mutex::default() });
        runtime.spawn(serve(listener, state.clone()));
        Ok(Self { address, state, runtime: Some(runtime) })
    }

    /// Where it listens, as `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.state.memory().requests.clone()
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.state.memory().stats.clone()
    }

    /// Forget requests and counts.
    pub fn clear(&self) {
        self.state.memory().clear();
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Debug)]
struct State {
    work: Work,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    requests: Vec<Received>,
    stats: Stats,
    answering: u64,
    /// How often `fail-twice` has failed, by the request's body.
    failures: HashMap<Bytes, u32>,
}

impl Memory {
    fn clear(&mut self) {
        *self = Self { answering: self.answering, ..Self::default() };
    }
}

impl State {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bill(&self, user: Option<&str>, billed: Billed) {
        let stats = &mut self.memory().stats;
        let of_user = user.map(|user| stats.users.entry(user.into()).or_default());
        for total in iter::once(&mut stats.billed).chain(of_user) {
            total.answers += billed.answers;
            total.prompt_tokens += billed.prompt_tokens;
            total.completion_tokens += billed.completion_tokens;
        }
    }
}

/// A request that is being answered, until it is dropped.
struct Answering(Arc<State>);

impl Answering {
    fn start(state: &Arc<State>) -> Self {
        let mut memory = state.memory();
        memory.answering += 1;
        memory.stats.requests += 1;
        memory.stats.concurrent_maximum = memory.stats.concurrent_maximum.max(memory.answering);
        Self(state.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.memory().answering -= 1;
    }
}

/// A provider's form of requests, answers and errors.
trait Dialect: Sync {
    /// What a request asks for.
    fn read(&self, body: &Value) -> Asked;

    /// An answer that is no stream.
    fn whole(&self, answer: &Answer) -> Value;

    /// An answer as a stream.
    fn events<'a>(&self, answer: &'a Answer) -> Box<dyn Iterator<Item = Event> + Send + 'a>;

    /// An error's body. The kind is the provider's word for it, such as `server_error`.
    fn error(&self, status: StatusCode, message: &str) -> Value;
}

/// An event of a stream.
struct Event {
    /// As it is sent, with the empty line after it.
    text: String,
    /// How many tokens the answer is longer by it.
    tokens: u64,
}

/// The connection is to die now.
#[derive(Debug, thiserror::Error)]
#[error("as the model's name says")]
struct Dies;

type Body = BoxBody<Bytes, Dies>;

async fn serve(listener: TcpListener, state: Arc<State>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Out of file descriptors: some are closed soon.
            Err(_) => {
                sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        // A delay at worst.
        let _ = stream.set_nodelay(true);
        let state = state.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| respond(&state, request));
            // A peer that goes away is no concern of a stub.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn respond(state: &Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, Dies> {
    let (head, body) = request.into_parts();
    let stub_path = head.uri.path().strip_prefix("/stub/");
    match (&head.method, stub_path) {
        (&Method::GET, Some("requests")) => return Ok(json_of(StatusCode::OK, &state.memory().requests)),
        (&Method::DELETE, Some("requests")) => {
            state.memory().clear();
            return Ok(json_of(StatusCode::OK, &json!({})));
        }
        (&Method::GET, Some("stats")) => return Ok(json_of(StatusCode::OK, &state.memory().stats)),
        _ => {}
    }

    let answering = Answering::start(state);
    let body = body.collect().await.map_err(|_| Dies)?.to_bytes();
    if state.work == Work::Least {
        return Ok(least());
    }
    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    state.memory().requests.push(received(&head.method, path, &head.headers, &body));
    let dialect: &dyn Dialect = match (&head.method, head.uri.path()) {
        (&Method::POST, "/v1/chat/completions") => &chat::Chat,
        (&Method::POST, "/v1/responses") => &responses::Responses,
        (&Method::POST, "/v1/messages") => &messages::Messages,
        (&Method::GET, "/v1/models") => return Ok(json_of(StatusCode::OK, &models())),
        (method, path) => {
            let message = format!("Unknown request URL: {method} {path}");
            return Ok(json_of(StatusCode::NOT_FOUND, &chat::Chat.error(StatusCode::NOT_FOUND, &message)));
        }
    };
    Answerer { answering, dialect, body }.respond().await
}

/// A chat completion that was made once.
fn least() -> Response<Body> {
    static BODY: std::sync::LazyLock<Bytes> = std::sync::LazyLock::new(|| {
        let body = json!({"model": "stub", "messages": [{"role": "user", "content": "x".repeat(2_000)}]});
        let answer = Answer::new(chat::Chat.read(&body), 64);
        chat::Chat.whole(&answer).to_string().into()
    });
    plain(StatusCode::OK, BODY.clone())
}

/// Somebody to whom a request was put, and who knows how to say it.
struct Answerer {
    answering: Answering,
    dialect: &'static dyn Dialect,
    body: Bytes,
}

impl Answerer {
    async fn respond(self) -> Result<Response<Body>, Dies> {
        let Ok(body) = serde_json::from_slice::<Value>(&self.body) else {
            return Ok(
                self.error(StatusCode::BAD_REQUEST, "We could not parse the JSON body of your request.")
            );
        };
        let asked = self.dialect.read(&body);
        let Some(behaviour) = Behaviour::of_model(&asked.model) else {
            let message =
                format!("The model `{}` does not exist or you do not have access to it.", asked.model);
            return Ok(self.error(StatusCode::NOT_FOUND, &message));
        };
        match behaviour.course {
            Course::Error { status, retry_after } => {
                sleep(behaviour.pause).await;
                let mut response = self.error(status, "The stub was asked to fail.");
                if let Some(seconds) = retry_after {
                    response.headers_mut().insert(RETRY_AFTER, seconds.into());
                }
                return Ok(response);
            }
            Course::FailTwice if self.fails() => {
                return Ok(self.error(StatusCode::SERVICE_UNAVAILABLE, "The stub was asked to fail twice."));
            }
            Course::Drop => return Err(Dies),
            _ => {}
        }

        let stream = asked.stream;
        let answer = behaviour.answer(asked);
        let (response, mut sender) = open(if stream { "text/event-stream" } else { "application/json" });
        tokio::spawn(async move {
            let said = if stream {
                self.say_stream(&answer, &behaviour, &mut sender).await
            } else {
                self.say_whole(&answer, &behaviour, &mut sender).await
            };
            drop(self.answering);
            if said.is_err() {
                sender.abort(Dies);
            }
        });
        Ok(response)
    }

    fn error(&self, status: StatusCode, message: &str) -> Response<Body> {
        json_of(status, &self.dialect.error(status, message))
    }

    /// Whether it is the first or the second time.
    fn fails(&self) -> bool {
        let failures = &mut self.answering.0.memory().failures;
        let so_far = failures.entry(self.body.clone()).or_default();
        *so_far += 1;
        if *so_far > 2 {
            failures.remove(&self.body);
            return false;
        }
        true
    }

    fn bill(&self, answer: &Answer, answers: u64, prompt_tokens: u64, completion_tokens: u64) {
        let user = answer.asked.user.as_deref();
        self.answering.0.bill(user, Billed { answers, prompt_tokens, completion_tokens });
    }

    async fn say_whole(
        &self,
        answer: &Answer,
        behaviour: &Behaviour,
        sender: &mut Sender<Bytes, Dies>,
    ) -> Result<(), Dies> {
        sleep(behaviour.pause).await;
        match behaviour.course {
            Course::Endless => loop {
                send(sender, "        ").await?;
                sleep(Duration::from_millis(1)).await;
            },
            Course::ChunkBomb => return bomb(sender).await,
            _ => {}
        }
        self.bill(answer, 1, answer.asked.prompt_tokens, answer.output_tokens());
        let mut text = self.dialect.whole(answer).to_string();
        if matches!(behaviour.course, Course::BrokenJson | Course::BrokenStream) {
            text.truncate(text.len() / 2);
        }
        send(sender, text).await?;
        if behaviour.course == Course::BrokenStream { Err(Dies) } else { Ok(()) }
    }

    async fn say_stream(
        &self,
        answer: &Answer,
        behaviour: &Behaviour,
        sender: &mut Sender<Bytes, Dies>,
    ) -> Result<(), Dies> {
        if behaviour.course == Course::ChunkBomb {
            return bomb(sender).await;
        }
        self.bill(answer, 1, answer.asked.prompt_tokens, answer.thought_tokens);
        let mut words = 0;
        for Event { mut text, tokens } in self.dialect.events(answer) {
            sleep(behaviour.pause).await;
            words += tokens;
            match behaviour.course {
                Course::BrokenStream if words > 3 => return Err(Dies),
                Course::BrokenJson if words > 3 => {
                    text.truncate(text.len() / 2);
                    return send(sender, text + "\n\n").await;
                }
                Course::Endless => sleep(Duration::from_millis(1)).await,
                _ => {}
            }
            if behaviour.clock {
                // Before 1970 it is 0.
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                text.insert_str(0, &format!(": sent {}\n", now.as_micros()));
            }
            send(sender, text).await?;
            self.bill(answer, 0, 0, tokens);
        }
        Ok(())
    }
}

async fn bomb(sender: &mut Sender<Bytes, Dies>) -> Result<(), Dies> {
    let part = Bytes::from(vec![b'a'; 64 << 10]);
    send(sender, "data: {\"a\":\"").await?;
    for _ in 0..CHUNK_BOMB_BYTES / part.len() {
        send(sender, part.clone()).await?;
    }
    send(sender, "\"}\n\n").await
}

/// It fails when the reader is gone.
async fn send(sender: &mut Sender<Bytes, Dies>, data: impl Into<Bytes>) -> Result<(), Dies> {
    sender.send_data(data.into()).await.map_err(|_| Dies)
}

/// A response whose body is still to be said.
fn open(content_type: &'static str) -> (Response<Body>, Sender<Bytes, Dies>) {
    let (sender, body) = Channel::new(8);
    (with_headers(StatusCode::OK, content_type, body.boxed()), sender)
}

fn json_of(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    // Nothing here has keys that are no strings.
    plain(status, serde_json::to_vec(value).unwrap_or_default().into())
}

fn plain(status: StatusCode, body: Bytes) -> Response<Body> {
    let length = body.len();
    let body = Full::new(body).map_err(|never: Infallible| match never {}).boxed();
    let mut response = with_headers(status, "application/json", body);
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

/// With the headers of an answer of OpenAI and Anthropic that somebody may look at, or that a router has to
/// put its own in place of.
fn with_headers(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE.as_str(), content_type),
        ("request-id", "req_stub"),
        ("x-request-id", "req_stub"),
        ("openai-version", "2020-10-01"),
        ("x-ratelimit-limit-tokens", "30000000"),
        ("x-ratelimit-remaining-tokens", "29999998"),
        ("x-ratelimit-reset-tokens", "6ms"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn received(method: &Method, path: &str, headers: &HeaderMap, body: &Bytes) -> Received {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Received {
        method: method.to_string(),
        path: path.into(),
        headers: headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect(),
        body: serde_json::from_slice(body).unwrap_or_else(|_| text(body).into()),
    }
}

fn models() -> Value {
    let model = |id| json!({"id": id, "object": "model", "created": answer::CREATED, "owned_by": "stub"});
    let models = ["stub", "stub-tool", "stub-agent"].map(model);
    json!({"object": "list", "data": models})
}
