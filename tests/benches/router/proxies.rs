//! What can be in front of a provider.

use crate::process_tree;
use serde_json::json;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fs, io};
use thread_budget_tests::serving::{self, Serving, free_address};

/// How long a proxy may take to start.
const PATIENCE: Duration = Duration::from_secs(120);

/// Enough for any number of requests.
const LIMIT: u64 = 1_000_000_000_000;

/// What is in front of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proxy {
    /// Nothing.
    None,
    Nginx,
    Router,
    RouterWithDatabase,
    /// A native proxy in Rust that keeps no budgets.
    Onwards,
    /// A proxy in JavaScript that keeps no budgets.
    Portkey,
    LiteLlm {
        workers: u8,
    },
}

impl Proxy {
    pub(crate) const ALL: [Self; 8] = [
        Self::None,
        Self::Nginx,
        Self::Router,
        Self::RouterWithDatabase,
        Self::Onwards,
        Self::Portkey,
        Self::LiteLlm { workers: 1 },
        Self::LiteLlm { workers: 2 },
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "direct",
            Self::Nginx => "nginx, 2 workers",
            Self::Router => "router, in memory",
            Self::RouterWithDatabase => "router, --database",
            Self::Onwards => "onwards",
            Self::Portkey => "Portkey",
            Self::LiteLlm { workers: 1 } => "LiteLLM, 1 worker",
            Self::LiteLlm { .. } => "LiteLLM, 2 workers",
        }
    }

    pub(crate) fn is_router(self) -> bool {
        matches!(self, Self::Router | Self::RouterWithDatabase)
    }

    /// Start it, in front of the stub and with a folder for its files.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub(crate) fn start(self, stub: &str, folder: &Path) -> io::Result<Running> {
        match self {
            Self::None => Ok(Running { url: stub.into(), headers: Vec::new(), process: None }),
            Self::Nginx => nginx(stub, folder),
            Self::Router => Ok(Serving::start(&mut router(stub))?.into()),
            Self::RouterWithDatabase => {
                let database = folder.join("budgets.redb");
                match fs::remove_file(&database) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                Ok(Serving::start(router(stub).arg("--database").arg(database))?.into())
            }
            Self::Onwards => onwards(stub, folder),
            Self::Portkey => portkey(stub, folder),
            Self::LiteLlm { workers } => litellm(stub, folder, workers),
        }
    }
}

/// A proxy that listens, until it is dropped.
pub(crate) struct Running {
    url: String,
    /// What it wants to be told with each request.
    headers: Vec<String>,
    /// None when there is nothing.
    process: Option<Serving>,
}

impl From<Serving> for Running {
    fn from(process: Serving) -> Self {
        Self { url: process.url().into(), headers: Vec::new(), process: Some(process) }
    }
}

impl Running {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// As `name: value`.
    pub(crate) fn headers(&self) -> &[String] {
        &self.headers
    }

    /// The processor time that all its processes have taken so far.
    pub(crate) fn cpu(&self) -> Duration {
        self.process.as_ref().map_or(Duration::ZERO, |process| process_tree::cpu(process.pid()))
    }

    /// The memory of all its processes, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.process.as_ref().map_or(0, |process| process_tree::memory(process.pid()))
    }
}

fn router(stub: &str) -> Command {
    let thread_budget = Path::new(env!("CARGO_BIN_EXE_stub_provider")).with_file_name("thread-budget");
    serving::router(&thread_budget, stub, LIMIT)
}

/// A plain reverse proxy with connections that are kept.
fn nginx(stub: &str, folder: &Path) -> io::Result<Running> {
    let address = free_address()?;
    let provider = stub.trim_start_matches("http://");
    let folder = folder.display();
    let config = PathBuf::from(format!("{folder}/nginx.conf"));
    fs::write(
        &config,
        format!(
            "
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    scgi_temp_path {folder}/nginx-scgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    keepalive_requests 1000000000;
    upstream provider {{
        server {provider};
        keepalive 64;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
        }}
    }}
}}
"
        ),
    )?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&config).arg("-e").arg(format!("{folder}/nginx.log"));
    Ok(Serving::start_at(address, &mut command, PATIENCE)?.into())
}

/// Where `tests/benches/router/setup` has put a program.
fn installed(path: &str) -> io::Result<PathBuf> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(path);
    if program.exists() {
        Ok(program)
    } else {
        Err(Error::other("it is not installed: tests/benches/router/setup"))
    }
}

fn onwards(stub: &str, folder: &Path) -> io::Result<Running> {
    let config = folder.join("onwards.json");
    fs::write(&config, json!({"targets": {"stub": {"url": format!("{stub}/v1/")}}}).to_string())?;
    let address = free_address()?;
    let log = fs::File::create(folder.join("onwards.log"))?;
    let mut command = Command::new(installed("onwards/bin/onwards")?);
    command
        .arg("--targets")
        .arg(&config)
        .args(["--port", &address.port().to_string(), "--metrics-port", &free_address()?.port().to_string()])
        .env("RUST_LOG", "error")
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(Serving::start_at(address, &mut command, PATIENCE)?.into())
}

fn portkey(stub: &str, folder: &Path) -> io::Result<Running> {
    let script = installed("portkey/node_modules/@portkey-ai/gateway/build/start-server.js")?;
    let address = free_address()?;
    let log = fs::File::create(folder.join("portkey.log"))?;
    let mut command = Command::new("node");
    command
        .arg(script)
        .args([&format!("--port={}", address.port()), "--headless"])
        .env("TRUSTED_CUSTOM_HOSTS", "127.0.0.1,localhost")
        .stdout(log.try_clone()?)
        .stderr(log);
    let mut running = Running::from(Serving::start_at(address, &mut command, PATIENCE)?);
    running.headers = vec!["x-portkey-provider: openai".into(), format!("x-portkey-custom-host: {stub}/v1")];
    Ok(running)
}

/// With the budget that it keeps without a database, that of a deployment.
fn litellm(stub: &str, folder: &Path, workers: u8) -> io::Result<Running> {
    let program = installed("litellm/bin/litellm")?;
    let config = folder.join("litellm.yaml");
    fs::write(
        &config,
        format!(
            "
model_list:
  - model_name: stub
    litellm_params:
      model: openai/stub
      api_base: {stub}/v1
      api_key: none
      input_cost_per_token: 0.000001
      output_cost_per_token: 0.000001
      max_budget: 1000000
      budget_duration: 30d
general_settings:
  master_key: sk-thread-budget-benchmark
"
        ),
    )?;
    let address = free_address()?;
    let log = fs::File::create(folder.join(format!("litellm-{workers}.log")))?;
    let mut command = Command::new(program);
    command
        .arg("--config")
        .arg(&config)
        .args(["--host", "127.0.0.1", "--port", &address.port().to_string()])
        .args(["--num_workers", &workers.to_string(), "--telemetry", "False"])
        .env("LITELLM_MODE", "PRODUCTION")
        .env("LITELLM_LOG", "ERROR")
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .env("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true")
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(Serving::start_at(address, &mut command, PATIENCE)?.into())
}
