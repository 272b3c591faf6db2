//! What an operator can set: the file, and what all of it together must be.

use super::place;
use serde::Deserialize;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thread_budget_host::{
    self as host, Durability, MIN_MEMORY_BYTES, Registry, RegistryBuilder, Severity, Threshold,
};
use thread_budget_router_core as router;

pub use router::{Every, LostCalls, Scope, Unidentified, UnmeteredPaths, Upstream};

/// The router's own settings, the table `[router]`: what it does with a request.
pub type RouterConfig = router::Config;

/// The router's configuration. Every field but `upstreams` has a default.
///
/// ```
/// use thread_budget_serve::Config;
///
/// let config = Config::from_toml(
///     r#"
///     listen = "127.0.0.1:0"
///     tokens_per_thread = 200_000
///
///     [[upstreams]]
///     url = "https://api.openai.com"
///     models = ["gpt-", "o3"]
///     ## A token that was read from a cache counts for a tenth of one; a model that costs nothing has no budget.
///     weights = [{ models = ["gpt-"], cached_input = 0.1 }]
///
///     ## All threads of a key share a million tokens a month.
///     [[scopes]]
///     by = "key"
///     every = "month"
///     limit = 1_000_000
///
///     [router]
///     retries = 1
///     unidentified = "per-key"
///     clients = [{ session = ["x-my-session"], agent = ["body.metadata.agent"] }]
///     thresholds = [{ percent = 80, severity = "warning" }]
///
///     [limits]
///     max_concurrent_requests = 64
///     "#,
/// )?;
/// config.check()?;
/// assert_eq!(config.upstreams[0].models, ["gpt-", "o3"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where agents reach the router. 127.0.0.1:8080 unless set; port 0 is any free one.
    pub listen: SocketAddr,
    /// The database of the budgets. Without one they are gone when the router stops.
    pub database: Option<PathBuf>,
    /// When what a request used is on disk, with a database.
    pub durability: Durability,
    /// The limit of a new thread, in tokens. Unless set, 100,000 or what the database says.
    pub tokens_per_thread: Option<u64>,
    /// The most threads there can be. Unless set, unlimited or what the database says.
    pub max_threads: Option<u32>,
    /// The most memory the registry's instance may have, in bytes, 1 MiB or more. 512 MiB unless set.
    pub max_memory_bytes: Option<usize>,
    /// After how long a thread is forgotten that nobody uses, with all below it, in milliseconds; never unless set,
    /// since a thread of the same name begins anew then. What a thread used still counts in those above it. With
    /// `scopes` it is no less than their windows.
    pub forget_after_ms: Option<u64>,
    /// The providers, in the order in which they are tried. At least one.
    pub upstreams: Vec<Upstream>,
    /// Certificates, PEM, that upstreams may be signed by, beside the usual ones.
    pub upstream_ca: Option<PathBuf>,
    /// The budgets that threads share, such as those of one key in a month, the outermost first.
    pub scopes: Vec<Scope>,
    /// What the router does with a request. Its upstreams and scopes are those above.
    pub router: RouterConfig,
    /// What requests may take of this machine.
    pub limits: Limits,
    /// How long a client may take to send a request's head, to begin its first one, and to negotiate TLS,
    /// each in milliseconds. 10,000 unless set.
    pub header_timeout_ms: u64,
    /// How long requests may go on when the router is stopped, in milliseconds. 30,000 unless set.
    pub shutdown_timeout_ms: u64,
    /// TLS towards agents. Without it they speak plain HTTP.
    pub tls: Option<Tls>,
    /// What operates the router.
    pub admin: AdminConfig,
}

/// What requests may take of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The most requests at a time, 1 to 10,000; others are told to come back in a second. 1,024 unless
    /// set.
    pub max_concurrent_requests: u32,
    /// The most connections of clients at a time; others wait to be accepted. 4,096 unless set.
    pub max_connections: u32,
    /// The most memory one request's instance may have, in bytes, 4 MiB to 4 GiB. 256 MiB unless set.
    pub instance_memory_bytes: usize,
    /// The most memory all of them may have together beyond 2 MiB each, in bytes. 2 GiB unless set.
    pub total_memory_bytes: usize,
    /// The processor time one request may take, in milliseconds. 10,000 unless set.
    pub cpu_ms: u64,
}

