//! An exchange: a client's request and its answer. The policy says what is to be done; this does it, and says
//! what came of it.

use super::budgets::{Account, Budgets};
use super::client::{self, Body, Client};
use super::connections::{Place, Work};
use super::headers;
use super::keys::{Claim, Keys};
use super::policy::contract::{self, Action, Event, LogEntry, Next, RequestBody, ResponseBody, Turn};
use super::policy::{Broken, Instance, Policy};
use super::reply::Reply;
use super::unidentified::UnidentifiedClients;
use super::upstream::{Answer, Upstreams};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// How much of a stream the policy is given at once, in bytes, if it has come by then.
const PIECE: usize = 64 << 10;

/// The most lines that the policy may log of an exchange, and the longest, in bytes.
const MOST_LINES: u32 = 64;
const LONGEST_LINE: usize = 1_024;

/// What all exchanges have in common.
pub(super) struct Common {
    pub(super) policy: Policy,
    pub(super) budgets: Budgets,
    pub(super) keys: Keys,
    pub(super) unidentified: UnidentifiedClients,
    /// A permit for each that may be under way.
    pub(super) requests: Arc<Semaphore>,
    /// The longest body of a request, and how long it may take.
    pub(super) max_request_bytes: u64,
    pub(super) request_body_timeout: Duration,
    /// How long a client may take nothing of its response.
    pub(super) patience: Duration,
    /// True when those that are still under way have to end.
    pub(super) ending: watch::Receiver<bool>,
    pub(super) begun: Instant,
    /// How many there have been.
    pub(super) count: AtomicU64,
}

/// An exchange is under way, and the connection of its client works.
pub(super) struct Underway {
    _permit: OwnedSemaphorePermit,
    _work: Work,
}

/// What carries exchanges out, in one of this process's threads. Cheap to clone.
#[derive(Clone)]
pub(super) struct Exchanges {
    pub(super) common: Arc<Common>,
    pub(super) upstreams: Upstreams,
}

impl Exchanges {
    /// Answer a request. What is left of the exchange goes on behind the response's head, and when the client
    /// has left.
    pub(super) async fn answer(&self, request: Request<Incoming>, place: &Place) -> Response<Body> {
        let common = &*self.common;
        let (head, body) = request.into_parts();
        let mut memory = common.policy.memory().share();
        let read = client::read(body, common.max_request_bytes, common.request_body_timeout, &mut memory);
        let Some(body) = read.await else { return Reply::Memory.response(head.uri.path()) };
        // A client that is slow to send its request keeps nobody else from being served.
        let Ok(permit) = common.requests.clone().try_acquire_owned() else {
            return Reply::Overloaded.response(head.uri.path());
        };
        let underway = Underway { _permit: permit, _work: place.work() };
        let path = head.uri.path().to_owned();
        let (client, mut response) = Client::new(common.patience);
        let exchanges = self.clone();
        let exchange = async move {
            exchanges.carry_out(head, body, client, underway).await;
            drop(memory);
        };
        let mut rest = Rest(Some(Box::pin(exchange)));
        poll_fn(|context| {
            let is_over = rest.poll(context);
            match response.try_recv() {
                Ok(response) => Poll::Ready(response),
                Err(_) if is_over => Poll::Ready(Reply::Policy.response(&path)),
                Err(_) => Poll::Pending,
            }
        })
        .await
    }

    async fn carry_out(self, head: Parts, body: RequestBody, client: Client, underway: Underway) {
        let common = &*self.common;
        let number = common.count.fetch_add(1, Ordering::Relaxed);
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let request = contract::Request {
            id: format!("{:x}-{number:x}", common.budgets.registry.holder()),
            chance: fastrand::u64(..),
            date: OffsetDateTime::now_utc().date().to_string(),
            method: head.method.as_str().into(),
            target: target.into(),
            headers: headers::lines(&head.headers),
            body,
        };
        let instance = match common.policy.begin().await {
            Ok(instance) => instance,
            Err(broken) => return give_up(number, &broken, client, head.uri.path()),
        };
        let mut exchange = Exchange {
            number,
            account: common.budgets.account(),
            instance,
            client,
            underway: Some(underway),
            method: head.method,
            headers: head.headers,
            body: Bytes::new(),
            answer: None,
            keys: common.keys.clone(),
            claim: None,
            unidentified: common.unidentified.clone(),
            ending: common.ending.clone(),
            told_left: false,
            told_ending: false,
            lines: 0,
            begun: common.begun,
            upstreams: self.upstreams,
        };
        if let Err(broken) = exchange.run(request).await {
            give_up(number, &broken, exchange.client, head.uri.path());
        }
    }
}

