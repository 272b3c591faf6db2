//! The LLM router over HTTP: a policy that decides each exchange in an instance of its own, a registry that
//! keeps the budgets, and what operates them.
//!
//! ```
//! use thread_budget_serve::{Config, Router};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let config = Config::from_toml(
//!     r#"
//!     listen = "127.0.0.1:0"
//!     admin = { listen = "127.0.0.1:0" }
//!     upstreams = [{ url = "https://api.openai.com" }]
//!     "#,
//! )?;
//! let registry = config.registry().build()?;
//! let running = Router::new(config, registry).start().await?;
//! println!("agents: OPENAI_BASE_URL=http://{}/v1", running.address());
//! running.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![warn(clippy::expect_used, clippy::unwrap_used)]

pub mod admin;
mod budgets;
mod client;
mod config;
mod connections;
mod debts;
mod events;
mod exchange;
mod forget;
mod headers;
mod health;
mod kept;
mod keys;
mod listener;
mod memory;
mod place;
mod policy;
mod refusal;
mod reply;
mod tls;
mod unidentified;
mod upstream;
mod workers;

pub use admin::{Admin, AdminError};
pub use config::{
    AdminConfig, Config, ConfigError, Every, Limits, LostCalls, RouterConfig, Scope, Tls, Unidentified,
    UnmeteredPaths, Upstream,
};
pub use events::{Event, Events, Past, Told};
pub use health::Health;
pub use unidentified::{UnidentifiedClient, UnidentifiedClients};

use budgets::Budgets;
use connections::Connections;
use debts::Debts;
use exchange::{Common, Exchanges};
use forget::Uses;
use kept::Stays;
use keys::Keys;
use listener::Server;
use metrics_exporter_prometheus::PrometheusHandle;
use policy::Policy;
use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use thread_budget_host::{Cache, Registry};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use upstream::Upstreams;
use workers::Workers;

/// The policy: a WebAssembly component of the world `thread-budget:router/router`.
pub const POLICY_COMPONENT: &[u8] = include_bytes!("../component/thread_budget_router.wasm");

/// How long exchanges may take to end when they are told to, and what is owed to the registry to be paid.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A router to be started.
#[must_use = "nothing is started before `start`"]
pub struct Router {
    config: Config,
    registry: Registry,
    component: Cow<'static, [u8]>,
    cache: Cache,
    metrics: Option<PrometheusHandle>,
}

