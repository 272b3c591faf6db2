//! What was measured, as a table and as JSON.

use crate::measure::{Measured, Target, Unit};
use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};
use std::fmt::Write;

const BOLD: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// A row, summed up.
struct Summary<'a> {
    row: &'a Measured,
    numbers: Result<Numbers, &'a str>,
}

struct Numbers {
    median: f64,
    least: f64,
    most: f64,
    /// To the row it is compared with, when that was measured too.
    ratio: Option<f64>,
    met: Option<bool>,
}

fn summaries(rows: &[Measured]) -> impl Iterator<Item = Summary<'_>> {
    rows.iter().map(|row| Summary { row, numbers: numbers(row, rows) })
}

fn numbers<'a>(row: &'a Measured, rows: &[Measured]) -> Result<Numbers, &'a str> {
    let samples = row.samples.as_ref().map_err(String::as_str)?;
    let (median, least, most) = spread(samples.clone());
    let ratio = row.against.as_ref().and_then(|against| {
        let base = rows.iter().find(|other| other.name == *against)?.samples.as_ref().ok()?;
        Some(spread(samples.iter().zip(base).map(|(of_row, of_base)| of_row / of_base).collect()).0)
    });
    let compared = if row.against.is_some() { ratio } else { Some(median) };
    let met = row.target.zip(compared).map(|(target, compared)| match target {
        Target::AtMost(most) => compared <= most,
        Target::AtLeast(least) => compared >= least,
    });
    Ok(Numbers { median, least, most, ratio, met })
}

/// Median, least and most. There is at least one sample.
fn spread(mut samples: Vec<f64>) -> (f64, f64, f64) {
    samples.sort_by(f64::total_cmp);
    (samples[samples.len() / 2], samples[0], samples[samples.len() - 1])
}

/// The table, with colours.
pub(crate) fn text(rows: &[Measured]) -> String {
    let name_width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    // Writing into a String cannot fail.
    let mut write = |line: std::fmt::Arguments<'_>| _ = text.write_fmt(line);
    let mut group = "";
    for Summary { row, numbers } in summaries(rows) {
        if row.group != group {
            group = row.group;
            write(format_args!("\n{BOLD}{group}{BOLD:#}\n"));
        }
        let name = &row.name;
        match numbers {
            Err(reason) => write(format_args!("  {name:name_width$}  {FAINT}skipped: {reason}{FAINT:#}\n")),
            Ok(Numbers { median, least, most, ratio, met }) => {
                let value = format!("{} {}", number(median), unit(row.unit));
                let spread = format!("{} .. {}", number(least), number(most));
                let ratio = ratio.zip(row.against.as_ref());
                let ratio = ratio.map_or_else(String::new, |(ratio, to)| format!("{ratio:.2} x {to}"));
                let verdict = verdict(row.target, met);
                let line = format!("  {name:name_width$}  {value:>13}  {spread:>20}  {ratio}");
                let line = if verdict.is_empty() { line.trim_end() } else { &line };
                write(format_args!("{line}{verdict}\n"));
            }
        }
    }
    text
}

fn verdict(target: Option<Target>, met: Option<bool>) -> String {
    let target = match target {
        None => return String::new(),
        Some(Target::AtMost(most)) => format!("at most {}", bound(most)),
        Some(Target::AtLeast(least)) => format!("at least {}", bound(least)),
    };
    match met {
        None => format!("  {target}: cannot be told"),
        Some(true) => format!("  {target}: {GOOD}met{GOOD:#}"),
        Some(false) => format!("  {target}: {BAD}NOT MET{BAD:#}"),
    }
}

/// Everything, every sample included.
pub(crate) fn json(rows: &[Measured]) -> Value {
    let rows = summaries(rows).map(|Summary { row, numbers }| {
        let mut json = json!({
            "group": row.group,
            "name": row.name,
            "unit": unit(row.unit),
            "against": row.against,
        });
        match row.target {
            Some(Target::AtMost(most)) => json["at_most"] = most.into(),
            Some(Target::AtLeast(least)) => json["at_least"] = least.into(),
            None => {}
        }
        match numbers {
            Err(reason) => json["skipped"] = reason.into(),
            Ok(Numbers { median, least, most, ratio, met }) => {
                json["median"] = median.into();
                json["min"] = least.into();
                json["max"] = most.into();
                json["ratio"] = ratio.into();
                json["met"] = met.into();
                json["samples"] = row.samples.iter().flatten().copied().collect();
            }
        }
        json
    });
    rows.collect()
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Nanoseconds => "ns",
        Unit::Microseconds => "µs",
        Unit::Milliseconds => "ms",
        Unit::PerSecond => "/s",
        Unit::Bytes => "bytes",
        Unit::Times => "times",
    }
}

/// Three digits or more, thousands apart.
fn number(number: f64) -> String {
    match number {
        ..10.0 => format!("{number:.2}"),
        10.0..100.0 => format!("{number:.1}"),
        _ => indicatif::HumanCount(number.round() as u64).to_string(),
    }
}

fn bound(bound: f64) -> String {
    if bound < 10.0 { bound.to_string() } else { number(bound.round()) }
}
