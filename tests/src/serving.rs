//! A server in a process of its own, until it is dropped.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Error, Read, sink};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{io, thread};

/// How long a server may take to end when it is asked to.
const FAREWELL: Duration = Duration::from_secs(5);

/// A server that listens. It is ended when this is dropped, with what it has started.
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
        Err(serving.ended(command)?)
    }

    /// Start a server that was told where to listen, and wait until it does.
    ///
    /// # Errors
    /// What the system says of the program, that it ended, or that it does not listen in time.
    pub fn start_at(address: SocketAddr, command: &mut Command, patience: Duration) -> io::Result<Self> {
        let child = command.stdin(Stdio::null()).spawn()?;
        let mut serving = Self { child, url: format!("http://{address}") };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if serving.child.try_wait()?.is_some() {
                return Err(serving.ended(command)?);
            }
            if started.elapsed() > patience {
                return Err(Error::other(format!(
                    "{:?} does not listen at {address}",
                    command.get_program()
                )));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(serving)
    }

    fn ended(&mut self, command: &Command) -> io::Result<Error> {
        let status = self.child.wait()?;
        Ok(Error::other(format!("{:?} ended with {status} before it listened", command.get_program())))
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
        // Asked, a server ends its workers too. It fails when it has ended.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let asked = Instant::now();
        while asked.elapsed() < FAREWELL {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                _ => return,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address of this machine that nobody listens at.
///
/// # Errors
/// What the system says of one.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

/// The command that starts the router on a free port in front of one upstream.
#[must_use]
pub fn router(thread_budget: &Path, upstream: &str, tokens_per_thread: u64) -> Command {
    let mut command = Command::new(thread_budget);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log", "error"])
        .args(["--upstream", upstream])
        .args(["--tokens-per-thread", &tokens_per_thread.to_string()]);
    command
}
