//! How much text a piece of an answer carries.

use core::fmt;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The fields of messages, parts of messages, tool calls and deltas that hold text a model writes. Images and
/// files are not text: what they cost has nothing to do with their length.
const TEXT_FIELDS: [&str; 15] = [
    "arguments",
    "content",
    "delta",
    "function",
    "input",
    "message",
    "output",
    "partial_json",
    "reasoning",
    "reasoning_content",
    "refusal",
    "summary",
    "text",
    "thinking",
    "tool_calls",
];

/// The bytes of the text in a JSON value. Text that cannot be decoded, as JSON of too many levels or with half
/// a character, counts with the bytes it is written in.
pub(crate) fn bytes(json: &str) -> u64 {
    let mut reader = serde_json::Deserializer::from_str(json);
    let counted = Counter { whole: false }.deserialize(&mut reader);
    counted.unwrap_or(json.len() as u64)
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

/// Whether a field's name is that of one with text, and whether it is `input`.
struct Name {
    is_text: bool,
    is_input: bool,
}

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Name, E> {
                Ok(Name { is_text: TEXT_FIELDS.contains(&name), is_input: name == "input" })
            }
        }
        reader.deserialize_str(NameVisitor)
    }
}

impl<'de> Visitor<'de> for Counter {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        Ok(text.len() as u64)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<u64, A::Error> {
        let mut sum = 0;
        while let Some(bytes) = items.next_element_seed(self)? {
            sum += bytes;
        }
        Ok(sum)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<u64, A::Error> {
        let mut sum = 0;
        while let Some(name) = fields.next_key::<Name>()? {
            if self.whole || name.is_text {
                sum += fields.next_value_seed(Self { whole: self.whole || name.is_input })?;
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

    #[test]
    fn text_that_a_model_writes_counts_and_nothing_else() {
        for (json, expected) in [
            (r#""héllo""#, 6),
            (r#"[{"index": 0, "delta": {"role": "assistant", "content": "héllo"}}]"#, 6),
            (
                r#"[{"message": {"content": null, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}}]"#,
                2,
            ),
            (r#"[{"type": "tool_use", "id": "c", "name": "f", "input": {"city": "Bern", "days": 3}}]"#, 4),
            (r#"[{"type": "message", "content": [{"type": "output_text", "text": "sunny"}]}]"#, 5),
            (r#"{"type": "thinking_delta", "thinking": "hm"}"#, 2),
            (r#"[{"b64_json": "AAAA"}]"#, 0),
        ] {
            assert_eq!(bytes(json), expected, "{json}");
        }
    }

    #[test]
    fn undecodable_text_counts_as_it_is_written() {
        assert_eq!(bytes(r#"["\ud83d"]"#), 10);
        let deep = std::format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
        assert_eq!(bytes(&deep), 2_000);
    }
}
