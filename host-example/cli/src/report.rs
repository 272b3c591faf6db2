//! How a replay's results are shown.

use super::outcomes::{Outcome, counted};
use super::sessions::Place;
use super::threads::Shown;
use anstyle::{AnsiColor, Style};
use indicatif::{HumanBytes, HumanCount};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::time::Duration;
use thread_budget_host::{BudgetWarning, Severity, Threshold};

/// What a replay came to. With a database the counts are those of the whole recording, and the threads
/// and tokens are all that the database holds.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    #[serde(flatten)]
    pub(super) counts: Counts,
    pub(super) threads: u64,
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
    pub(super) total_tokens: u64,
    pub(super) crossed: Crossed,
    /// Threads at or above their limit at the end.
    pub(super) exhausted_threads: u64,
    /// Where sessions were found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) found: Vec<Place>,
    /// What sessions use, where there are some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sessions: Option<Sessions>,
    pub(super) top: Vec<Shown>,
    /// With a database, how many of the requests it had counted before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resumed_after: Option<u64>,
}

/// What sessions use, each with its sub-agents: a help to choose their limit.
#[derive(Debug, Serialize)]
pub(super) struct Sessions {
    pub(super) number: u64,
    /// Half of them use no more.
    pub(super) median_tokens: u64,
    /// Nine of ten use no more.
    pub(super) p90_tokens: u64,
    pub(super) largest_tokens: u64,
}

impl Sessions {
    /// Of the totals of all; none when there are no sessions.
    pub(super) fn of(mut totals: Vec<u64>) -> Option<Self> {
        totals.sort_unstable();
        let at =
            |percent: usize| totals.get((totals.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self {
            number: totals.len() as u64,
            median_tokens: at(50)?,
            p90_tokens: at(90)?,
            largest_tokens: at(100)?,
        })
    }
}

/// What became of the records of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Records read; each was either recorded or refused.
    pub(super) requests: u64,
    pub(super) recorded: u64,
    pub(super) refused: u64,
    /// Records that could not be read.
    pub(super) skipped: u64,
}

impl Counts {
    pub(super) fn records(&self) -> u64 {
        self.requests + self.skipped
    }
}

/// How many thresholds of each severity were crossed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Crossed {
    warning: u64,
    critical: u64,
    r#final: u64,
}

impl Crossed {
    pub(super) fn all(&self) -> u64 {
        self.warning + self.critical + self.r#final
    }

    pub(super) fn count(&mut self, severity: Severity) {
        match severity {
            Severity::Warning => self.warning += 1,
            Severity::Critical => self.critical += 1,
            Severity::Final => self.r#final += 1,
        }
    }
}

pub(super) const BOLD: Style = Style::new().bold();
pub(super) const FAINT: Style = Style::new().dimmed();

fn style(severity: Severity) -> Style {
    match severity {
        Severity::Warning => AnsiColor::Cyan.on_default(),
        Severity::Critical => AnsiColor::Yellow.on_default(),
        Severity::Final => AnsiColor::Red.on_default().bold(),
    }
}

pub(super) fn write_warning(
    out: &mut impl Write,
    thread_id: &str,
    warning: &BudgetWarning,
) -> io::Result<()> {
    let style = style(warning.severity);
    writeln!(out, "{BOLD}{}{BOLD:#} {style}{}{style:#}", shown(thread_id, usize::MAX), warning.message)
}

