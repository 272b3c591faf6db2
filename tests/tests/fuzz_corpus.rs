//! What the fuzzer found worth keeping, tried again without it. See `fuzz/README.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use thread_budget_tests::fuzz::TARGETS;

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
