//! Changing JSON where it has to change, and nowhere else: what a client wrote stays as it was written,
//! numbers and the order of fields included.

use crate::json::quote;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// Changes to one JSON text, in any order, which do not overlap. What they are made to are parts of it.
pub(crate) struct Splice<'a> {
    json: &'a str,
    changes: Vec<(Range<usize>, String)>,
}

impl<'a> Splice<'a> {
    pub(crate) fn new(json: &'a str) -> Self {
        Self { json, changes: Vec::new() }
    }

    /// Put `json` in the place of a value.
    pub(crate) fn replace(&mut self, value: &'a str, json: String) {
        self.changes.push((self.place(value), json));
    }

    /// Put an item at the end of an array.
    pub(crate) fn push(&mut self, array: &'a str, item: &str) {
        let end = self.place(array).end - 1;
        let is_empty = array[1..].trim_start().starts_with(']');
        let comma = if is_empty { "" } else { "," };
        self.changes.push((end..end, format!("{comma}{item}")));
    }

    /// Put a field, which it must not have, at the beginning of an object; that may be the whole.
    pub(crate) fn add_field(&mut self, object: &'a str, name: &str, json: &str) {
        let place = self.place(object);
        let start = place.start + self.json[place].find('{').map_or(0, |brace| brace + 1);
        let is_empty = self.json[start..].trim_start().starts_with('}');
        let comma = if is_empty { "" } else { "," };
        self.changes.push((start..start, format!("\"{name}\":{json}{comma}")));
    }

    /// Put a value in the place of a field of the whole, or add the field.
    pub(crate) fn set_field(&mut self, field: Option<&'a str>, name: &str, json: &str) {
        match field {
            Some(value) => self.replace(value, json.into()),
            None => self.add_field(self.json, name, json),
        }
    }

    /// Put text at the end of a string.
    pub(crate) fn extend_string(&mut self, string: &'a str, text: &str) {
        let end = self.place(string).end - 1;
        let quoted = quote(text);
        self.changes.push((end..end, quoted[1..quoted.len() - 1].into()));
    }

    /// The changed text; none when nothing changes.
    pub(crate) fn finish(mut self) -> Option<String> {
        if self.changes.is_empty() {
            return None;
        }
        // Stable, so that what goes to one place stays in its order.
        self.changes.sort_by_key(|(place, _)| place.start);
        let added = self.changes.iter().map(|(_, new)| new.len()).sum::<usize>();
        let mut result = String::with_capacity(self.json.len() + added);
        let mut copied = 0;
        for (place, new) in &self.changes {
            result.push_str(&self.json[copied..place.start]);
            result.push_str(new);
            copied = place.end;
        }
        result.push_str(&self.json[copied..]);
        Some(result)
    }

    /// Where a part of this text is.
    fn place(&self, part: &'a str) -> Range<usize> {
        let start = part.as_ptr().addr() - self.json.as_ptr().addr();
        start..start + part.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::field;

    #[test]
    fn only_what_changes_changes() {
        let json = r#" { "number" : 1.50 ,"list":[ ], "other":1e400, "text":"a\"", "object":{"x":1}}"#;
        let part = |name| field(json, name).unwrap();
        let mut splice = Splice::new(json);
        splice.push(part("list"), "1");
        splice.extend_string(part("text"), "\n\"é");
        splice.add_field(part("object"), "y", "2");
        splice.set_field(Some(part("number")), "number", "3");
        splice.set_field(None, "new", "4");
        splice.set_field(None, "newer", "5");
        assert_eq!(
            splice.finish().unwrap(),
            r#" {"new":4,"newer":5, "number" : 3 ,"list":[ 1], "other":1e400, "text":"a\"\n\"é", "object":{"y":2,"x":1}}"#
        );
        assert_eq!(Splice::new(json).finish(), None);
    }

    #[test]
    fn an_empty_object_takes_fields() {
        let mut splice = Splice::new("{ }");
        splice.set_field(None, "a", "1");
        assert_eq!(splice.finish().unwrap(), r#"{"a":1 }"#);
    }
}
