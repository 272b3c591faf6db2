//! Changing JSON where it has to change, and nowhere else: what a client wrote stays as it was written,
//! numbers and the order of fields included.

use serde_json::value::RawValue;
use std::ops::Range;

/// Changes to one JSON text, in any order, which do not overlap.
pub(crate) struct Splice<'a> {
    json: &'a str,
    changes: Vec<(Range<usize>, String)>,
}

impl<'a> Splice<'a> {
    pub(crate) fn new(json: &'a str) -> Self {
        Self { json, changes: Vec::new() }
    }

    /// Put `json` in the place of a value.
    pub(crate) fn replace(&mut self, value: &'a RawValue, json: String) {
        self.changes.push((self.place(value), json));
    }

    /// Put items at the end of an array.
    pub(crate) fn push(&mut self, array: &'a RawValue, items: &[String]) {
        let end = self.place(array).end - 1;
        let is_empty = array.get()[1..].trim_start().starts_with(']');
        let comma = if is_empty { "" } else { "," };
        self.changes.push((end..end, format!("{comma}{}", items.join(","))));
    }

    /// Put a field, which it must not have, at the beginning of an object.
    pub(crate) fn add_field(&mut self, object: &'a RawValue, name: &str, json: &str) {
        self.add_field_at(self.place(object).start + 1, name, json);
    }

    /// Put a field, which it must not have, at the beginning of the whole, which is an object.
    pub(crate) fn add_first_field(&mut self, name: &str, json: &str) {
        self.add_field_at(self.json.find('{').map_or(0, |brace| brace + 1), name, json);
    }

    fn add_field_at(&mut self, start: usize, name: &str, json: &str) {
        let is_empty = self.json[start..].trim_start().starts_with('}');
        let comma = if is_empty { "" } else { "," };
        self.changes.push((start..start, format!("\"{name}\":{json}{comma}")));
    }

    /// Put text at the end of a string.
    pub(crate) fn extend_string(&mut self, string: &'a RawValue, text: &str) {
        let end = self.place(string).end - 1;
        let quoted = quote(text);
        self.changes.push((end..end, quoted[1..quoted.len() - 1].into()));
    }

    /// The changed text.
    pub(crate) fn finish(mut self) -> String {
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
        result
    }

    /// Where a value is that was read out of this text.
    fn place(&self, value: &'a RawValue) -> Range<usize> {
        let start = value.get().as_ptr().addr() - self.json.as_ptr().addr();
        start..start + value.get().len()
    }
}

/// Text as a JSON string.
pub(crate) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whether a value is an array, an object, a string: what its first character says.
pub(crate) fn starts_with(value: &RawValue, first: char) -> bool {
    value.get().starts_with(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Fields<'a> {
        #[serde(borrow)]
        list: &'a RawValue,
        text: &'a RawValue,
        object: &'a RawValue,
        number: &'a RawValue,
    }

    #[test]
    fn only_what_changes_changes() {
        let json = r#"{ "number" : 1.50 ,"list":[ ], "other":1e400, "text":"a\"", "object":{"x":1}}"#;
        let fields: Fields<'_> = serde_json::from_str(json).unwrap();
        let mut splice = Splice::new(json);
        splice.push(fields.list, &["1".into(), "2".into()]);
        splice.extend_string(fields.text, "\n\"é");
        splice.add_field(fields.object, "y", "2");
        splice.replace(fields.number, "3".into());
        assert_eq!(
            splice.finish(),
            r#"{ "number" : 3 ,"list":[ 1,2], "other":1e400, "text":"a\"\n\"é", "object":{"y":2,"x":1}}"#
        );
    }
}
