//! `thread-budget serve`: the router, from flags, environment and file to its end.

// Help is read in a terminal, where a link is text.
#![allow(rustdoc::bare_urls)]

use super::report::{BOLD, FAINT};
use super::{Durable, Failure, parse_threshold};
use clap::{Args, ValueEnum};
use indicatif::HumanCount;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thread_budget_host::{Cache, Registry, Threshold};
use thread_budget_serve::{
    Config, LostCalls, Router, RouterConfig, RouterError, Running, Tls, Unidentified, UnmeteredPaths,
    Upstream,
};
use tokio::sync::Notify;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How often what metrics have gathered is summed up.
const UPKEEP: Duration = Duration::from_secs(5);

/// Route LLM requests to providers, and hold every agent thread to its token budget.
///
/// Agents reach it by their base URL: OPENAI_BASE_URL=http://127.0.0.1:8080/v1, or
/// ANTHROPIC_BASE_URL=http://127.0.0.1:8080. A request names its thread in the header x-thread-id, or
/// its session as Claude Code, Codex and others do; to others no budget applies (--unidentified). To
/// begin with, an upstream is enough:
///
///   thread-budget serve --upstream https://api.openai.com
///   thread-budget serve --upstream gpt-,o3=https://api.openai.com \
///                       --upstream claude-=https://api.anthropic.com
///
/// Every setting can be in a TOML file (--config) or in the environment as well; flags come before
/// the environment, and the environment before the file. Only the file has budgets that threads share
/// (scopes), what tokens count for (weights of an upstream), and further kinds of clients
/// ([[router.clients]]).
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Exit codes: 0 stopped by a signal, after requests ended; 1 the machine failed; 2 the settings are wrong;\n130 stopped at once by a second signal."
)]
pub(super) struct ServeArgs {
    /// Read settings from this TOML file.
    #[arg(long, value_name = "FILE", env = "THREAD_BUDGET_CONFIG")]
    config: Option<PathBuf>,
    /// Say whether the settings can be used, and exit.
    #[arg(long)]
    check: bool,
    /// A provider, and perhaps what its models begin with: [MODEL,...=]URL. Repeat for several; they are
    /// tried in their order. In the environment they are separated by spaces. [file: upstreams]
    #[arg(
        long = "upstream",
        value_name = "UPSTREAM",
        env = "THREAD_BUDGET_UPSTREAM",
        value_delimiter = ' ',
        value_parser = parse_upstream
    )]
    upstreams: Vec<Upstream>,
    /// Where agents reach it. [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", env = "THREAD_BUDGET_LISTEN")]
    listen: Option<SocketAddr>,
    /// Certificates, PEM, that upstreams may be signed by, beside the usual ones.
    #[arg(long, value_name = "FILE", env = "THREAD_BUDGET_UPSTREAM_CA")]
    upstream_ca: Option<PathBuf>,
    /// TLS towards agents: the certificate and those that lead to a known one, PEM. [file: tls.cert]
    #[arg(long, value_name = "FILE", env = "THREAD_BUDGET_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM. [file: tls.key]
    #[arg(long, value_name = "FILE", env = "THREAD_BUDGET_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Where operators reach it. [file: admin.listen] [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDRESS", env = "THREAD_BUDGET_ADMIN_LISTEN")]
    admin_listen: Option<SocketAddr>,
    /// What operators authenticate with, 16 bytes or more; needed when other machines can reach it.
    /// [file: admin.token]
    #[arg(long, value_name = "TOKEN", env = "THREAD_BUDGET_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    /// TLS towards operators: the certificate and those that lead to a known one, PEM. [file: admin.tls.cert]
    #[arg(long, value_name = "FILE", env = "THREAD_BUDGET_ADMIN_TLS_CERT", requires = "admin_tls_key")]
    admin_tls_cert: Option<PathBuf>,
    /// Its private key, PEM. [file: admin.tls.key]
    #[arg(long, value_name = "FILE", env = "THREAD_BUDGET_ADMIN_TLS_KEY", requires = "admin_tls_cert")]
    admin_tls_key: Option<PathBuf>,
    /// Let other machines reach it without TLS: who can read what passes on the network then has the token.
    /// [file: admin.clear_text] [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", env = "THREAD_BUDGET_ADMIN_CLEAR_TEXT")]
    admin_clear_text: Option<bool>,
    /// The least urgent messages of the log on standard error: off, error, warn, info, debug.
    #[arg(long, value_name = "LEVEL", env = "THREAD_BUDGET_LOG", default_value = "info")]
    log: LevelFilter,
    #[command(flatten)]
    budgets: BudgetArgs,
    #[command(flatten)]
    router: RouterArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

