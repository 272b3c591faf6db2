//! What a process takes of the machine's memory.

use std::fs;

/// The resident memory of a process and of all that it started, in bytes; 0 when there is no such process.
pub(crate) fn of_tree(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let of_children: u64 = children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(of_tree).sum();
    kibibytes.unwrap_or(0) * 1_024 + of_children
}

/// As a person reads it.
pub(crate) fn text(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
