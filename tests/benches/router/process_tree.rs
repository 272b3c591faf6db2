//! What a process and all that it started take of the machine.

use std::fs;
use std::time::Duration;

/// Linux counts processor time in these; user space always sees 100 a second.
const TICK: Duration = Duration::from_millis(10);

/// The resident memory, in bytes; 0 when there is no such process.
pub(crate) fn memory(pid: u32) -> u64 {
    sum(pid, &|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kibibytes = status.lines().find_map(|line| {
            line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
        kibibytes.unwrap_or(0) * 1_024
    })
}

/// The processor time so far; 0 when there is no such process.
pub(crate) fn cpu(pid: u32) -> Duration {
    let ticks = sum(pid, &|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name, which may have spaces: utime and stime are the 12th and 13th, see proc(5).
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
    });
    TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

fn sum(pid: u32, of_one: &dyn Fn(u32) -> u64) -> u64 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    of_one(pid) + children.map(|pid| sum(pid, of_one)).sum::<u64>()
}

/// Bytes as a person reads them.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
