//! How a replay's results are shown.

use anstyle::{AnsiColor, Style};
use indicatif::HumanCount;
use serde::Serialize;
use std::io::{self, Write};
use std::time::Duration;
use thread_budget_host::{BudgetWarning, Severity, Threshold};

/// What a replay came to.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    /// Records read; each was either recorded or refused.
    pub(super) requests: u64,
    pub(super) recorded: u64,
    pub(super) refused: u64,
    /// Records that could not be read.
    pub(super) skipped: u64,
    pub(super) threads: u64,
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
    pub(super) total_tokens: u64,
    pub(super) crossed: Crossed,
    /// Threads at or above their limit at the end.
    pub(super) exhausted_threads: u64,
    pub(super) top: Vec<TopThread>,
}

/// How many thresholds of each severity were crossed.
#[derive(Debug, Default, Serialize)]
pub(super) struct Crossed {
    warning: u64,
    critical: u64,
    r#final: u64,
}

impl Crossed {
    pub(super) fn count(&mut self, severity: Severity) {
        match severity {
            Severity::Warning => self.warning += 1,
            Severity::Critical => self.critical += 1,
            Severity::Final => self.r#final += 1,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct TopThread {
    pub(super) thread_id: String,
    pub(super) total_tokens: u64,
    pub(super) max_tokens: u64,
    pub(super) percent_used: f64,
}

const BOLD: Style = Style::new().bold();
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
    summary: &Summary,
    thresholds: &[Threshold],
    elapsed: Duration,
) -> io::Result<()> {
    writeln!(out, "\n{BOLD}{}{BOLD:#} {FAINT}replayed in {elapsed:.1?}{FAINT:#}\n", shown(name, usize::MAX))?;
    for (label, count) in [
        ("requests", summary.requests),
        ("  recorded", summary.recorded),
        ("  refused", summary.refused),
        ("skipped records", summary.skipped),
        ("threads", summary.threads),
        ("  exhausted", summary.exhausted_threads),
        ("tokens", summary.total_tokens),
        ("  prompt", summary.prompt_tokens),
        ("  completion", summary.completion_tokens),
        ("warnings", summary.crossed.warning + summary.crossed.critical + summary.crossed.r#final),
        ("  warning", summary.crossed.warning),
        ("  critical", summary.crossed.critical),
        ("  final", summary.crossed.r#final),
    ] {
        writeln!(out, "  {label:<18}{:>16}", HumanCount(count).to_string())?;
    }
    if !summary.top.is_empty() {
        write_top(out, &summary.top, thresholds)?;
    }
    Ok(())
}

/// How wide a thread's whole limit is drawn.
const BAR_WIDTH: u64 = 40;
const MAX_ID_WIDTH: usize = 36;

fn write_top(out: &mut impl Write, top: &[TopThread], thresholds: &[Threshold]) -> io::Result<()> {
    let marks: Vec<String> = thresholds.iter().map(|threshold| format!("{} %", threshold.percent)).collect();
    let legend = if marks.is_empty() { String::new() } else { format!(", marked at {}", marks.join(", ")) };
    writeln!(out, "\n{BOLD}largest threads{BOLD:#} {FAINT}the bar is the limit{legend}{FAINT:#}\n")?;
    let ids: Vec<String> = top.iter().map(|thread| shown(&thread.thread_id, MAX_ID_WIDTH)).collect();
    let id_width = ids.iter().map(|id| id.chars().count()).max().unwrap_or_default();
    for (thread, id) in top.iter().zip(ids) {
        let reached = thresholds.iter().rev().find(|t| thread.percent_used >= f64::from(t.percent));
        let style = reached.map_or_else(Style::new, |threshold| style(threshold.severity));
        writeln!(
            out,
            "  {id:<id_width$}  {style}{}{style:#} {:>7.1} % {:>14} of {}",
            bar(thread.percent_used, thresholds),
            thread.percent_used,
            HumanCount(thread.total_tokens).to_string(),
            HumanCount(thread.max_tokens),
        )?;
    }
    Ok(())
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
fn shown(name: &str, width: usize) -> String {
    let mut safe = name.chars().flat_map(char::escape_debug);
    let mut text: String = safe.by_ref().take(width).collect();
    if safe.next().is_some() {
        text.pop();
        text.push('…');
    }
    text
}
