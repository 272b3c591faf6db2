//! JSON read where it has to be: each value is the part of the text that it is written in.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Call with each field of an object, in their order: its name, decoded, and its value. Of a text that goes
/// wrong later it calls with what comes before.
///
/// # Errors
/// The text is no object, or goes on behind it.
pub fn fields<'a>(object: &'a str, each: &mut dyn FnMut(&str, &'a str)) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(object);
    reader.deserialize_map(Fields(each))?;
    reader.end()
}

/// A field of an object; of several of that name the last, as JSON readers do. None when there is none or
/// the text is no object.
#[must_use]
pub fn field<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    let mut found = None;
    fields(object, &mut |known, value| {
        if known == name {
            found = Some(value);
        }
    })
    .ok()?;
    found
}

/// Call with each item of an array.
///
/// # Errors
/// The text is no array, or goes on behind it.
pub fn items<'a>(array: &'a str, each: &mut dyn FnMut(&'a str)) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(array);
    reader.deserialize_seq(Items(each))?;
    reader.end()
}

/// A string, decoded; none when it is none.
#[must_use]
pub fn text(value: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(value).ok().map(|Text(text)| text)
}

/// Whether it is a string.
pub(crate) fn is_text(value: &str) -> bool {
    value.starts_with('"')
}

/// Whether it is an array.
pub(crate) fn is_array(value: &str) -> bool {
    value.starts_with('[')
}

/// Whether it is an array without items.
pub(crate) fn is_empty_array(value: &str) -> bool {
    value.strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with(']'))
}

/// Whether it is an object.
pub(crate) fn is_object(value: &str) -> bool {
    value.starts_with('{')
}

/// Text as a JSON string.
pub(crate) fn quote(text: &str) -> String {
    // Text becomes JSON whatever it is.
    serde_json::to_string(text).unwrap_or_default()
}

struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_str(TextVisitor).map(Text)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.into()))
    }
}

struct Fields<'f, 'a>(&'f mut dyn FnMut(&str, &'a str));

impl<'de> Visitor<'de> for Fields<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(name)) = map.next_key()? {
            (self.0)(&name, map.next_value::<&'de RawValue>()?.get());
        }
        Ok(())
    }
}

struct Items<'f, 'a>(&'f mut dyn FnMut(&'a str));

impl<'de> Visitor<'de> for Items<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<&'de RawValue>()? {
            (self.0)(item.get());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn fields_are_found_by_their_decoded_names() {
        let object = r#" { "a" : [1, 2 ] ,"\u0062":"x\"", "a":null}"#;
        let mut found = Vec::new();
        fields(object, &mut |name, value| found.push((String::from(name), value))).unwrap();
        assert_eq!(found, [("a".into(), "[1, 2 ]"), ("b".into(), r#""x\"""#), ("a".into(), "null")]);
        assert_eq!(field(object, "a"), Some("null"));
        assert_eq!(field(object, "c"), None);
        for other in ["", "[]", "1", "{", r#"{"a":1} x"#, r#"{"a":1,}"#] {
            assert!(fields(other, &mut |_, _| {}).is_err(), "{other}");
            assert_eq!(field(other, "a"), None, "{other}");
        }
    }

    #[test]
    fn items_and_texts() {
        let mut found = Vec::new();
        items(r#"[ 1, {"a":[]} ,"x"]"#, &mut |item| found.push(item)).unwrap();
        assert_eq!(found, ["1", r#"{"a":[]}"#, r#""x""#]);
        assert!(items("{}", &mut |_| {}).is_err());
        assert_eq!(text(r#""a""#), Some(Cow::Borrowed("a")));
        assert_eq!(text(r#""\n\u00e9""#).as_deref(), Some("\n\u{e9}"));
        assert_eq!(text("7"), None);
        assert_eq!(quote("a\"\n"), r#""a\"\n""#);
    }

    #[test]
    fn depth_is_no_matter() {
        let deep = alloc::format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(field(&deep, "a").map(str::len), Some(200_000));
    }
}
