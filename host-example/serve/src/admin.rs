//! The admin side: what operates a router while it runs, over HTTP with JSON, and the live page.
//!
//! | route | answers |
//! | --- | --- |
//! | `GET /` | the live page |
//! | `GET /healthz`, `GET /readyz` | 200 when the registry answers and what requests use can be recorded, 503 otherwise; requests that cost a budget are then answered with 503 too |
//! | `GET /threads?after=ID&limit=N` | `{"threads": [...], "next": ID}`: up to `N` (100, at most 1,000) [`Thread`]s after that one, parents before their children, otherwise in the registry's own order; `next` is null at the end |
//! | `GET /threads?top=N` | the same with the `N` (at most 500) largest and their ancestors, the largest first |
//! | `GET /threads/{id}` | a [`Thread`] with its `children` (ids, the first 1,000) and their `child_count`; 404 when it does not exist |
//! | `DELETE /threads/{id}` | forgets the thread and those below it; its [`FinalBudget`](thread_budget_host::FinalBudget); 404 when it does not exist |
//! | `POST /threads/{id}/limit` | takes `{"max_tokens": N}`, makes that the thread's limit, and creates it when it does not exist; its [`Usage`](thread_budget_host::Usage) |
//! | `GET /events` | server-sent events, each a [`Live`]; 503 for more than 64 watchers |
//! | `GET /unidentified` | `{"clients": [...]}`: the clients whose requests named no thread |
//! | `GET /metrics` | the metrics, for Prometheus; 404 when they are off |
//!
//! An id is percent-encoded in a path. Errors are `{"error": {"type": ..., "message": ...}}`. With a token
//! everything but the page, `/healthz` and `/readyz` wants `Authorization: Bearer TOKEN`; wrong ones are answered
//! one after the other, five in a second. Without one only this machine can ask, as `localhost` or a loopback
//! address, and pages of elsewhere cannot.
//!
//! A thread's numbers are those of now. Its relations and pending warnings, the totals and which threads
//! are the largest are found in one pass over all threads, which is repeated when somebody asks and twenty
//! times as long as it took has passed: with 100,000 threads they are a second or so old.

mod guard;
mod listener;
mod live;
mod threads;

use live::Known;
pub use live::{Live, News};
pub use threads::{Thread, Totals};

use super::config::{AdminConfig, ConfigError};
use super::{Events, Health, RouterError, UnidentifiedClients, tls};
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use guard::Token;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thread_budget_host::{CallError, InvalidInput, Registry, check_id};
use threads::{MAX_LARGEST, Threads};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// The most threads of a page, and the most children that are named.
const MAX_PAGE: u32 = 1_000;
const DEFAULT_PAGE: u32 = 100;

/// The most watchers at a time.
const MAX_WATCHERS: usize = 64;

/// The longest body, in bytes; the largest limit takes 40.
const MAX_BODY: usize = 4_096;

/// How long the registry may take to show that it is well.
const HEALTHY_WITHIN: Duration = Duration::from_secs(2);

/// The style of the live page, for other pages that show budgets as it does.
pub const PAGE_STYLE: &str = concat!(include_str!("page/base.css"), include_str!("page/style.css"));

/// Nothing but the page's own two files, and nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// What the admin side operates.
pub struct Admin {
    /// The threads' registry.
    pub registry: Registry,
    /// What happens to them, as far as it is announced there.
    pub events: Events,
    /// The clients whose requests name no thread.
    pub unidentified: UnidentifiedClients,
    /// Whether what requests use can be recorded.
    pub health: Health,
    /// Who may ask, and how. Where it listens the listener says.
    pub config: AdminConfig,
    /// Where the metrics of `GET /metrics` come from.
    pub metrics: Option<PrometheusHandle>,
}

/// Why the admin side could not be served.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Others than those who are meant to could ask.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] RouterError),
    /// The listener failed.
    #[error("the admin side cannot listen: {0}")]
    Listen(#[from] io::Error),
}

impl Admin {
    /// Serve on `listener` until the future is dropped; connections, and with them event streams, end with it.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn serve(self, listener: TcpListener) -> Result<(), AdminError> {
        self.config.check_at(listener.local_addr()?)?;
        let tls = self.config.tls.as_ref().map(|tls| tls::acceptor(tls, &["http/1.1"])).transpose()?;
        listener::listen(listener, router(self), tls).await;
        Ok(())
    }
}

