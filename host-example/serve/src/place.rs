//! Where in a file a setting is.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The line, from 1, of the setting of that full name: of several the one that says `text`, or else the first.
pub(super) fn line_of(file: &str, name: &str, text: Option<&str>) -> Option<usize> {
    let table = DeTable::parse(file).ok()?;
    let path: Vec<&str> = name.split('.').collect();
    let mut found = Vec::new();
    find_in(table.get_ref(), &path, &mut found);
    let says = |value: &&&Spanned<DeValue<'_>>| text.is_some_and(|text| says(value.get_ref(), text));
    let start = found.iter().find(says).or_else(|| found.first())?.span().start;
    Some(1 + file.get(..start)?.matches('\n').count())
}

/// Every value of that path.
fn find_in<'t>(table: &'t DeTable<'_>, path: &[&str], found: &mut Vec<&'t Spanned<DeValue<'t>>>) {
    let Some((name, rest)) = path.split_first() else { return };
    if let Some(value) = table.get(*name) {
        find(value, rest, found);
    }
}

/// The same; each value of a list may have one.
fn find<'t>(value: &'t Spanned<DeValue<'_>>, path: &[&str], found: &mut Vec<&'t Spanned<DeValue<'t>>>) {
    match value.get_ref() {
        _ if path.is_empty() => found.push(value),
        DeValue::Array(values) => values.iter().for_each(|value| find(value, path, found)),
        DeValue::Table(table) => find_in(table, path, found),
        _ => {}
    }
}

/// Whether a value is that text, or has it in it.
fn says(value: &DeValue<'_>, text: &str) -> bool {
    match value {
        DeValue::String(string) => string == text,
        DeValue::Array(values) => values.iter().any(|value| says(value.get_ref(), text)),
        DeValue::Table(table) => table.values().any(|value| says(value.get_ref(), text)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::line_of;

    #[test]
    fn a_setting_is_found_wherever_it_may_stand() {
        let file = "a = 1\nb.c = 2\nlist = [{ x = \"1\" },\n  { x = \"2\" }]\n[d]\ne = [\n  \"f\",\n]\n\n[[g]]\nh = \"i\"\n[[g]]\nh = \"j\"\n";
        for (name, text, line) in [
            ("a", None, Some(1)),
            ("b.c", None, Some(2)),
            ("list.x", None, Some(3)),
            ("list.x", Some("2"), Some(4)),
            ("d.e", Some("f"), Some(6)),
            ("g.h", Some("j"), Some(13)),
            ("g.h", None, Some(11)),
            ("g.k", None, None),
        ] {
            assert_eq!(line_of(file, name, text), line, "{name}");
        }
        assert_eq!(line_of("a = ", "a", None), None);
    }
}
