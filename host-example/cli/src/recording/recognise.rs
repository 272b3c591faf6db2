//! Which format a recording is in, by what it begins with.

use super::Format;
use super::json::excerpt;
use super::text::Text;
use memchr::{memchr, memchr_iter};
use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use std::collections::BTreeSet;
use std::fmt;
use std::io;

/// How the values of a recording follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Each is a line.
    Lines,
    /// They go over several lines, or are a list.
    Values,
}

/// What a recording is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recognised {
    pub(super) format: Format,
    pub(super) shape: Shape,
    /// Whether its values are in lists that are fields of others, named `data`, as APIs answer in pages.
    pub(super) is_paged: bool,
}

/// How far is looked for a line that tells.
const LOOKED_AT: usize = 1 << 20;

/// By the first value that tells, unless the format is given; otherwise what is there instead. Nothing is
/// handed out, and no more is read than has to be.
pub(super) fn recognise(
    text: &mut Text<'_>,
    given: Option<Format>,
) -> io::Result<Result<Recognised, String>> {
    let plain = |format, shape| Recognised { format, shape, is_paged: false };
    let first = text.ahead().first().copied();
    let shape = match first {
        None => return Ok(Ok(plain(given.unwrap_or(Format::Jsonl), Shape::Lines))),
        Some(b'[') => Shape::Values,
        Some(b'{') => shape(text)?,
        Some(_) => return Ok(Ok(plain(given.unwrap_or(Format::Csv), Shape::Lines))),
    };
    loop {
        if let Some((format, is_paged)) = find(text.ahead(), shape) {
            return Ok(Ok(Recognised { format: given.unwrap_or(format), shape, is_paged }));
        }
        if let Some(format) = given {
            return Ok(Ok(plain(format, shape)));
        }
        if text.ahead().len() >= LOOKED_AT || !text.fill()? {
            return Ok(Err(describe(text.ahead(), shape)));
        }
    }
}

/// Lines, unless the first is no whole value.
fn shape(text: &mut Text<'_>) -> io::Result<Shape> {
    while memchr(b'\n', text.ahead()).is_none() && text.ahead().len() < LOOKED_AT && text.fill()? {}
    let Some(end) = memchr(b'\n', text.ahead()) else { return Ok(Shape::Lines) };
    let read = serde_json::from_slice::<IgnoredAny>(&text.ahead()[..end]);
    Ok(if read.is_err_and(|error| error.is_eof()) { Shape::Values } else { Shape::Lines })
}

/// The format of the first value that tells, and whether it is paged. The last value may not be there whole.
fn find(ahead: &[u8], shape: Shape) -> Option<(Format, bool)> {
    let object_at = |at: usize| {
        let text = ahead.get(at..)?;
        let text = match str::from_utf8(text) {
            Ok(text) => text,
            Err(error) => str::from_utf8(&text[..error.valid_up_to()]).ok()?,
        };
        let names = names(text);
        format_of(&names).map(|format| (format, false)).or_else(|| {
            let (_, page) = names.contains("data").then(|| text.split_once("\"data\""))??;
            Some((format_of(&self::names(&page[page.find('{')?..]))?, true))
        })
    };
    match shape {
        Shape::Values => object_at(memchr(b'{', ahead)?),
        Shape::Lines => {
            let starts = memchr_iter(b'\n', ahead).map(|end| end + 1);
            std::iter::once(0).chain(starts).find_map(object_at)
        }
    }
}

/// The format of an object with these fields.
fn format_of(names: &BTreeSet<String>) -> Option<Format> {
    let has = |name: &str| names.contains(name);
    if has("resourceSpans") || has("resource_spans") {
        Some(Format::Otlp)
    } else if has("payload") && has("type") {
        Some(Format::Codex)
    } else if has("observations")
        || has("usageDetails")
        || has("usage_details")
        || has("traceId") && has("type")
    {
        Some(Format::Langfuse)
    } else if has("sessionId") || has("leafUuid") || has("parentUuid") {
        Some(Format::ClaudeCode)
    } else if has("spend") || has("call_type") {
        Some(Format::Litellm)
    } else if has("usage") || has("custom_id") {
        Some(Format::Openai)
    } else if has("prompt_tokens") || has("completion_tokens") || has("thread_id") {
        Some(Format::Jsonl)
    } else {
        None
    }
}

/// The names of the fields of an object at the start of a text, as far as it is there.
fn names(text: &str) -> BTreeSet<String> {
    let mut names = Names(BTreeSet::new());
    let _ = serde_json::Deserializer::from_str(text).deserialize_map(&mut names);
    names.0
}

struct Names(BTreeSet<String>);

impl<'de> Visitor<'de> for &mut Names {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key()? {
            self.0.insert(name);
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

fn describe(ahead: &[u8], shape: Shape) -> String {
    let text = String::from_utf8_lossy(&ahead[..ahead.len().min(4_096)]);
    let object = text.find('{').map_or("", |at| &text[at..]);
    let names: Vec<String> = names(object).into_iter().take(8).map(|name| excerpt(&name)).collect();
    let whose = if shape == Shape::Lines { "JSON" } else { "JSON values" };
    match &*names {
        [] => format!("{whose} that has no fields to tell by"),
        names => format!("{whose} with {}", names.join(", ")),
    }
}
