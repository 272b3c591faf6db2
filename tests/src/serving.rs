//! A server in a process of its own, until it is dropped.

use std::io::{BufRead, BufReader, Error, Read, sink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::{io, thread};

/// A server that said where it listens. It is killed when this is dropped.
#[derive(Debug)]
pub struct Serving {
    child: Child,
    url: String,
}

impl Serving {
    /// Start a server, and wait until its output says where it listens: the first word that begins with `http://`.
    ///
    /// # Errors
    /// What the system says of the program, or that it ended without a word.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().map(BufReader::new);
        let mut serving = Self { child, url: String::new() };
        let Some(mut stdout) = stdout else { return Ok(serving) };
        for line in stdout.by_ref().lines() {
            if let Some(url) = line?.split_whitespace().find(|word| word.starts_with("http://")) {
                serving.url = url.trim_end_matches("/v1").into();
                // It may have more to say, and must not wait for a reader.
                thread::spawn(move || io::copy(&mut stdout, &mut sink()));
                return Ok(serving);
            }
        }
        let status = serving.child.wait()?;
        Err(Error::other(format!("{:?} ended with {status} before it listened", command.get_program())))
    }

    /// Where it listens, as `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The number of its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It fails when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command that starts the gateway on a free port in front of one upstream.
#[must_use]
pub fn gateway(thread_budget: &Path, upstream: &str, tokens_per_thread: u64) -> Command {
    let mut command = Command::new(thread_budget);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log", "error"])
        .args(["--upstream", upstream])
        .args(["--tokens-per-thread", &tokens_per_thread.to_string()]);
    command
}