#[derive(Args)]
#[command(next_help_heading = "Budgets")]
struct BudgetArgs {
    /// Keep the budgets in this file, which is made when there is none; without one they are kept in
    /// memory.
    #[arg(long, value_name = "DB", env = "THREAD_BUDGET_DATABASE")]
    database: Option<PathBuf>,
    /// When what requests use gets on the disk; each waits for it either way. [default: batched]
    #[arg(long, value_enum, env = "THREAD_BUDGET_DURABILITY")]
    durability: Option<Durable>,
    /// The limit of a new thread, in tokens. [default: 100000, or what the database says]
    #[arg(long, value_name = "N", env = "THREAD_BUDGET_TOKENS_PER_THREAD")]
    tokens_per_thread: Option<u64>,
    /// The most threads there can be. [default: unlimited, or what the database says]
    #[arg(long, value_name = "N", env = "THREAD_BUDGET_MAX_THREADS")]
    max_threads: Option<u32>,
    /// The most memory the budgets may take, in bytes. [default: 512 MiB]
    #[arg(long, value_name = "BYTES", env = "THREAD_BUDGET_MAX_MEMORY_BYTES")]
    max_memory_bytes: Option<usize>,
    /// After how long a thread is forgotten that nobody uses; one of the same name begins anew then.
    /// [default: never]
    #[arg(long, value_name = "MS", env = "THREAD_BUDGET_FORGET_AFTER_MS")]
    forget_after_ms: Option<u64>,
    /// Warn at this percent of the limit; repeat for several, or separate them by commas.
    /// [file: router.thresholds] [default: 75=warning,90=critical,95=final]
    #[arg(
        long = "threshold",
        value_name = "PERCENT=SEVERITY",
        env = "THREAD_BUDGET_THRESHOLD",
        value_delimiter = ',',
        value_parser = parse_threshold
    )]
    thresholds: Vec<Threshold>,
}