/// Why a router could not be started.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// wasmtime cannot run here, or not with such limits.
    #[error("wasmtime cannot run here with these limits: {0:#}")]
    Engine(#[source] wasmtime::Error),
    /// The thread that keeps the time of instances could not be started.
    #[error("cannot start the thread that keeps the time: {0}")]
    Clock(#[source] io::Error),
    /// The policy is not a component that wasmtime can compile.
    #[error("not a usable WebAssembly component: {0:#}")]
    Compile(#[source] wasmtime::Error),
    /// It imports what it may not have, or lacks an export.
    #[error("not a component of the world thread-budget:router/router@0.2.0: {0:#}")]
    Contract(#[source] wasmtime::Error),
    /// The policy's configuration has no JSON.
    #[error("the router's configuration has no JSON: {0}")]
    Configuration(#[source] serde_json::Error),
    /// The policy cannot work by its configuration.
    #[error("{0}")]
    Policy(String),
    /// An upstream's URL is none.
    #[error("upstream {url:?} is no URL")]
    Upstream {
        /// What was given.
        url: String,
    },
    /// The environment has no key for an upstream.
    #[error("an upstream's key is to be in the environment as {variable}, and is not")]
    Key {
        /// The variable.
        variable: String,
    },
    /// A thread that serves connections could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// A certificate or key cannot be used.
    #[error("cannot use {}: {reason}", path.display())]
    Certificate {
        /// Its file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// TLS cannot be set up with what was given.
    #[error("cannot set up TLS: {0}")]
    Tls(#[source] tokio_rustls::rustls::Error),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl Router {
    /// One of that configuration, on that registry; see [`Config::registry`].
    pub fn new(config: Config, registry: Registry) -> Self {
        Self {
            config,
            registry,
            component: Cow::Borrowed(POLICY_COMPONENT),
            cache: Cache::default(),
            metrics: None,
        }
    }

    /// Use this component instead of the one that is built in ([`POLICY_COMPONENT`]).
    pub fn component_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.component = Cow::Owned(bytes.into());
        self
    }

    /// Where the compiled component is kept. [`Cache::User`] unless set.
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = cache;
        self
    }

    /// Show operators what this process has told its `metrics` recorder.
    pub fn metrics(mut self, recorder: PrometheusHandle) -> Self {
        self.metrics = Some(recorder);
        self
    }

    /// Listen, in the tokio runtime that this is called in.
    ///
    /// # Errors
    /// [`RouterError`].
    pub async fn start(self) -> Result<Running, RouterError> {
        let Self { config, registry, component, cache, metrics } = self;
        config.check()?;
        let budgets = Budgets {
            registry: registry.clone(),
            events: Events::default(),
            debts: Debts::default(),
            stays: Stays::default(),
            uses: Uses::new(config.forget_after_ms.map(Duration::from_millis)),
            lost_calls: config.lost_calls(),
            longest: Duration::from_millis(config.router.request_timeout_ms) + LAST_WORDS,
        };
        let events = budgets.events.clone();
        let unidentified = UnidentifiedClients::new();
        let (stop, stopped) = watch::channel(false);
        let (end, ending) = watch::channel(false);
        let most = config.limits.max_concurrent_requests;
        let common = Arc::new(Common {
            policy: Policy::new(&component, &cache, &config).await?,
            budgets: budgets.clone(),
            keys: Keys::default(),
            unidentified: unidentified.clone(),
            requests: Arc::new(Semaphore::new(most as usize)),
            max_request_bytes: config.router.max_request_bytes,
            request_body_timeout: Duration::from_millis(config.router.request_body_timeout_ms),
            patience: Duration::from_millis(config.router.idle_timeout_ms),
            ending,
            begun: Instant::now(),
            count: AtomicU64::new(0),
        });
        let requests = common.requests.clone();
        let connector = upstream::connector(&config)?;

        let listener = listen(config.listen).await?;
        let admin_listener = listen(config.admin.listen).await?;
        let address = listener.local_addr().unwrap_or(config.listen);
        let admin_address = admin_listener.local_addr().unwrap_or(config.admin.listen);
        let server = || {
            let upstreams = Upstreams::new(&config, &connector)?;
            Server::new(&config, Exchanges { common: common.clone(), upstreams })
        };
        let workers = Arc::new(Workers::start(server, &stopped)?);
        let connections = Connections::new(config.limits.max_connections as usize);
        let agents = {
            let workers = workers.clone();
            async move { listener::listen(listener, &workers, connections, stopped).await }
        };
        let admin = Admin {
            registry,
            events: events.clone(),
            unidentified,
            health: budgets.debts.health().clone(),
            config: config.admin,
            metrics,
        };
        Ok(Running {
            address,
            admin_address,
            events,
            stop,
            end,
            requests,
            most,
            timeout: Duration::from_millis(config.shutdown_timeout_ms),
            workers: Some(workers),
            agents: tokio::spawn(agents),
            debtor: tokio::spawn(budgets.debts.clone().pay(budgets.clone())),
            keeper: tokio::spawn(budgets.stays.clone().watch(budgets.debts.clone())),
            forgetter: tokio::spawn(budgets.uses.clone().watch(budgets.clone())),
            budgets,
            operators: tokio::spawn(async move {
                if let Err(error) = admin.serve(admin_listener).await {
                    tracing::error!(%error, "the operators' side has ended");
                }
            }),
        })
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, RouterError> {
    TcpListener::bind(address).await.map_err(|source| RouterError::Listen { address, source })
}

/// A router that serves, until it is shut down or dropped.
pub struct Running {
    address: SocketAddr,
    admin_address: SocketAddr,
    events: Events,
    stop: watch::Sender<bool>,
    end: watch::Sender<bool>,
    requests: Arc<Semaphore>,
    most: u32,
    timeout: Duration,
    workers: Option<Arc<Workers>>,
    budgets: Budgets,
    agents: JoinHandle<()>,
    debtor: JoinHandle<()>,
    keeper: JoinHandle<()>,
    forgetter: JoinHandle<()>,
    operators: JoinHandle<()>,
}

impl Running {
    /// Where agents reach it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where operators reach it.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// What happens to the threads.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Take no more requests, let those that run end within the configured time, and end the others: what they
    /// may have used is charged. Then wait as long again until everything that was charged is in the database, if
    /// there is one. What is not is told, each in words: it may be lost, or be counted by
    /// [`LostCalls`] when the database is opened next.
    pub async fn shutdown(mut self) -> Vec<String> {
        self.stop.send_replace(true);
        let done = async {
            // Whoever is still under way, an exchange whose client has left too, holds a permit.
            let _ = (&mut self.agents).await;
            let _ = self.requests.acquire_many(self.most).await;
        };
        if tokio::time::timeout(self.timeout, done).await.is_err() {
            tracing::warn!("requests that are still under way are ended");
            self.end.send_replace(true);
            let all = self.requests.acquire_many(self.most);
            if tokio::time::timeout(LAST_WORDS, all).await.is_err() {
                tracing::error!("some requests did not end");
            }
        }
        if !self.agents.is_finished() {
            self.agents.abort();
            let _ = (&mut self.agents).await;
        }
        if let Some(workers) = self.workers.take().and_then(Arc::into_inner) {
            // What they still do is dropped, and what that held is owed.
            let _ = tokio::task::spawn_blocking(|| workers.end()).await;
        }
        for task in [&mut self.forgetter, &mut self.keeper, &mut self.debtor] {
            task.abort();
            let _ = task.await;
        }
        let Budgets { debts, stays, .. } = &self.budgets;
        stays.charge_all(debts);
        let paid =
            tokio::time::timeout(self.timeout.max(LAST_WORDS), debts.pay_for_good(&self.budgets)).await;
        self.operators.abort();
        let _ = (&mut self.operators).await;
        match (paid, debts.give_up()) {
            (Ok(()), _) => Vec::new(),
            (Err(_), unpaid) if unpaid.is_empty() => vec!["what was recorded last".into()],
            (Err(_), unpaid) => unpaid,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.end.send_replace(true);
        self.agents.abort();
        self.forgetter.abort();
        self.keeper.abort();
        self.debtor.abort();
        self.operators.abort();
    }
}
