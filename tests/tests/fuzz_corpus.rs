//! What the fuzzer found worth keeping, tried again without it. See `fuzz/README.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use thread_budget_tests::fuzz::{self, TARGETS};

/// Few and small, so that they can be looked at, and kept in the repository.
const MOST_FILES: usize = 100;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

#[test]
fn every_input_has_its_property() {
    for (name, check) in TARGETS {
        let inputs = files(&folder("corpus").join(name));
        assert!((1..=MOST_FILES).contains(&inputs.len()), "{name} has {} inputs", inputs.len());
        for input in inputs {
            eprintln!("{}", input.display());
            check(&fs::read(input).expect("it can be read"));
        }
    }
}

/// Recordings come cut off, with other bytes, and with parts that are missing or there twice.
#[test]
fn damaged_recordings_have_their_property_too() {
    let mut random = fastrand::Rng::with_seed(14);
    for input in files(&folder("corpus").join("recording")) {
        let whole = fs::read(&input).expect("it can be read");
        for _ in 0..40 {
            let mut bytes = whole.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..=bytes.len());
                let end = (at + random.usize(..64)).min(bytes.len());
                match random.u8(..4) {
                    0 => bytes.truncate(at),
                    1 => drop(bytes.drain(at..end)),
                    2 => bytes.extend_from_within(at..end),
                    _ => bytes[at..end].fill(*random.choice(b"{}[]\",:\\\n0-e\xff").expect("some")),
                }
            }
            fuzz::recording(&bytes);
        }
    }
}

#[test]
fn every_target_is_fuzzed() {
    let names = |folder: PathBuf| -> BTreeSet<String> {
        let stem = |path: PathBuf| path.file_stem().map(|stem| stem.display().to_string());
        files(&folder).into_iter().filter_map(stem).collect()
    };
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(folder("fuzz_targets")), targets);
    assert_eq!(names(folder("corpus")), targets);
}