/// In the file they are in the table `router`.
#[derive(Args)]
#[command(next_help_heading = "Router, in the file's table [router]")]
struct RouterArgs {
    /// The request header that names the thread. [default: x-thread-id]
    #[arg(long, value_name = "NAME", env = "THREAD_BUDGET_THREAD_HEADER")]
    thread_header: Option<String>,
    /// Let requests open threads below another, or with a limit of their own (x-parent-thread-id,
    /// x-thread-max-tokens). [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", env = "THREAD_BUDGET_ALLOW_THREAD_OPTIONS")]
    allow_thread_options: Option<bool>,
    /// What becomes of a request that names no thread. [default: pass]
    #[arg(long, value_enum, env = "THREAD_BUDGET_UNIDENTIFIED")]
    unidentified: Option<Unnamed>,
    /// What becomes of paths below /v1 that no budget applies to. [default: free]
    #[arg(long, value_enum, env = "THREAD_BUDGET_UNMETERED_PATHS")]
    unmetered_paths: Option<Unmetered>,
    /// End a stream that passes its thread's budget. [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", env = "THREAD_BUDGET_CUT_STREAMS")]
    cut_streams: Option<bool>,
    /// How much output is held at first for a stream, and how much more each time it has used that up, in
    /// tokens. [default: 4096]
    #[arg(long, value_name = "N", env = "THREAD_BUDGET_COMPLETION_SLICE")]
    completion_slice: Option<u64>,
    /// What is charged for a request that was sent and got no definite answer. [default: prompt]
    #[arg(long, value_enum, env = "THREAD_BUDGET_LOST_CALLS")]
    lost_calls: Option<Lost>,
    /// The status of a response that says that the budget is used up, 400 to 499. [default: 400]
    #[arg(long, value_name = "STATUS", env = "THREAD_BUDGET_REFUSAL_STATUS")]
    refusal_status: Option<u16>,
    /// How long a request waits for what others hold, before it is answered with 429. [default: 2000]
    #[arg(long, value_name = "MS", env = "THREAD_BUDGET_HOLD_WAIT_MS")]
    hold_wait_ms: Option<u64>,
    /// How often a request is sent to the same upstream again after a failure that may pass. [default: 2]
    #[arg(long, value_name = "N", env = "THREAD_BUDGET_RETRIES")]
    retries: Option<u32>,
    /// The pause before the first retry; each further one is twice as long. [default: 500]
    #[arg(long, value_name = "MS", env = "THREAD_BUDGET_RETRY_PAUSE_MS")]
    retry_pause_ms: Option<u64>,
    /// The longest pause before a retry, and the longest Retry-After that is waited for. [default: 8000]
    #[arg(long, value_name = "MS", env = "THREAD_BUDGET_MAX_RETRY_PAUSE_MS")]
    max_retry_pause_ms: Option<u64>,
    /// The longest request body. [default: 32 MiB]
    #[arg(long, value_name = "BYTES", env = "THREAD_BUDGET_MAX_REQUEST_BYTES")]
    max_request_bytes: Option<u64>,
    /// The longest response that is no stream, and the longest event of one. [default: 32 MiB]
    #[arg(long, value_name = "BYTES", env = "THREAD_BUDGET_MAX_RESPONSE_BYTES")]
    max_response_bytes: Option<u64>,
    /// How long a client may take to send a request's body. [default: 60000]
    #[arg(long, value_name = "MS", env = "THREAD_BUDGET_REQUEST_BODY_TIMEOUT_MS")]
    request_body_timeout_ms: Option<u64>,
    /// How long an upstream may take to be connected to. [default: 10000]
    #[arg(long, value_name = "MS", env = "THREAD_BUDGET_CONNECT_TIMEOUT_MS")]
    connect_timeout_ms: Option<u64>,
    /// How long an upstream may take before the first byte of its answer. [default: 600000]
    #[arg(long, value_name = "MS", env = "THREAD_BUDGET_FIRST_BYTE_TIMEOUT_MS")]
    first_byte_timeout_ms: Option<u64>,
    /// How long an upstream may pause within its answer. [default: 120000]
    #[arg(long, value_name = "MS", env = "THREAD_BUDGET_IDLE_TIMEOUT_MS")]
    idle_timeout_ms: Option<u64>,
    /// How long a request may take in all, a stream included. [default: 1800000]
    #[arg(long, value_name = "MS", env = "THREAD_BUDGET_REQUEST_TIMEOUT_MS")]
    request_timeout_ms: Option<u64>,
}

#[derive(Args)]
#[command(next_help_heading = "Limits, in the file's table [limits], timeouts at its top")]
struct LimitArgs {
    /// The most requests at a time, 1 to 10,000; others are told to come back. [default: 1024]
    #[arg(long, value_name = "N", env = "THREAD_BUDGET_MAX_CONCURRENT_REQUESTS")]
    max_concurrent_requests: Option<u32>,
    /// The most connections of agents at a time; others wait. [default: 4096]
    #[arg(long, value_name = "N", env = "THREAD_BUDGET_MAX_CONNECTIONS")]
    max_connections: Option<u32>,
    /// The most memory of one request's instance, 4 MiB to 4 GiB. [default: 256 MiB]
    #[arg(long, value_name = "BYTES", env = "THREAD_BUDGET_INSTANCE_MEMORY_BYTES")]
    instance_memory_bytes: Option<usize>,
    /// The most memory of all of them together, beyond 2 MiB each. [default: 2 GiB]
    #[arg(long, value_name = "BYTES", env = "THREAD_BUDGET_TOTAL_MEMORY_BYTES")]
    total_memory_bytes: Option<usize>,
    /// The processor time of one request. [default: 10000]
    #[arg(long, value_name = "MS", env = "THREAD_BUDGET_CPU_MS")]
    cpu_ms: Option<u64>,
    /// How long a client may take to send a request's head. [default: 10000]
    #[arg(long, value_name = "MS", env = "THREAD_BUDGET_HEADER_TIMEOUT_MS")]
    header_timeout_ms: Option<u64>,
    /// How long requests may go on when this is stopped. [default: 30000]
    #[arg(long, value_name = "MS", env = "THREAD_BUDGET_SHUTDOWN_TIMEOUT_MS")]
    shutdown_timeout_ms: Option<u64>,
}

/// [`Unidentified`].
#[derive(Clone, Copy, ValueEnum)]
enum Unnamed {
    /// No budget applies to it, and the log says so once for each client.
    Pass,
    /// It is refused.
    Refuse,
    /// It counts in a thread of its key.
    PerKey,
}