/// The admin side's routes. Where they are served must have passed [`AdminConfig::check_at`].
fn router(admin: Admin) -> Router {
    let shared = Arc::new(Shared {
        threads: Arc::new(Threads::new(admin.registry.blocking())),
        events: admin.events,
        unidentified: admin.unidentified,
        health: admin.health,
        token: admin.config.token.as_deref().map(Token::new),
        metrics: admin.metrics,
        watchers: Arc::new(Semaphore::new(MAX_WATCHERS)),
    });
    Router::new()
        .route("/", get(async || file("text/html; charset=utf-8", include_str!("page/index.html"))))
        .route("/style.css", get(async || file("text/css; charset=utf-8", PAGE_STYLE)))
        .route(
            "/script.js",
            get(async || file("text/javascript; charset=utf-8", include_str!("page/script.js"))),
        )
        .route("/healthz", get(health))
        .route("/readyz", get(health))
        .route("/threads", get(list))
        .route("/threads/{id}", get(show).delete(clean_up))
        .route("/threads/{id}/limit", post(set_limit))
        .route("/events", get(watch))
        .route("/unidentified", get(unidentified))
        .route("/metrics", get(metrics))
        .fallback(async || Error::NoRoute)
        .method_not_allowed_fallback(async || Error::Method)
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), listener::let_in))
        .layer(middleware::map_response(async |mut response: Response| {
            let headers = response.headers_mut();
            for (name, value) in [
                (CACHE_CONTROL, "no-store"),
                (CONTENT_SECURITY_POLICY, POLICY),
                (REFERRER_POLICY, "no-referrer"),
                (X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
            ] {
                headers.insert(name, HeaderValue::from_static(value));
            }
            response
        }))
        .with_state(shared)
}

struct Shared {
    threads: Arc<Threads>,
    events: Events,
    unidentified: UnidentifiedClients,
    health: Health,
    token: Option<Token>,
    metrics: Option<PrometheusHandle>,
    watchers: Arc<Semaphore>,
}

type Admins = State<Arc<Shared>>;

fn file(content_type: &'static str, content: &'static str) -> impl IntoResponse {
    ([(CONTENT_TYPE, content_type)], content)
}

async fn health(State(shared): Admins) -> Result<&'static str, Error> {
    let answers = with_threads(&shared, |threads| Ok(threads.registry.answers()?));
    timeout(HEALTHY_WITHIN, answers).await.map_err(|_| Error::Slow)??;
    match shared.health.trouble() {
        // Everybody may ask: what is wrong with which file the log says.
        Some(_) => Err(Error::NotRecorded),
        None => Ok("ok\n"),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    after: Option<String>,
    limit: Option<u32>,
    top: Option<usize>,
}