/// The policy decides nothing more. A response that has begun breaks off.
fn give_up(number: u64, broken: &Broken, mut client: Client, path: &str) {
    tracing::error!(request = number, "{broken}");
    client.respond(Reply::of(broken).response(path));
}

/// What is left of an exchange. Dropped, it goes on by itself.
struct Rest(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Rest {
    /// Go on; true when it is over.
    fn poll(&mut self, context: &mut std::task::Context<'_>) -> bool {
        if let Some(exchange) = &mut self.0
            && exchange.as_mut().poll(context).is_ready()
        {
            self.0 = None;
        }
        self.0.is_none()
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        if let Some(exchange) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(exchange);
        }
    }
}

/// A request, and how far it has come.
struct Exchange {
    /// For the log.
    number: u64,
    account: Account,
    instance: Instance,
    client: Client,
    /// Until somebody else passes the answer on.
    underway: Option<Underway>,
    /// The client's.
    method: Method,
    headers: HeaderMap,
    body: Bytes,
    /// The latest.
    answer: Option<Answer>,
    keys: Keys,
    /// The idempotency key that it has.
    claim: Option<Claim>,
    unidentified: UnidentifiedClients,
    ending: watch::Receiver<bool>,
    told_left: bool,
    told_ending: bool,
    /// How many it has logged.
    lines: u32,
    begun: Instant,
    upstreams: Upstreams,
}

impl Exchange {
    async fn run(&mut self, request: contract::Request) -> Result<(), Broken> {
        let mut request = Event::Request(request);
        let mut next = self.tell(&request).await?;
        // The policy may want the body sent as it came.
        if let Event::Request(contract::Request { body: RequestBody::Whole(body), .. }) = &mut request {
            self.body = std::mem::take(body).into();
        }
        drop(request);
        loop {
            // A policy that wants one thing after another that is there at once keeps nobody from their turn.
            tokio::task::coop::consume_budget().await;
            let came = match next {
                Next::Claim(key) => Ok(self.claim(&key)),
                Next::Recall(name) => Ok(Event::Recalled(self.account.recall(&name))),
                Next::Hold(hold) => Ok(self.account.hold(hold).await),
                Next::Settle(settle) => Ok(self.account.settle(settle).await),
                Next::Send(send) => self.send(send).await?,
                Next::Read(within_ms) => self.read(Duration::from_millis(within_ms)).await?,
                Next::Wait(ms) => {
                    let woke = self.attend(tokio::time::sleep(Duration::from_millis(ms))).await?;
                    woke.map(|()| Event::Woke)
                }
                Next::Resume => return Err(Broken::Policy("it goes on with what does not go on".into())),
                Next::Done => {
                    self.client.end().await;
                    return Ok(());
                }
            };
            next = match came {
                Ok(event) => self.tell(&event).await?,
                Err(instead) => instead,
            };
        }
    }

    /// Tell the policy what has happened, do at once what it wants done at once, and return what comes then.
    async fn tell(&mut self, event: &Event) -> Result<Next, Broken> {
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let Turn { actions, next } = self.instance.step(now_ms, event).await?;
        for action in actions {
            match action {
                Action::Respond(response) => self.respond(response)?,
                Action::Bytes(bytes) => self.client.send(bytes).await,
                Action::Release(name) => self.account.release(name).await,
                Action::Keep(kept) => self.account.keep(kept).await,
                Action::Unidentified(client) => self.unidentified(&client),
                Action::Acknowledge(told) => self.account.acknowledge(told).await,
                Action::Log(entry) => self.log(entry),
            }
        }
        Ok(next)
    }

    /// Wait for something, unless the policy wants something else when the client leaves or the host ends.
    async fn attend<T>(&mut self, something: impl Future<Output = T>) -> Result<Result<T, Next>, Broken> {
        let mut something = pin!(something);
        loop {
            let event = tokio::select! {
                biased;
                () = self.client.left(), if !self.told_left => {
                    self.told_left = true;
                    Event::Left
                }
                _ = self.ending.wait_for(|ending| *ending), if !self.told_ending => {
                    self.told_ending = true;
                    Event::Stopping
                }
                came = something.as_mut() => return Ok(Ok(came)),
            };
            match self.tell(&event).await? {
                Next::Resume => {}
                instead => return Ok(Err(instead)),
            }
        }
    }