impl From<Unnamed> for Unidentified {
    fn from(unidentified: Unnamed) -> Self {
        match unidentified {
            Unnamed::Pass => Self::Pass,
            Unnamed::Refuse => Self::Refuse,
            Unnamed::PerKey => Self::PerKey,
        }
    }
}

/// [`UnmeteredPaths`].
#[derive(Clone, Copy, ValueEnum)]
enum Unmetered {
    /// What providers ask nothing for is passed on: what reads or deletes, and counting tokens, files and the
    /// like. The rest is answered with 404.
    Free,
    /// All are passed on, also those that cost something, such as /v1/batches: no budget counts it.
    Pass,
    /// All are answered with 404.
    Refuse,
}

impl From<Unmetered> for UnmeteredPaths {
    fn from(unmetered: Unmetered) -> Self {
        match unmetered {
            Unmetered::Free => Self::Free,
            Unmetered::Pass => Self::Pass,
            Unmetered::Refuse => Self::Refuse,
        }
    }
}

/// [`LostCalls`].
#[derive(Clone, Copy, ValueEnum)]
enum Lost {
    /// Its prompt, and every slice of output but the latest.
    Prompt,
    /// All that was held.
    All,
    /// Nothing.
    Nothing,
}

impl From<Lost> for LostCalls {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Prompt => Self::Prompt,
            Lost::All => Self::All,
            Lost::Nothing => Self::Nothing,
        }
    }
}

fn parse_upstream(text: &str) -> Result<Upstream, String> {
    // A URL may have a `=` too, but not before its `://`.
    let (models, url) = match text.split_once('=') {
        Some((models, url)) if !models.contains("://") => (models, url),
        _ => ("", text),
    };
    let models = models.split(',').filter(|model| !model.is_empty()).map(Into::into).collect();
    let upstream = Upstream { url: url.into(), models, ..Upstream::default() };
    if (RouterConfig { upstreams: vec![upstream.clone()], ..RouterConfig::default() }).check().is_err() {
        return Err(
            "expected [MODEL,...=]URL, such as https://api.openai.com or gpt-,o3=https://api.openai.com"
                .into(),
        );
    }
    Ok(upstream)
}

/// Where something is given, it replaces what is there.
macro_rules! replace {
    ($config:expr, $args:expr => $($field:ident),+) => {
        $(if let Some(value) = $args.$field.clone() {
            $config.$field = value.into();
        })+
    };
}

impl ServeArgs {
    /// The file's settings, with those of flags and environment in their place.
    fn settings(&self) -> Result<Config, Failure> {
        let invalid = |error: thread_budget_serve::ConfigError| Failure::Input(error.to_string());
        let mut config = self
            .config
            .as_deref()
            .map_or_else(|| Ok(Config::default()), Config::from_file)
            .map_err(invalid)?;
        replace!(config, self => listen, upstream_ca);
        if !self.upstreams.is_empty() {
            config.upstreams.clone_from(&self.upstreams);
        }
        if let (Some(cert), Some(key)) = (self.tls_cert.clone(), self.tls_key.clone()) {
            config.tls = Some(Tls { cert, key });
        }
        if let Some(listen) = self.admin_listen {
            config.admin.listen = listen;
        }
        if let Some(token) = self.admin_token.clone() {
            config.admin.token = Some(token);
        }
        if let (Some(cert), Some(key)) = (self.admin_tls_cert.clone(), self.admin_tls_key.clone()) {
            config.admin.tls = Some(Tls { cert, key });
        }
        if let Some(clear_text) = self.admin_clear_text {
            config.admin.clear_text = clear_text;
        }
        let BudgetArgs { thresholds, .. } = &self.budgets;
        replace!(config, self.budgets => database, durability, tokens_per_thread, max_threads, max_memory_bytes, forget_after_ms);
        if !thresholds.is_empty() {
            config.set_thresholds(thresholds);
        }
        replace!(config.router, self.router =>
            thread_header, allow_thread_options, unidentified, unmetered_paths, cut_streams, completion_slice,
            lost_calls, refusal_status, hold_wait_ms, retries, retry_pause_ms, max_retry_pause_ms, max_request_bytes, max_response_bytes, request_body_timeout_ms,
            connect_timeout_ms, first_byte_timeout_ms, idle_timeout_ms, request_timeout_ms);
        replace!(config.limits, self.limits =>
            max_concurrent_requests, max_connections, instance_memory_bytes, total_memory_bytes, cpu_ms);
        replace!(config, self.limits => header_timeout_ms, shutdown_timeout_ms);
        let checked = config.check().map_err(|error| match &self.config {
            Some(path) => error.of_file(path),
            None => error,
        });
        checked.map_err(invalid)?;
        Ok(config)
    }
}