async fn list(
    State(shared): Admins,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Value>, Error> {
    let Query(Which { after, limit, top }) = which?;
    if top.is_some() && (after.is_some() || limit.is_some()) {
        return Err(Error::Invalid("top goes without after and limit".into()));
    }
    after.as_deref().map(check_id).transpose().map_err(CallError::Invalid)?;
    let limit = limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    with_threads(&shared, move |threads| {
        let (threads, next) = if let Some(top) = top {
            (threads.largest(&*threads.census()?, top.min(MAX_LARGEST))?, None)
        } else {
            let page = threads.page(after.as_deref(), limit)?;
            let next = page.last().map(|thread| Arc::clone(&thread.thread_id));
            (page, next)
        };
        Ok(Json(json!({ "threads": threads, "next": next })))
    })
    .await
}

#[derive(Serialize)]
struct Detail {
    #[serde(flatten)]
    thread: Thread,
    child_count: usize,
    children: Vec<Arc<str>>,
}

async fn show(
    State(shared): Admins,
    thread_id: Result<Path<String>, PathRejection>,
) -> Result<Json<Detail>, Error> {
    let Path(thread_id) = thread_id?;
    with_threads(&shared, move |threads| {
        let census = threads.census()?;
        let thread = threads.find(&thread_id, &census)?.ok_or(Error::UnknownThread)?;
        let all = census.children(&thread_id);
        let children = all.iter().take(MAX_PAGE as usize).cloned().collect();
        Ok(Json(Detail { thread, child_count: all.len(), children }))
    })
    .await
}

async fn clean_up(
    State(shared): Admins,
    thread_id: Result<Path<String>, PathRejection>,
) -> Result<Response, Error> {
    let Path(thread_id) = thread_id?;
    let changed = thread_id.clone();
    let last = with_threads(&shared, move |threads| {
        threads.registry.cleanup_thread(&thread_id)?.ok_or(Error::UnknownThread)
    });
    let last = last.await?;
    shared.events.changed(&changed);
    Ok(Json(last).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    max_tokens: u64,
}

async fn set_limit(
    State(shared): Admins,
    thread_id: Result<Path<String>, PathRejection>,
    limit: Result<Json<Limit>, JsonRejection>,
) -> Result<Response, Error> {
    let (Path(thread_id), Json(Limit { max_tokens })) = (thread_id?, limit?);
    let changed = thread_id.clone();
    let usage =
        with_threads(&shared, move |threads| Ok(threads.registry.set_limit(&thread_id, max_tokens)?)).await?;
    shared.events.changed(&changed);
    Ok(Json(usage).into_response())
}

async fn watch(State(shared): Admins) -> Result<Response, Error> {
    let place = Arc::clone(&shared.watchers).try_acquire_owned().map_err(|_| Error::TooManyWatchers)?;
    with_threads(&shared, |threads| Ok(threads.registry.answers()?)).await?;
    let known = Known {
        threads: Arc::clone(&shared.threads),
        events: shared.events.clone(),
        unidentified: shared.unidentified.clone(),
    };
    let stream = live::stream(known, place);
    Ok(([(CONTENT_TYPE, "text/event-stream")], stream).into_response())
}

async fn unidentified(State(shared): Admins) -> Json<Value> {
    Json(json!({ "clients": shared.unidentified.clients() }))
}

async fn metrics(State(shared): Admins) -> Result<Response, Error> {
    let metrics = shared.metrics.clone().ok_or(Error::NoMetrics)?;
    let text = spawn_blocking(move || metrics.render()).await.map_err(|_| Error::Failed)?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// Work with the threads where it may block.
async fn with_threads<T: Send + 'static>(
    shared: &Shared,
    work: impl FnOnce(&Threads) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let threads = Arc::clone(&shared.threads);
    spawn_blocking(move || work(&threads)).await.map_err(|_| Error::Failed)?
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("there is nothing here")]
    NoRoute,
    #[error("this cannot be asked in this way; see which methods there are")]
    Method,
    #[error("there is no thread of that id")]
    UnknownThread,
    #[error("the metrics are off")]
    NoMetrics,
    #[error("{0}")]
    Invalid(String),
    #[error("the request was not understood: {message}")]
    Rejected { status: StatusCode, message: String },
    #[error("send the admin token as `Authorization: Bearer TOKEN`")]
    Unauthorized,
    #[error(
        "without a token only localhost and loopback addresses are answered to; set a token to use other names"
    )]
    ForeignHost,
    #[error("requests of other pages are refused")]
    CrossOrigin,
    #[error("the body is longer than {MAX_BODY} bytes, or broke off")]
    LongBody,
    #[error("the body took too long to arrive")]
    SlowBody,
    #[error("there are {MAX_WATCHERS} watchers already")]
    TooManyWatchers,
    #[error("what requests use cannot be recorded, so none is admitted; the log says why")]
    NotRecorded,
    #[error("the registry did not answer within {HEALTHY_WITHIN:?}")]
    Slow,
    #[error("the request failed; the log says why")]
    Failed,
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Error {
    /// The status, and the error's name.
    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoRoute | Self::UnknownThread | Self::NoMetrics => (StatusCode::NOT_FOUND, "not_found"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Invalid(_) | Self::Call(CallError::Invalid(InvalidInput::ThreadId { .. })) => {
                (StatusCode::BAD_REQUEST, "invalid_request_error")
            }
            Self::Rejected { status, .. } => (*status, "invalid_request_error"),
            Self::LongBody => (StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error"),
            Self::SlowBody => (StatusCode::REQUEST_TIMEOUT, "invalid_request_error"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::ForeignHost | Self::CrossOrigin => (StatusCode::FORBIDDEN, "forbidden"),
            Self::Call(CallError::TooManyThreads { .. }) => (StatusCode::CONFLICT, "too_many_threads"),
            Self::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
            Self::TooManyWatchers => (StatusCode::SERVICE_UNAVAILABLE, "too_many_watchers"),
            Self::NotRecorded | Self::Slow | Self::Call(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "registry_unavailable")
            }
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, name) = self.kind();
        let body = Json(json!({ "error": { "type": name, "message": self.to_string() } }));
        if status == StatusCode::UNAUTHORIZED {
            return (status, [(WWW_AUTHENTICATE, "Bearer")], body).into_response();
        }
        (status, body).into_response()
    }
}

macro_rules! rejected {
    ($($rejection:ty),*) => {$(
        impl From<$rejection> for Error {
            fn from(rejection: $rejection) -> Self {
                Self::Rejected { status: rejection.status(), message: rejection.body_text() }
            }
        }
    )*};
}

rejected!(JsonRejection, PathRejection, QueryRejection);
