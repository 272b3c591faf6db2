//! Properties of arbitrary bytes: what the fuzzer searches for a counter-example of, and what
//! `tests/fuzz_corpus.rs` tries on the bytes that the fuzzer found worth keeping.

mod calls;
mod database;
mod recording;
mod restore;
mod router;
mod source;

pub use calls::steps;

/// A property by its name. It panics on bytes that do not have it.
pub type Target = (&'static str, fn(&[u8]));

/// Every one: each has a file in `fuzz/fuzz_targets` and a folder in `fuzz/corpus`.
pub const TARGETS: [Target; 5] = [
    ("calls", calls),
    ("database", database),
    ("recording", recording),
    ("restore", restore),
    ("router", router),
];

/// Any calls: the core agrees with the naive model.
///
/// # Panics
/// When it does not.
pub fn calls(bytes: &[u8]) {
    calls::check(bytes);
}

/// Any states: `restore` takes all or changes nothing, and what it took is what a snapshot gives.
///
/// # Panics
/// When that is not so.
pub fn restore(bytes: &[u8]) {
    restore::check(bytes);
}

/// Any file, and any content of a sound one: opened or refused with an error about the file.
///
/// # Panics
/// When it is neither.
pub fn database(bytes: &[u8]) {
    database::check(bytes);
}

/// Any recording: records, or errors that say where.
///
/// # Panics
/// When that is not so.
pub fn recording(bytes: &[u8]) {
    recording::check(bytes);
}

/// Any request, and whatever happens to it then: the router has an answer, and sends JSON to its upstreams only.
///
/// # Panics
/// When that is not so.
pub fn router(bytes: &[u8]) {
    router::check(bytes);
}