    fn claim(&mut self, key: &str) -> Event {
        match self.keys.claim(key, &self.body, Instant::now()) {
            Ok(claim) => {
                self.claim = Some(claim);
                Event::Claimed
            }
            Err(conflict) => Event::NotClaimed(conflict),
        }
    }

    fn unidentified(&self, client: &str) {
        if let Some(client) = self.unidentified.count(client) {
            tracing::warn!(%client, "its requests name no thread, so no budget applies to them");
        }
    }

    async fn send(&mut self, send: contract::ProviderRequest) -> Result<Result<Event, Next>, Broken> {
        self.answer = None;
        let order = self.upstreams.order(&self.method, &self.headers, &self.body, send)?;
        let upstreams = self.upstreams.clone();
        self.account.sent();
        Ok(match self.attend(upstreams.send(order)).await? {
            Ok(Ok(answer)) => {
                let event = contract::Answer {
                    status: answer.status.as_u16(),
                    headers: headers::lines(&answer.headers),
                    body: answer.whole.to_vec(),
                };
                self.answer = Some(answer);
                Ok(Event::Answer(event))
            }
            Ok(Err(failure)) => Ok(Event::Failed(failure)),
            Err(instead) => Err(instead),
        })
    }

    async fn read(&mut self, within: Duration) -> Result<Result<Event, Next>, Broken> {
        let body = self.answer.as_mut().and_then(|answer| answer.body.take());
        let Some(mut body) = body else { return Err(Broken::Policy("it reads what is not there".into())) };
        let came = self.attend(body.next(within)).await?;
        let event = match came {
            Ok(Ok(Some(bytes))) => Event::Piece(body.more_at_once(bytes, PIECE).into()),
            Ok(Ok(None)) => Event::Ended,
            Ok(Err(failure)) => Event::Failed(failure),
            Err(instead) => {
                self.keep(body);
                return Ok(Err(instead));
            }
        };
        self.keep(body);
        Ok(Ok(event))
    }

    /// Put an answer's body back, to be read on.
    fn keep(&mut self, body: super::upstream::Body) {
        if let Some(answer) = &mut self.answer {
            answer.body = Some(body);
        }
    }

    fn respond(&mut self, response: contract::Response) -> Result<(), Broken> {
        let contract::Response { status, passed, remove, set, body } = response;
        let wrong = |what: &str| Broken::Policy(format!("it responds with {what}"));
        let status = StatusCode::from_u16(status).map_err(|_| wrong("a status that is none"))?;
        let mut headers = match (&self.answer, passed) {
            (_, false) => HeaderMap::new(),
            (Some(answer), true) => answer.headers.clone(),
            (None, true) => return Err(wrong("an answer that is not there")),
        };
        headers::change(&mut headers, &remove, &set)?;
        let body = match body {
            ResponseBody::Whole(bytes) => Body::Whole(bytes.into()),
            ResponseBody::Pieces => self.client.pieces(),
            ResponseBody::Received => {
                let answer = self.answer.as_mut().ok_or_else(|| wrong("an answer that is not there"))?;
                match (answer.body.take(), self.underway.take()) {
                    (Some(body), Some(underway)) => Body::Passed(body, underway),
                    (None, underway) => {
                        self.underway = underway;
                        Body::Whole(answer.whole.clone())
                    }
                    (Some(_), None) => return Err(wrong("an answer for the second time")),
                }
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        self.client.respond(response);
        Ok(())
    }

    /// What the policy says to the operator: not too long, and not too often.
    fn log(&mut self, LogEntry { level, text }: LogEntry) {
        self.lines += 1;
        if self.lines > MOST_LINES {
            return;
        }
        let request = self.number;
        // Control characters would let a request write lines of its own.
        let line = text[..text.floor_char_boundary(LONGEST_LINE)].replace(char::is_control, "\u{fffd}");
        match level {
            contract::Level::Info => tracing::info!(target: "thread_budget::policy", request, "{line}"),
            contract::Level::Warn => tracing::warn!(target: "thread_budget::policy", request, "{line}"),
            contract::Level::Error => tracing::error!(target: "thread_budget::policy", request, "{line}"),
        }
    }
}