/// TLS towards agents.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate and those that lead to a known one, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// What operates the router.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Where operators reach it. 127.0.0.1:8081 unless set; port 0 is any free one.
    pub listen: SocketAddr,
    /// What they authenticate with, 16 bytes or more. Where others than this machine reach it there must be one.
    pub token: Option<String>,
    /// TLS towards operators. Without it they speak plain HTTP.
    pub tls: Option<Tls>,
    /// Whether others than this machine may reach it without TLS: who can read what passes on the network then has
    /// the token. For a network of its own, such as that of a container.
    pub clear_text: bool,
}

/// What every instance may have, beyond which it draws on what all have together.
pub(crate) const FREE_MEMORY_BYTES: usize = 2 << 20;

/// Nobody guesses one of so many, at five guesses in a second.
const LEAST_TOKEN_BYTES: usize = 16;

const LARGEST_MEMORY_BYTES: usize = 1 << 32;
const MOST_REQUESTS: u32 = 10_000;

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: local(8080),
            database: None,
            durability: Durability::default(),
            tokens_per_thread: None,
            max_threads: None,
            max_memory_bytes: None,
            forget_after_ms: None,
            upstreams: Vec::new(),
            upstream_ca: None,
            scopes: Vec::new(),
            router: RouterConfig::default(),
            limits: Limits::default(),
            header_timeout_ms: 10_000,
            shutdown_timeout_ms: 30_000,
            tls: None,
            admin: AdminConfig::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_concurrent_requests: 1_024,
            max_connections: 4_096,
            instance_memory_bytes: 256 << 20,
            total_memory_bytes: 2 << 30,
            cpu_ms: 10_000,
        }
    }
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: local(8081), token: None, tls: None, clear_text: false }
    }
}

impl AdminConfig {
    /// Whether it may listen there.
    pub(crate) fn check_at(&self, address: SocketAddr) -> Result<(), ConfigError> {
        let Self { token, tls, clear_text, .. } = self;
        let is_for_others = !address.ip().to_canonical().is_loopback();
        require(
            token.as_ref().is_none_or(|token| token.len() >= LEAST_TOKEN_BYTES),
            "admin.token",
            "at least 16 bytes, such as `openssl rand -hex 16` makes",
        )?;
        require(
            token.is_some() || !is_for_others,
            "admin.token",
            "one is needed, since admin.listen can be reached from other machines",
        )?;
        require(
            tls.is_some() || *clear_text || !is_for_others,
            "admin.tls",
            "admin.listen can be reached from other machines, and the network would carry the token as clear text: \
             set a certificate and its key, listen on a loopback address, or allow it with admin.clear_text",
        )
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML of this shape. The text names line and field.
    #[error("{source}", source = .0.to_string().trim_end())]
    Syntax(#[source] toml::de::Error),
    /// The same, of a file.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ConfigError>,
    },
    /// The same, in a line of it.
    #[error("{}: line {line}: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        source: Box<ConfigError>,
    },
    /// The router could not work by it.
    #[error(transparent)]
    Router(#[from] router::ConfigError),
    /// A field's value is out of its range.
    #[error("{field}: {reason}")]
    Field {
        /// The field's full name.
        field: &'static str,
        /// What it must be.
        reason: &'static str,
    },
}

impl ConfigError {
    /// Say where it comes from, if it is that file that says it.
    #[must_use]
    pub fn of_file(self, path: &Path) -> Self {
        let (name, text) = match &self {
            Self::Router(error) => match error.setting() {
                Some((name, text)) => (name, text),
                None => return self,
            },
            Self::Field { field, .. } => (*field, None),
            _ => return self,
        };
        let Ok(file) = std::fs::read_to_string(path) else { return self };
        let is_of_file = Config::from_toml(&file)
            .is_ok_and(|config| config.check().is_err_and(|error| error.to_string() == self.to_string()));
        match place::line_of(&file, name, text).filter(|_| is_of_file) {
            Some(line) => Self::Line { path: path.into(), line, source: Box::new(self) },
            None => self,
        }
    }
}

impl Config {
    /// Read it from TOML.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`].
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(ConfigError::Syntax)
    }

