//! How much text a piece of a request or an answer carries.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// What text takes when nobody has counted its tokens: a rule of thumb of the reference system.
pub(crate) const CHARACTERS_PER_TOKEN: u64 = 4;

/// The fields of messages, parts of messages, tool calls and deltas that hold text a model reads or writes.
/// Images and files are not text: what they cost has nothing to do with their length.
const TEXT_FIELDS: [&str; 14] = [
    "arguments",
    "content",
    "delta",
    "function",
    "output",
    "partial_json",
    "reasoning",
    "reasoning_content",
    "refusal",
    "summary",
    "text",
    "thinking",
    "tool_calls",
    "input",
];

/// The characters (Unicode scalar values) of the text in it. Text that cannot be decoded, as JSON of too
/// many levels or with half a character, counts with the bytes it is written in.
pub(crate) fn characters(json: &RawValue) -> u64 {
    let mut reader = serde_json::Deserializer::from_str(json.get());
    let counted = Counter { whole: false }.deserialize(&mut reader);
    counted.unwrap_or(json.get().len() as u64)
}

/// Counts the text of any JSON value.
#[derive(Clone, Copy)]
struct Counter {
    /// Whether every field of an object is text, as in the arguments of a tool call.
    whole: bool,
}

impl<'de> DeserializeSeed<'de> for Counter {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<u64, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Counter {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        Ok(text.chars().count() as u64)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<u64, A::Error> {
        let mut sum = 0;
        while let Some(characters) = items.next_element_seed(self)? {
            sum += characters;
        }
        Ok(sum)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<u64, A::Error> {
        let mut sum = 0;
        while let Some(name) = fields.next_key::<String>()? {
            if self.whole || TEXT_FIELDS.contains(&name.as_str()) {
                sum += fields.next_value_seed(Self { whole: self.whole || name == "input" })?;
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(sum)
    }

    fn visit_unit<E: Error>(self) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<u64, E> {
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(json: &str) -> u64 {
        characters(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn text_of_messages_counts_and_nothing_else() {
        assert_eq!(count(r#""héllo""#), 5);
        assert_eq!(count(r#"[{"role": "user", "content": "héllo"}]"#), 5);
        assert_eq!(
            count(
                r#"[{"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "yo"}]}]"#
            ),
            4
        );
        assert_eq!(
            count(
                r#"[{"content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]"#
            ),
            0
        );
        assert_eq!(
            count(
                r#"[{"content": null, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}]"#
            ),
            2
        );
        assert_eq!(
            count(
                r#"[{"content": [{"type": "tool_use", "id": "c", "name": "f", "input": {"city": "Bern", "days": 3}}]}]"#
            ),
            4
        );
        assert_eq!(count(r#"[{"type": "function_call_output", "call_id": "c", "output": "sunny"}]"#), 5);
    }

    #[test]
    fn undecodable_text_counts_as_it_is_written() {
        assert_eq!(count(r#"["\ud83d"]"#), 10);
        let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
        assert_eq!(count(&deep), 2_000);
    }
}
