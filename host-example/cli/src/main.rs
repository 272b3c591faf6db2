//! The `thread-budget` command line: its arguments, and what each subcommand does.

#![warn(clippy::expect_used, clippy::unwrap_used)]

mod accepted;
mod db;
mod html;
mod input;
mod inspect;
mod ledger;
mod outcomes;
mod prices;
mod replay;
mod report;
mod sample;
mod serve;
mod sessions;
mod threads;
mod watch;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::fmt::Display;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use thread_budget_cli::recording::Format;
use thread_budget_cli::recording::time::Moment;
use thread_budget_host::{
    Cache, Durability, LoadError, MAX_THREAD_ID_BYTES, Severity, StorageError, Threshold,
};

/// `serve` makes and frees some hundreds of small things for each request: a tenth of its time with the
/// system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A token budget per LLM agent thread, kept by a sandboxed WebAssembly component.
#[derive(Parser)]
#[command(name = "thread-budget", version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Cli {
    /// Compile the component anew instead of using the copy in the user's cache folder.
    #[arg(long, global = true)]
    no_cache: bool,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 the component or the machine failed; 2 the command line or the input is wrong;
130 interrupted. Colours follow NO_COLOR and the terminal.";

const REPLAY_HELP: &str = "\
Formats, recognised by their first record, as JSON lines, as values over several lines, or as one list:
  jsonl        {\"thread_id\": \"a\", \"prompt_tokens\": 900, \"completion_tokens\": 100}, perhaps with parent,
               model and timestamp
  openai       answers of OpenAI's and Anthropic's APIs with a usage, the thread as thread_id,
               metadata.thread_id or conversation; results of their batches, by custom_id
  csv          a header with thread_id, prompt_tokens and completion_tokens, or with ContextTokens and
               GeneratedTokens (the Azure traces); without a thread column name one with --thread
  claude-code  a session of Claude Code        codex     a session of Codex
  litellm      LiteLLM's spend log, also CSV   langfuse  observations or traces of Langfuse
  otlp         spans of OpenTelemetry with gen_ai attributes

Examples:
  thread-budget replay --since 7d                    the last week of your own sessions
  thread-budget replay --max-tokens 2000000 --html report.html
                                                     under another limit, and as a page
  thread-budget replay --sessions ~/.codex --project my-app
  thread-budget replay --weights router.toml         in what the router would count
  thread-budget replay batch_output.jsonl --thread nightly --enforce

A thread is refused where a request does not fit into what it has left; the report says at which. Without
--enforce such a request is counted all the same.";

#[derive(Subcommand)]
enum Command {
    Serve(Box<serve::ServeArgs>),
    Replay(ReplayArgs),
    /// Look into a database of budgets without changing it.
    ///
    /// Databases are made by `replay --db` and by hosts that keep theirs in a file. They are opened for
    /// reading only: one that is in use is refused, one whose process was killed is read as that process
    /// would find it again, and one that does not exist is not made.
    #[command(subcommand)]
    Db(DbCommand),
    Inspect(InspectArgs),
    Watch(watch::WatchArgs),
    /// Print a completion script for a shell.
    ///
    /// For bash: thread-budget completions bash > ~/.local/share/bash-completion/completions/thread-budget
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Run recorded LLM usage through the component and report who would have been warned or refused.
///
/// Without a file it replays the sessions of Claude Code, Codex and OpenCode that are on this machine, each
/// with its sub-agents below it; where there are none, a built-in synthetic sample. Nothing leaves this machine,
/// and no session is changed.
#[derive(Args)]
#[command(after_help = REPLAY_HELP)]
struct ReplayArgs {
    /// A recording; `-` is standard input. The sessions on this machine, or a sample, when left out.
    file: Option<PathBuf>,
    /// Replay the sessions in this folder and those below it: files of JSON lines, and OpenCode's databases.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["file", "db", "format"])]
    sessions: Option<PathBuf>,
    /// Of sessions, only requests from then on: a date or a time by UTC, or how long ago, as in 7d or 12h.
    #[arg(long, value_name = "WHEN", value_parser = replay::parse_since, conflicts_with_all = ["file", "db"])]
    since: Option<Moment>,
    /// Only sessions in folders whose path has this text.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["file", "db"])]
    project: Option<String>,
    /// The format, when it should not be recognised by the first record.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The thread of records that name none.
    #[arg(long, value_name = "NAME", value_parser = parse_thread)]
    thread: Option<String>,
    /// What tokens count for by model and kind: a router's configuration, or a file of `weights` as in it.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// The limit of every thread that is new, in tokens. [default: 100000, or what the database says]
    #[arg(long, value_name = "N")]
    max_tokens: Option<u64>,
    /// Warn at this percent of the limit; repeat for several. [default: 75=warning 90=critical 95=final]
    #[arg(long = "threshold", value_name = "PERCENT=SEVERITY", value_parser = parse_threshold)]
    thresholds: Vec<Threshold>,
    /// Check before recording, with the record's own total as the estimate; a refused record is
    /// counted and not recorded, so no thread passes its limit.
    #[arg(long)]
    enforce: bool,
    /// How many threads to list, the largest first.
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// For people, or one JSON object on standard output.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Write the report as a page too, into this file. It holds all that it needs.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Count a record that cannot be read as skipped instead of stopping at it. Sessions always do.
    #[arg(long)]
    keep_going: bool,
    /// Keep the budgets in this database, and go on from what it holds; it is made when there is none.
    ///
    /// Each record is counted once: of a recording that was replayed into it before, what was counted
    /// then is passed over, whether that replay was killed or the recording has grown since. A recording
    /// is known by its bytes, wherever it is; another one adds up. Standard input is always another
    /// one. Limits and thresholds given here are kept too; threads that exist keep their limits.
    #[arg(long, value_name = "DB")]
    db: Option<PathBuf>,
    /// When records get on the disk. A replay records them in batches either way and waits for each.
    #[arg(long, value_enum, default_value_t, requires = "db")]
    durability: Durable,
}

/// A [`Durability`].
#[derive(Clone, Copy, Default, ValueEnum)]
enum Durable {
    /// Each call in a transaction of its own.
    Immediate,
    /// Calls that are made at the same time in one.
    #[default]
    Batched,
}

impl From<Durable> for Durability {
    fn from(durable: Durable) -> Self {
        match durable {
            Durable::Immediate => Self::Immediate,
            Durable::Batched => Self::Batched,
        }
    }
}

#[derive(Subcommand)]
enum DbCommand {
    /// Show settings and the largest threads, children below their parents.
    ///
    /// The percentages behind a thread are thresholds it has crossed and whose warnings nobody has taken.
    /// What calls in flight hold is not in a file.
    Show {
        /// The database.
        file: PathBuf,
        /// How many threads to list, the largest first.
        #[arg(long, value_name = "N", default_value_t = 10)]
        top: usize,
        /// For people, or one JSON object on standard output.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Print every thread as a line of JSON, parents before their children.
    ///
    /// Each has all that is kept of a thread: thread_id, birth, parent, opened, max_tokens, prompt_tokens,
    /// completion_tokens, request_count, average_tokens, triggered_thresholds, pending_thresholds, request_ids,
    /// holds, lost.
    Export {
        /// The database.
        file: PathBuf,
    },
    /// Check every page of the file and bring all of it back into a fresh instance.
    ///
    /// Exit codes: 0 it is sound; 1 the machine failed, or it is in use; 2 it is not a sound database.
    Verify {
        /// The database.
        file: PathBuf,
        /// For people, or one JSON object on standard output.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
}

/// Show what a component imports and exports, with the documentation of its contract.
///
/// A thread-budget component imports nothing: it can do nothing but answer calls.
#[derive(Args)]
struct InspectArgs {
    /// The component's file; the built-in one when left out.
    component: Option<PathBuf>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

/// Why a command failed, and with it the exit code.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// What was given is wrong.
    #[error("{0}")]
    Input(String),
    /// The component could not be loaded, or failed.
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Call(#[from] thread_budget_host::CallError),
    /// Standard output could not be written, for another reason than a closed pipe.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// Anything else that is not the user's doing.
    #[error("{0}")]
    Other(String),
    #[error("interrupted; the summary covers what was replayed before")]
    Interrupted,
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Input(_) | Self::Load(LoadError::Read { .. } | LoadError::Settings(_)) => ExitCode::from(2),
            Self::Load(LoadError::Storage(
                StorageError::Corrupt { .. }
                | StorageError::Format { .. }
                | StorageError::Unrestorable { .. },
            )) => ExitCode::from(2),
            Self::Load(_) | Self::Call(_) | Self::Output(_) | Self::Other(_) => ExitCode::from(1),
            Self::Interrupted => ExitCode::from(130),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let cache = if cli.no_cache { Cache::Off } else { Cache::User };
    let result = match cli.command {
        Command::Serve(args) => serve::run(&args, cache),
        Command::Replay(args) => replay::run(&args, cache),
        Command::Db(command) => db::run(&command, cache),
        Command::Inspect(args) => inspect::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "thread-budget", &mut script);
            io::Write::write_all(&mut io::stdout(), &script).map_err(Failure::from)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            anstream::eprintln!("{ERROR}error:{ERROR:#} {failure}");
            failure.exit_code()
        }
    }
}

/// How long somebody may wait for what they do not notice.
const A_MOMENT: Duration = Duration::from_millis(100);

/// Open a file that somebody named, which is no folder.
fn open_file(path: &Path) -> Result<(File, Metadata), Failure> {
    let cannot = |why: &dyn Display| Failure::Input(format!("cannot open {}: {why}", path.display()));
    let file = File::open(path).map_err(|error| cannot(&error))?;
    let metadata = file.metadata().map_err(|error| cannot(&error))?;
    if metadata.is_dir() {
        return Err(cannot(&"it is a folder, expected a file"));
    }
    Ok((file, metadata))
}

const ERROR: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();

fn parse_threshold(text: &str) -> Result<Threshold, String> {
    let expected =
        || format!("expected PERCENT=SEVERITY, such as 75=warning; severities are {}", severities());
    let (percent, severity) = text.split_once('=').ok_or_else(expected)?;
    let percent = percent.parse().ok().filter(|percent| (1..=100).contains(percent));
    let severity = Severity::ALL.into_iter().find(|known| known.as_str() == severity);
    match (percent, severity) {
        (Some(percent), Some(severity)) => Ok(Threshold { percent, severity }),
        (None, _) => Err("the percent is a whole number from 1 to 100".into()),
        (_, None) => Err(expected()),
    }
}

fn parse_thread(text: &str) -> Result<String, String> {
    match text.len() {
        1..=MAX_THREAD_ID_BYTES => Ok(text.to_owned()),
        bytes => Err(format!("a thread id has 1 to {MAX_THREAD_ID_BYTES} bytes, this one has {bytes}")),
    }
}

fn severities() -> String {
    Severity::ALL.map(Severity::as_str).join(", ")
}
