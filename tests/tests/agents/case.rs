//! A case: an agent, what its provider does, and what must be seen.

use crate::notes;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io, thread};
use thread_budget_tests::front::{Front, Passed};
use thread_budget_tests::provider::{Provider, Received};
use thread_budget_tests::serving::{Serving, free_address};

/// How long all commands of a case may take, in seconds.
const PATIENCE: u64 = 240;

/// See `tests/agents/README.md`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    #[serde(rename = "title")]
    _title: String,
    limit: u64,
    #[serde(default)]
    settings: Vec<String>,
    #[serde(default)]
    files: Map<String, Value>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    commands: Vec<Vec<String>>,
    seen: Seen,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    /// None when they are those of a key.
    names: Option<Names>,
    threads: usize,
    requests: [usize; 2],
    refused: usize,
    #[serde(default)]
    told: Vec<String>,
    #[serde(default)]
    output: Vec<String>,
}

/// In which headers the client names what.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Names {
    session: String,
    agent: Option<String>,
    parent: Option<String>,
}

/// A thread, as operators see it.
#[derive(Debug, Deserialize)]
struct Thread {
    thread_id: String,
    parent: Option<String>,
    total_tokens: u64,
    max_tokens: u64,
    held_tokens: u64,
}

impl Case {
    pub(crate) fn read(file: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    /// Run it; what is not as it must be.
    pub(crate) fn run(&self, thread_budget: &Path) -> Result<Vec<String>, String> {
        let said = |error: io::Error| error.to_string();
        let provider = Provider::start().map_err(said)?;
        let admin = free_address().map_err(said)?;
        let mut command = Command::new(thread_budget);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", &admin.to_string()])
            .args(["--log", "error", "--upstream", &provider.url()])
            .args(["--tokens-per-thread", &self.limit.to_string()])
            .args(&self.settings);
        let router = Serving::start(&mut command).map_err(said)?;
        let front = Front::start(router.url()).map_err(said)?;

        let home = tempfile::tempdir().map_err(said)?;
        let output = self.work(home.path(), &front.url()).map_err(said)?;
        let threads = settled(admin).map_err(said)?;
        let passed: Vec<_> = front.passed().into_iter().filter(is_metered).collect();
        let received: Vec<_> =
            provider.requests().into_iter().filter(|received| received.method == "POST").collect();

        let mut wrong = Vec::new();
        let mut check = |holds: bool, why: String| {
            if !holds {
                wrong.push(why);
            }
        };
        self.check_threads(&threads, &received, &mut check);
        self.check_requests(&passed, &mut check);
        check_prefixes(&passed, &received, &mut check);
        self.check_notes(&received, &mut check);
        for text in &self.seen.output {
            check(output.contains(text), format!("the output does not say {text:?}"));
        }
        if !wrong.is_empty() {
            let last: Vec<_> = output.lines().rev().take(12).collect();
            wrong.push(format!(
                "the output ends with\n{}",
                last.into_iter().rev().collect::<Vec<_>>().join("\n")
            ));
        }
        Ok(wrong)
    }

    /// Let the agent work; what it prints.
    fn work(&self, home: &Path, url: &str) -> io::Result<String> {
        let folder = home.join("work");
        fs::create_dir(&folder)?;
        let fill = |text: &str| text.replace("{url}", url).replace("{home}", &home.to_string_lossy());
        for (name, content) in &self.files {
            let text = content.as_str().map_or_else(|| content.to_string(), str::to_owned);
            fs::write(folder.join(name), fill(&text))?;
        }
        let agents = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target").join("agents");
        let path = [
            agents.join("node/node_modules/.bin"),
            agents.join("libraries/bin"),
            agents.join("aider/bin"),
            std::env::var_os("PATH").unwrap_or_default().into(),
        ];
        let path = std::env::join_paths(path.iter().flat_map(|part| std::env::split_paths(part)));
        let libraries = Path::new(env!("CARGO_MANIFEST_DIR")).join("agents/python/libraries.py");
        let mut output = String::new();
        for command in &self.commands {
            let filled =
                command.iter().map(|word| fill(&word.replace("{libraries}", &libraries.to_string_lossy())));
            let ran = Command::new("timeout")
                .arg(PATIENCE.to_string())
                .args(filled)
                .env_clear()
                .env("PATH", path.as_ref().map_err(|_| io::Error::other("no path"))?)
                .env("HOME", home)
                .env("ANTHROPIC_BASE_URL", url)
                .env("ANTHROPIC_API_KEY", "sk-ant-none")
                .env("OPENAI_BASE_URL", format!("{url}/v1"))
                .env("OPENAI_API_BASE", format!("{url}/v1"))
                .env("OPENAI_API_KEY", "sk-none")
                .envs(self.environment.iter().map(|(name, value)| (name, fill(value))))
                .current_dir(&folder)
                .stdin(Stdio::null())
                .output()?;
            output.push_str(&String::from_utf8_lossy(&ran.stdout));
            output.push_str(&String::from_utf8_lossy(&ran.stderr));
        }
        Ok(output)
    }

    /// Every request is in a thread of the agent that sent it, and all that was billed is counted.
    fn check_threads(&self, threads: &[Thread], received: &[Received], check: &mut impl FnMut(bool, String)) {
        check(
            threads.len() == self.seen.threads,
            format!("{} threads where {} are right: {threads:?}", threads.len(), self.seen.threads),
        );
        for thread in threads {
            check(thread.total_tokens <= thread.max_tokens, format!("it overspent: {thread:?}"));
            check(thread.held_tokens == 0, format!("something is held: {thread:?}"));
        }
        let actual: BTreeSet<_> = threads
            .iter()
            .map(|Thread { thread_id, parent, .. }| (thread_id.clone(), parent.clone()))
            .collect();
        match &self.seen.names {
            Some(names) => {
                let expected: BTreeSet<_> = received.iter().map(|request| names.thread(request)).collect();
                check(actual == expected, format!("threads {actual:?} where {expected:?} are right"));
            }
            None => check(
                actual.iter().all(|(id, parent)| id.starts_with("key-") && parent.is_none()),
                format!("threads {actual:?} are not those of a key"),
            ),
        }
    }

    /// None is sent again and again.
    fn check_requests(&self, passed: &[Passed], check: &mut impl FnMut(bool, String)) {
        let [least, most] = self.seen.requests;
        let requests = passed.len();
        check(
            (least..=most).contains(&requests),
            format!("{requests} requests where {least} to {most} are right"),
        );
        let statuses: Vec<_> = passed.iter().filter_map(|passed| passed.status).collect();
        let refused = statuses.iter().filter(|status| (400..500).contains(*status)).count();
        check(
            refused == self.seen.refused,
            format!("{refused} requests are refused where {} are right", self.seen.refused),
        );
        let others: Vec<_> =
            statuses.iter().filter(|&status| *status != 200 && !(400..500).contains(status)).collect();
        check(others.is_empty(), format!("answers have the status {others:?}"));
    }

    /// What the agent was told.
    fn check_notes(&self, received: &[Received], check: &mut impl FnMut(bool, String)) {
        let notes: Vec<_> = received.iter().filter_map(|request| notes::take(&request.body).0).collect();
        for text in &self.seen.told {
            let is_told = notes.iter().any(|note| note.contains(text));
            check(is_told, format!("it is not told {text:?}, but {notes:#?}"));
        }
    }
}

impl Names {
    /// The thread of a request, and the one above it.
    fn thread(&self, request: &Received) -> (String, Option<String>) {
        let header =
            |name: &Option<String>| name.as_ref().and_then(|name| request.headers.get(name)).cloned();
        let session = header(&Some(self.session.clone())).unwrap_or_default();
        match (header(&self.agent).filter(|agent| *agent != session), header(&self.parent)) {
            (Some(agent), _) => (format!("{session}/{agent}"), Some(session)),
            (None, parent) => (session, parent),
        }
    }
}

/// Whether a request costs tokens. An upgrade to a web socket is a `GET`.
fn is_metered(passed: &Passed) -> bool {
    const PATHS: [&str; 3] = ["/v1/chat/completions", "/v1/messages", "/v1/responses"];
    passed.method == "POST" && PATHS.contains(&passed.path.as_str())
}

/// Each request that the provider saw begins as the one that the client sent.
fn check_prefixes(passed: &[Passed], received: &[Received], check: &mut impl FnMut(bool, String)) {
    let sent: Vec<Value> =
        passed.iter().filter_map(|passed| serde_json::from_slice(&passed.body).ok()).collect();
    for request in received {
        let is_kept = sent.iter().any(|sent| notes::keeps_prefix(sent, &request.body));
        check(
            is_kept,
            format!("nobody sent what the provider saw, up to the note: {:.2000}", request.body.to_string()),
        );
    }
}

/// All threads, once nothing is held any more, or after a while.
fn settled(admin: SocketAddr) -> io::Result<Vec<Thread>> {
    let started = Instant::now();
    loop {
        let threads = threads(admin)?;
        if threads.iter().all(|thread| thread.held_tokens == 0) || started.elapsed() > Duration::from_secs(10)
        {
            return Ok(threads);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn threads(admin: SocketAddr) -> io::Result<Vec<Thread>> {
    #[derive(Deserialize)]
    struct Page {
        threads: Vec<Thread>,
    }
    let mut stream = TcpStream::connect(admin)?;
    stream.write_all(format!("GET /threads HTTP/1.0\r\nhost: {admin}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no answer"))?;
    let page: Page = serde_json::from_str(body).map_err(io::Error::other)?;
    Ok(page.threads)
}
