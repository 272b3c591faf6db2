//! What was measured, as a table and as JSON.

use crate::load::{CONNECTIONS, Sample};
use crate::process_tree::mebibytes;
use crate::proxies::Proxy;
use anstyle::Style;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

const BOLD: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();

/// A proxy and what was measured of it.
pub(crate) struct Measured {
    pub(crate) proxy: Proxy,
    /// By connections, one of each round.
    samples: BTreeMap<u32, Vec<Sample>>,
    /// Bytes, after some requests to begin with.
    memory_before: u64,
    /// Bytes, after the last request.
    pub(crate) memory_after: u64,
}

impl Measured {
    pub(crate) fn new(proxy: Proxy, memory_before: u64) -> Self {
        Self { proxy, samples: BTreeMap::new(), memory_before, memory_after: 0 }
    }

    pub(crate) fn add(&mut self, connections: u32, sample: Sample) {
        self.samples.entry(connections).or_default().push(sample);
    }

    fn samples(&self, connections: u32) -> &[Sample] {
        self.samples.get(&connections).map_or(&[], Vec::as_slice)
    }
}

fn requests_per_second(sample: &Sample) -> f64 {
    sample.requests as f64 / sample.seconds
}

/// The middle of at least one.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The first is what the others are compared with, round by round.
pub(crate) fn text(rows: &[Measured]) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let mut write = |line: std::fmt::Arguments<'_>| _ = text.write_fmt(line);
    for connections in CONNECTIONS {
        let plural = if connections == 1 { "" } else { "s" };
        write(format_args!(
            "{BOLD}{:<20}{:>11}{:>11}{:>11}{:>13}{:>13}{:>13}{:>15}{BOLD:#}\n",
            format!("{connections} connection{plural}"),
            "p50, µs",
            "p99, µs",
            "p99 / p50",
            "added, µs",
            "requests/s",
            "of direct",
            "CPU, µs each"
        ));
        for row in rows {
            let samples = row.samples(connections);
            let with_direct = || samples.iter().zip(rows[0].samples(connections));
            let rate = median(samples.iter().map(requests_per_second));
            write(format_args!(
                "{:<20}{:>11.0}{:>11.0}{:>11.1}{:>13.0}{:>13.0}{:>13.4}{:>15.1}\n",
                row.proxy.name(),
                median(samples.iter().map(|sample| sample.p50_us)),
                median(samples.iter().map(|sample| sample.p99_us)),
                median(samples.iter().map(|sample| sample.p99_us / sample.p50_us)),
                median(with_direct().map(|(sample, direct)| sample.p50_us - direct.p50_us)),
                rate,
                median(
                    with_direct()
                        .map(|(sample, direct)| requests_per_second(sample) / requests_per_second(direct))
                ),
                median(samples.iter().map(|sample| sample.cpu.as_secs_f64() * 1e6 / sample.requests as f64)),
            ));
        }
        write(format_args!("\n"));
    }
    write(format_args!("{BOLD}{:<20}{:>16}{:>16}{BOLD:#}\n", "memory, resident", "before", "after"));
    for row in rows.iter().filter(|row| row.proxy != Proxy::None) {
        let (before, after) = (mebibytes(row.memory_before), mebibytes(row.memory_after));
        write(format_args!("{:<20}{before:>16}{after:>16}\n", row.proxy.name()));
    }
    write(format_args!(
        "{FAINT}added: to the p50 of direct; of direct: the share of its requests/s; CPU: of all processes of the proxy, a request{FAINT:#}\n"
    ));
    text
}

/// Every sample.
pub(crate) fn json(rows: &[Measured]) -> Value {
    let row = |row: &Measured| {
        let samples = row.samples.iter().flat_map(|(connections, samples)| {
            samples.iter().map(move |sample| {
                json!({
                    "connections": connections,
                    "p50_us": sample.p50_us,
                    "p99_us": sample.p99_us,
                    "requests": sample.requests,
                    "seconds": sample.seconds,
                    "cpu_seconds": sample.cpu.as_secs_f64(),
                })
            })
        });
        json!({
            "proxy": row.proxy.name(),
            "memory_before": row.memory_before,
            "memory_after": row.memory_after,
            "samples": samples.collect::<Vec<_>>(),
        })
    };
    rows.iter().map(row).collect()
}
