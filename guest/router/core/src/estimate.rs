//! What text takes, before anybody has counted its tokens: rules of thumb, from its bytes.
//!
//! Bytes of UTF-8 hold for any script, which characters do not. The tokenizers o200k and cl100k take 3.4 to 4.4 bytes a
//! token of English, code, JSON and HTML, and 2.8 to 3.9 of Chinese; Anthropic's some less than they.

/// The least that a prompt is estimated at, in tokens.
const LEAST: u64 = 100;

/// Bytes in a token of what a model wrote.
const BYTES_PER_TOKEN: u64 = 4;

/// Bytes in 2 tokens of a prompt. It is held before it is counted, so it is better some more than some less.
const BYTES_PER_TWO_TOKENS: u64 = 7;

/// What an image takes: one of the larger sizes that providers reduce it to.
const IMAGE: u64 = 1_500;

/// Characters of base64 in a token of a file: a page of a PDF is some 80 KB, and takes some 2,500.
const FILE_CHARACTERS_PER_TOKEN: u64 = 40;

/// From here on what looks like base64 is the content of an image or of a file, in characters.
const LEAST_CONTENT: usize = 256;

/// The tokens of what a model wrote, of so many bytes.
pub(crate) fn of_output(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

/// The tokens of a prompt that is written in these pieces of JSON: schemas of tools, images and files included.
pub(crate) fn of_prompt<'a>(pieces: impl Iterator<Item = &'a str>) -> u64 {
    let mut prompt = Prompt::default();
    pieces.for_each(|piece| prompt.read(piece));
    let text = prompt.bytes.saturating_mul(2).div_ceil(BYTES_PER_TWO_TOKENS);
    LEAST.max(text.saturating_add(prompt.tokens))
}

#[derive(Default)]
struct Prompt {
    /// Of text, and of what it is written in.
    bytes: u64,
    /// Of images and files.
    tokens: u64,
}

impl Prompt {
    /// Read JSON, which has been found to be some.
    fn read(&mut self, json: &str) {
        let mut rest = json;
        let mut name = "";
        while let Some(quote) = rest.find('"') {
            self.count(&rest[..quote]);
            let (string, decoded_bytes) = string_in(&rest[quote + 1..]);
            rest = rest.get(quote + 1 + string.len() + 1..).unwrap_or_default();
            if rest.trim_start().starts_with(':') {
                name = string;
                self.bytes += decoded_bytes;
            } else {
                self.value(name, string, decoded_bytes);
            }
        }
        self.count(rest);
    }

    /// Count what stands between strings, but for white space.
    fn count(&mut self, json: &str) {
        self.bytes += json.bytes().filter(|byte| !byte.is_ascii_whitespace()).count() as u64;
    }

    /// Count a string that is the value of a field, or an item of one.
    fn value(&mut self, name: &str, string: &str, decoded_bytes: u64) {
        if name == "type" && matches!(string, "image" | "image_url" | "input_image") {
            self.tokens += IMAGE;
        } else if let Some(content) = content_in(name, string) {
            // What an image takes does not depend on how long it is written.
            if !is_image(content) {
                self.tokens += content.len() as u64 / FILE_CHARACTERS_PER_TOKEN;
            }
        } else {
            self.bytes += decoded_bytes;
        }
    }
}

/// A string up to its end, as it is written, and how many bytes of UTF-8 it stands for.
fn string_in(rest: &str) -> (&str, u64) {
    let bytes = rest.as_bytes();
    let (mut at, mut saved) = (0, 0);
    while let Some(next) = bytes[at..].iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        at += next;
        if bytes[at] == b'"' {
            return (&rest[..at], (at - saved) as u64);
        }
        if bytes.get(at + 1) == Some(&b'u') {
            // Four digits that stand for two bytes, or three; two such, for four, are a character beyond.
            let code = rest.get(at + 2..at + 6).and_then(|digits| u32::from_str_radix(digits, 16).ok());
            saved += match code.unwrap_or(0) {
                0..0x80 => 5,
                0x80..0x800 | 0xd800..0xe000 => 4,
                _ => 3,
            };
            at += 6;
        } else {
            saved += 1;
            at += 2;
        }
        if at > bytes.len() {
            break;
        }
    }
    (rest, (rest.len() - saved.min(rest.len())) as u64)
}

/// The content of an image or of a file, in base64, if that is what a string is.
fn content_in<'a>(name: &str, string: &'a str) -> Option<&'a str> {
    if let Some(url) = string.strip_prefix("data:") {
        return url.split_once(";base64,").map(|(_, content)| content);
    }
    (string.len() >= LEAST_CONTENT && matches!(name, "data" | "file_data" | "b64_json")).then_some(string)
}

/// Whether content in base64 begins as that of a PNG, a JPEG, a GIF or a WebP does.
fn is_image(content: &str) -> bool {
    ["iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR"].iter().any(|start| content.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    fn prompt(json: &str) -> (u64, u64) {
        let mut prompt = Prompt::default();
        prompt.read(json);
        (prompt.bytes, prompt.tokens)
    }

    #[test]
    fn text_counts_as_it_is_meant_and_not_as_it_is_written() {
        assert_eq!(prompt(r#""hello""#), (5, 0));
        assert_eq!(prompt(r#" [ { "a" : "b" } , 12 ] "#), (10, 0));
        for (written, bytes) in [
            (r"\n", 1),
            (r#"\""#, 1),
            (r"\u0041", 1),
            (r"\u00e9", 2),
            (r"\u4e2d", 3),
            (r"\ud83d\ude00", 4),
            ("中", 3),
            (r"\\", 1),
        ] {
            assert_eq!(prompt(&format!("\"{written}\"")), (bytes, 0), "{written}");
        }
        for broken in ["\"", "\"\\", "\"\\u", "\"\\u12", "\"é\\u1é"] {
            prompt(broken);
        }
        assert_eq!(of_prompt(["[]"].into_iter()), 100);
        assert_eq!(of_prompt([&*format!("\"{}\"", "x".repeat(7_000))].into_iter()), 2_000);
    }

    #[test]
    fn images_and_files_count_by_what_they_are() {
        let long = "A".repeat(4_000);
        let image = format!(
            r#"{{"type":"image_url","image_url":{{"url":"data:image/png;base64,iVBORw0KGgo{long}"}}}}"#
        );
        assert_eq!(prompt(&image).1, 1_500);
        let image = format!(
            r#"{{"type":"image","source":{{"type":"base64","data":"/9j/{long}","media_type":"image/jpeg"}}}}"#
        );
        assert_eq!(prompt(&image).1, 1_500);
        assert_eq!(prompt(r#"{"type":"input_image","file_id":"f"}"#).1, 1_500);
        let file = format!(r#"{{"type":"input_file","file_data":"data:application/pdf;base64,{long}"}}"#);
        assert_eq!(prompt(&file).1, 100);
        assert_eq!(prompt(r#"{"type":"text","text":"data: image"}"#).1, 0);
    }
}
