//! What the readers of JSON formats have in common.

use super::{COUNT_EXPECTED, time::Moment};
use memchr::memmem::Finder;
use serde::Deserialize;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;
pub(super) use thread_budget_router_core::json::{field, fields, items, text};

pub(super) fn utf8(bytes: &[u8]) -> Result<&str, String> {
    str::from_utf8(bytes).map_err(|_| "the line is not UTF-8, expected one JSON object".into())
}

/// A JSON object as what a format has.
pub(super) fn object<'a, T: Deserialize<'a>>(value: &'a str) -> Result<T, String> {
    // serde would also take an array for an object, field by field.
    if !value.trim_start().starts_with('{') {
        return Err("the line does not start with {, expected one JSON object".into());
    }
    serde_json::from_str(value).map_err(|error| not_json(&error))
}

pub(super) fn not_json(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = &text[..text.rfind(" at line ").unwrap_or(text.len())];
    // serde_json counts lines within what it is given, which would only confuse where that is one.
    let line = if error.line() > 1 { format!(" in its line {}", error.line()) } else { String::new() };
    format!("not JSON ({reason} at column {}{line}), expected one JSON object", error.column())
}

/// A string that has something in it.
pub(super) fn name(value: &str) -> Option<String> {
    text(value).filter(|text| !text.is_empty()).map(Into::into)
}

/// A moment, as text or in milliseconds.
pub(super) fn moment(value: &str) -> Option<Moment> {
    if value.starts_with('"') {
        return Moment::parse(&text(value)?);
    }
    value.parse().ok().map(Moment::from_milliseconds)
}

/// A name of a thread that has to be a string where it is given.
pub(super) fn thread(value: Option<&str>, name: &str) -> Result<Option<String>, String> {
    let Some(value) = value.filter(|value| *value != "null") else { return Ok(None) };
    match text(value) {
        Some(text) => Ok(Some(text.into())),
        None => Err(format!("{name} is {}, expected a string", excerpt(value))),
    }
}

/// A count that has to be given.
pub(super) fn count(value: Option<&str>, name: &str) -> Result<u64, String> {
    let value =
        value.filter(|value| *value != "null").ok_or_else(|| format!("no {name}, {COUNT_EXPECTED}"))?;
    value.parse().map_err(|_| format!("{name} is {}, {COUNT_EXPECTED}", excerpt(value)))
}

/// As much of a value as a message can show.
pub(super) fn excerpt(value: &str) -> String {
    const SHOWN: usize = 40;
    let mut text: String = value.chars().take(SHOWN).collect();
    if value.chars().count() > SHOWN {
        text.push('…');
    }
    text
}

/// What something is known by; not 0.
pub(super) fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish().max(1)
}

/// Whether small letters may be written with escapes in a line: `\u0061` to `\u007a`. Nobody does so, but a name
/// that is searched for could be missed.
pub(super) fn has_escaped_letters(line: &[u8]) -> bool {
    static ESCAPES: LazyLock<[Finder<'_>; 2]> = LazyLock::new(|| ["\\u006", "\\u007"].map(Finder::new));
    ESCAPES.iter().any(|escape| escape.find(line).is_some())
}