pub(super) fn write(
    out: &mut impl Write,
    name: &str,
    database: Option<&str>,
    summary: &Summary,
    thresholds: &[Threshold],
    elapsed: Duration,
) -> io::Result<()> {
    let name = shown(name, usize::MAX);
    let into = database.map_or_else(String::new, |file| format!("into {} ", shown(file, usize::MAX)));
    let requests = summary.counts.requests;
    let resumed = match summary.resumed_after {
        None | Some(0) => String::new(),
        Some(before) if before == requests => ", all of it was counted before".into(),
        Some(before) => format!(", resumed after {} requests", HumanCount(before)),
    };
    for Place { agent, folder, sessions, files, bytes } in &summary.found {
        let folder = shown(&folder.display().to_string(), usize::MAX);
        let bytes = HumanBytes(*bytes);
        let (sessions, files) = (counted(*sessions, "session"), counted(*files, "file"));
        writeln!(out, "{BOLD}{agent}{BOLD:#} {sessions} in {files}, {bytes} {FAINT}{folder}{FAINT:#}")?;
    }
    writeln!(out, "\n{BOLD}{name}{BOLD:#} {FAINT}replayed {into}in {elapsed:.1?}{resumed}{FAINT:#}\n")?;
    for (label, count) in [
        ("requests", requests),
        ("  recorded", summary.counts.recorded),
        ("  refused", summary.counts.refused),
        ("skipped records", summary.counts.skipped),
        ("threads", summary.threads),
        ("  exhausted", summary.exhausted_threads),
        ("tokens", summary.total_tokens),
        ("  prompt", summary.prompt_tokens),
        ("  completion", summary.completion_tokens),
        ("warnings", summary.crossed.all()),
        ("  warning", summary.crossed.warning),
        ("  critical", summary.crossed.critical),
        ("  final", summary.crossed.r#final),
    ] {
        writeln!(out, "  {label:<18}{:>16}", HumanCount(count).to_string())?;
    }
    if let Some(Sessions { median_tokens, p90_tokens, largest_tokens, .. }) = summary.sessions {
        writeln!(
            out,
            "\n  Half of the sessions use at most {} tokens, 9 of 10 at most {}, the largest {}: a limit is --max-tokens.",
            HumanCount(median_tokens),
            HumanCount(p90_tokens),
            HumanCount(largest_tokens),
        )?;
    }
    if !summary.top.is_empty() {
        write_threads(out, &summary.top, thresholds)?;
    }
    Ok(())
}

/// How wide a thread's whole limit is drawn.
const BAR_WIDTH: u64 = 40;
const MAX_ID_WIDTH: usize = 36;

pub(super) fn write_threads(
    out: &mut impl Write,
    threads: &[Shown],
    thresholds: &[Threshold],
) -> io::Result<()> {
    let marks: Vec<String> = thresholds.iter().map(|threshold| format!("{} %", threshold.percent)).collect();
    let legend = if marks.is_empty() { String::new() } else { format!(", marked at {}", marks.join(", ")) };
    writeln!(out, "\n{BOLD}largest threads{BOLD:#} {FAINT}the bar is the limit{legend}{FAINT:#}\n")?;
    let name = |thread: &Shown| {
        let indent = 2 * thread.depth;
        let width = MAX_ID_WIDTH.saturating_sub(indent).max(8);
        // A sub-agent's id may begin with that of the thread above it.
        let own = thread.parent.as_deref().filter(|_| thread.depth > 0);
        let own = own.and_then(|parent| thread.thread_id.strip_prefix(parent)?.strip_prefix('/'));
        let id = own.map_or_else(
            || shown(&thread.thread_id, width),
            |own| format!("…/{}", shown(own, width.saturating_sub(2))),
        );
        format!("{:indent$}{id}", "")
    };
    let names: Vec<String> = threads.iter().map(name).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    for (thread, name) in threads.iter().zip(names) {
        let reached = thresholds.iter().rev().find(|t| thread.percent_used >= f64::from(t.percent));
        let style = reached.map_or_else(Style::new, |threshold| style(threshold.severity));
        write!(
            out,
            "  {name:<width$}  {style}{}{style:#} {:>7.1} % {:>14} of {}",
            bar(thread.percent_used, thresholds),
            thread.percent_used,
            HumanCount(thread.total_tokens).to_string(),
            HumanCount(thread.max_tokens),
        )?;
        let pending: Vec<String> =
            thread.pending_thresholds.iter().flatten().map(|t| format!("{} %", t.percent)).collect();
        if !pending.is_empty() {
            write!(out, "  {FAINT}not told of {}{FAINT:#}", pending.join(", "))?;
        }
        writeln!(out)?;
        if let Some(outcome) = thread.outcome.as_ref().filter(|outcome| is_told(outcome)) {
            let folder = outcome.project.as_ref().map(|folder| format!(", in {}", shown(folder, usize::MAX)));
            writeln!(out, "    {FAINT}{}{}{FAINT:#}", outcome.text(), folder.unwrap_or_default())?;
        }
    }
    Ok(())
}

/// Whether there is more to say of a thread than what it used.
fn is_told(outcome: &Outcome) -> bool {
    !outcome.warned.is_empty() || outcome.refused.is_some() || outcome.project.is_some()
}

/// Full to what is used, with the thresholds marked, and an arrow when it goes on beyond the limit.
fn bar(percent_used: f64, thresholds: &[Threshold]) -> String {
    let cell_of = |percent: f64| (percent / 100.0 * BAR_WIDTH as f64) as u64;
    let filled = cell_of(percent_used);
    let cells = (0..BAR_WIDTH).map(|cell| {
        let marked = thresholds.iter().any(|t| cell_of(f64::from(t.percent)).min(BAR_WIDTH - 1) == cell);
        match (cell < filled, marked) {
            (true, false) => '█',
            (true, true) => '▓',
            (false, true) => '┊',
            (false, false) => '·',
        }
    });
    let end = if percent_used > 100.0 { '▶' } else { ' ' };
    cells.chain([end]).collect()
}

/// A name out of somebody's file, safe to print: control characters escaped, cut to `width`.
pub(super) fn shown(name: &str, width: usize) -> String {
    let mut safe = name.chars().flat_map(char::escape_debug);
    let mut text: String = safe.by_ref().take(width).collect();
    if safe.next().is_some() {
        text.pop();
        text.push('…');
    }
    text
}
