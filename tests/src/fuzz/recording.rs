//! Bytes as a recording, read in every format.

use clap::ValueEnum;
use thread_budget_cli::recording::{Format, RecordError, Records};

pub(super) fn check(bytes: &[u8]) {
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
    let formats = Format::value_variants().iter().copied().map(Some);
    for format in formats.chain([None]) {
        for thread in [None, Some("other".to_owned())] {
            let records = match Records::open("file", bytes, format, thread) {
                Ok(records) => records,
                Err(error) => {
                    check_error(&error, lines);
                    continue;
                }
            };
            read(records, lines, bytes.len() as u64);
        }
    }
}

/// No more records than bytes, each of a thread that can be; where one is bad is said.
fn read(mut records: Records<'_>, lines: u64, bytes: u64) {
    let (mut read, mut position) = (0, 0);
    while let Some(record) = records.next() {
        read += 1;
        assert!(read <= bytes, "more records than the {bytes} bytes there are");
        assert!((position..=bytes).contains(&records.bytes_read()), "it reads on, and not beyond the end");
        position = records.bytes_read();
        match record {
            Ok(record) => assert!((1..=1_024).contains(&record.thread_id.len()), "{record:?}"),
            Err(error) => check_error(&error, lines),
        }
    }
}

fn check_error(error: &RecordError, lines: u64) {
    match error {
        RecordError::Bad { line, problem, .. } | RecordError::Unknown { line, found: problem, .. } => {
            assert!((1..=lines).contains(line), "line {line} of {lines}: {problem}");
            assert!(!problem.is_empty() && problem.len() < 4_096, "{problem}");
        }
        RecordError::Io { .. } => panic!("bytes in memory can be read: {error}"),
    }
}