    /// Read it from a TOML file.
    ///
    /// # Errors
    /// [`ConfigError::Read`], [`ConfigError::File`].
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Self::from_toml(&text)
            .map_err(|source| ConfigError::File { path: path.into(), source: Box::new(source) })
    }

    /// Whether a router can work by it.
    ///
    /// # Errors
    /// [`ConfigError::Router`], [`ConfigError::Field`].
    pub fn check(&self) -> Result<(), ConfigError> {
        require(
            self.router.upstreams.is_empty(),
            "router.upstreams",
            "upstreams are listed at the top, [[upstreams]]",
        )?;
        require(self.router.scopes.is_empty(), "router.scopes", "scopes are listed at the top, [[scopes]]")?;
        self.router_config().check()?;
        let mut percents = HashSet::new();
        require(
            self.router
                .thresholds
                .iter()
                .all(|t| (1..=100).contains(&t.percent) && percents.insert(t.percent)),
            "router.thresholds",
            "a percent is a whole number from 1 to 100, and given once",
        )?;
        require(
            self.max_memory_bytes.is_none_or(|bytes| bytes >= MIN_MEMORY_BYTES),
            "max_memory_bytes",
            "at least 1 MiB",
        )?;
        self.check_forgetting()?;
        let Limits { max_concurrent_requests, max_connections, instance_memory_bytes, cpu_ms, .. } =
            self.limits;
        require(
            (1..=MOST_REQUESTS).contains(&max_concurrent_requests),
            "limits.max_concurrent_requests",
            "1 to 10,000",
        )?;
        require((1..=1 << 20).contains(&max_connections), "limits.max_connections", "1 to 1,048,576")?;
        require(
            (2 * FREE_MEMORY_BYTES..=LARGEST_MEMORY_BYTES).contains(&instance_memory_bytes),
            "limits.instance_memory_bytes",
            "4 MiB to 4 GiB",
        )?;
        require(cpu_ms > 0, "limits.cpu_ms", "at least 1")?;
        require(self.header_timeout_ms > 0, "header_timeout_ms", "at least 1")?;
        self.admin.check_at(self.admin.listen)
    }

    /// Nobody gets a budget of a scope anew before its window is over.
    fn check_forgetting(&self) -> Result<(), ConfigError> {
        const DAY_MS: u64 = 24 * 3_600 * 1_000;
        let Some(after) = self.forget_after_ms else { return Ok(()) };
        require(after > 0, "forget_after_ms", "at least 1")?;
        let within = |every: Option<Every>| match every {
            None => false,
            Some(Every::Month) => after >= 31 * DAY_MS,
            Some(Every::Day) => after >= DAY_MS,
        };
        require(
            self.scopes.iter().all(|scope| within(scope.every)),
            "forget_after_ms",
            "at least a scope's window: 2,678,400,000 for a month, 86,400,000 for a day; a scope without one is never \
             to be forgotten",
        )
    }

    /// The registry it asks for, to be built, or to be set further first.
    pub fn registry(&self) -> RegistryBuilder {
        let thresholds: Vec<_> = self.router.thresholds.iter().map(for_registry).collect();
        let mut builder = Registry::builder()
            .thresholds(thresholds)
            .durability(self.durability)
            .lost_calls(self.lost_calls());
        if let Some(path) = &self.database {
            builder = builder.database(path);
        }
        if let Some(tokens) = self.tokens_per_thread {
            builder = builder.tokens_per_thread(tokens);
        }
        if let Some(threads) = self.max_threads {
            builder = builder.max_threads(threads);
        }
        if let Some(bytes) = self.max_memory_bytes {
            builder = builder.max_memory_bytes(bytes);
        }
        builder
    }

    /// Warn at these; the registry and the router have to agree on them.
    pub fn set_thresholds(&mut self, thresholds: &[Threshold]) {
        self.router.thresholds = thresholds.iter().map(for_router).collect();
    }

    /// What the router's component is told.
    pub(crate) fn router_config(&self) -> RouterConfig {
        RouterConfig { upstreams: self.upstreams.clone(), scopes: self.scopes.clone(), ..self.router.clone() }
    }

    /// What is charged for a request that was sent and got no definite answer, as the registry has it.
    pub(crate) fn lost_calls(&self) -> host::LostCalls {
        match self.router.lost_calls {
            LostCalls::Prompt => host::LostCalls::Prompt,
            LostCalls::All => host::LostCalls::All,
            LostCalls::Nothing => host::LostCalls::Nothing,
        }
    }

    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }
}

fn require(holds: bool, field: &'static str, reason: &'static str) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::Field { field, reason }) }
}

fn for_router(&Threshold { percent, severity }: &Threshold) -> router::Threshold {
    let severity = match severity {
        Severity::Warning => router::Severity::Warning,
        Severity::Critical => router::Severity::Critical,
        Severity::Final => router::Severity::Final,
    };
    router::Threshold { percent, severity }
}

fn for_registry(&router::Threshold { percent, severity }: &router::Threshold) -> Threshold {
    let severity = match severity {
        router::Severity::Warning => Severity::Warning,
        router::Severity::Critical => Severity::Critical,
        router::Severity::Final => Severity::Final,
    };
    Threshold { percent, severity }
}