pub(super) fn run(args: &ServeArgs, cache: Cache) -> Result<(), Failure> {
    let config = args.settings()?;
    if args.check {
        return Ok(writeln!(io::stdout(), "The settings can be used.")?);
    }
    log(args.log);
    let metrics = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| Failure::Other(format!("cannot gather metrics: {error}")))?;
    let registry = config.registry().cache(cache.clone()).metrics().build()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(serve(config, registry, cache, metrics));
    // What still runs has been given its time.
    runtime.shutdown_background();
    result
}

async fn serve(
    config: Config,
    registry: Registry,
    cache: Cache,
    metrics: PrometheusHandle,
) -> Result<(), Failure> {
    let stop = on_signal()?;
    let running = Router::new(config.clone(), registry.clone())
        .cache(cache)
        .metrics(metrics.clone())
        .start()
        .await
        .map_err(failure)?;
    introduce(&config, registry.max_tokens_per_thread().await?, &running)?;
    let upkeep = tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            metrics.run_upkeep();
        }
    });
    stop.notified().await;
    tracing::info!("stopping; a second signal stops at once");
    let unrecorded = running.shutdown().await;
    upkeep.abort();
    for what in &unrecorded {
        tracing::error!("NOT recorded: {what}");
    }
    if unrecorded.is_empty() {
        tracing::info!("stopped");
        return Ok(());
    }
    Err(Failure::Other(format!(
        "stopped, and of what requests used {} not recorded",
        counted(unrecorded.len())
    )))
}

/// Of what is told line by line.
fn counted(lines: usize) -> String {
    if lines == 1 { "1 line above is".into() } else { format!("{lines} lines above are") }
}

/// Told of the first signal to stop. The second stops at once.
fn on_signal() -> Result<Arc<Notify>, Failure> {
    let stop = Arc::new(Notify::new());
    let (told, again) = (stop.clone(), AtomicBool::new(false));
    ctrlc::set_handler(move || {
        if again.swap(true, Ordering::Relaxed) {
            process::exit(130);
        }
        told.notify_one();
    })
    .map_err(|error| Failure::Other(format!("cannot listen for signals: {error}")))?;
    Ok(stop)
}

/// What a person wants to know first.
fn introduce(config: &Config, max_tokens_per_thread: u64, running: &Running) -> Result<(), Failure> {
    let mut out = anstream::AutoStream::auto(io::stdout().lock());
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let mut line = |label: &str, value: &str| writeln!(out, "{BOLD}{label:<10}{BOLD:#}{value}");
    line(
        "agents",
        &format!("{scheme}://{}/v1 {FAINT}without /v1 for Anthropic's clients{FAINT:#}", running.address()),
    )?;
    let scheme = if config.admin.tls.is_some() { "https" } else { "http" };
    line("operators", &format!("{scheme}://{}", running.admin_address()))?;
    for Upstream { url, models, .. } in &config.upstreams {
        let models =
            if models.is_empty() { "all models".into() } else { format!("{}…", models.join("… ")) };
        line("upstream", &format!("{url} {FAINT}{models}{FAINT:#}"))?;
    }
    let tokens = HumanCount(max_tokens_per_thread);
    let place = match &config.database {
        Some(path) => format!("kept in {}", path.display()),
        None => "in memory, gone when this stops; --database keeps them".into(),
    };
    line("budgets", &format!("{tokens} tokens a thread, {place}"))?;
    out.flush()?;
    Ok(())
}

fn failure(error: RouterError) -> Failure {
    match error {
        RouterError::Config(_) | RouterError::Certificate { .. } | RouterError::Tls(_) => {
            Failure::Input(error.to_string())
        }
        other => Failure::Other(other.to_string()),
    }
}

/// Log this program's own messages: what libraries say of connections may hold what agents sent.
fn log(level: LevelFilter) {
    let colours = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
    let to_stderr = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(colours);
    let own = Targets::new().with_default(LevelFilter::OFF).with_target("thread_budget", level);
    tracing_subscriber::registry().with(to_stderr).with(own).init();
}
