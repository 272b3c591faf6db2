//! What an answer has used, as far as it has come: what the provider reports, and what can be seen.

use crate::estimate;
use crate::json;
use crate::text;
use crate::usage::{Report, Tokens};
use alloc::string::String;

/// What a request used, in tokens that count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    /// For the prompt (input), with what was read from or written to a cache.
    pub(crate) prompt: u64,
    /// For the completion (output).
    pub(crate) completion: u64,
}

impl Used {
    pub(crate) fn of([prompt, completion]: [u64; 2]) -> Self {
        Self { prompt, completion }
    }

    pub(crate) fn total(self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }
}

/// The count of one answer.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    report: Report,
    written_bytes: u64,
    has_failed: bool,
    /// What the provider calls the answer, where it can be asked for it again.
    name: Option<String>,
    /// Whether what is reported is of all of it.
    is_final: bool,
    has_ended: bool,
}

impl Tally {
    /// A field of an answer or of an event, which may say what was used, or that there is no answer.
    pub(crate) fn reads(&mut self, name: &str, value: &str) {
        match name {
            "error" | "errors" => self.has_failed |= says_something(value),
            "object" | "type" => self.has_failed |= value == "\"error\"",
            // In the place of an answer, as many servers word an error.
            "detail" | "message" => self.has_failed |= json::is_text(value) && says_something(value),
            "choices" if value.contains("\"error\"") => {
                let _ = json::items(value, &mut |choice| {
                    self.has_failed |= json::field(choice, "error").is_some_and(says_something);
                });
            }
            _ => {}
        }
        self.report.read_field(name, value);
    }

    /// The provider reports usage: a `usage` object, of any API.
    pub(crate) fn reports(&mut self, usage: &str) {
        self.report.read_usage(usage);
    }

    /// It reports usage before the model has written anything.
    pub(crate) fn starts(&mut self, usage: &str) {
        self.report.read_start(usage);
    }

    /// The model wrote what is in this value.
    pub(crate) fn writes(&mut self, value: &str) {
        self.writes_bytes(text::bytes(value));
    }

    /// The model wrote about so much, of which only the length is known.
    pub(crate) fn writes_bytes(&mut self, bytes: u64) {
        // What had been reported by now was of less.
        self.is_final &= bytes == 0;
        self.written_bytes = self.written_bytes.saturating_add(bytes);
    }

    /// The provider calls the answer by this name.
    pub(crate) fn names(&mut self, name: &str) {
        self.name.get_or_insert_with(|| name.into());
    }

    /// What the provider calls an answer that has not been ended.
    pub(crate) fn name_of_rest(&self) -> Option<&str> {
        self.name.as_deref().filter(|_| !self.has_ended)
    }

    /// There is an error where an answer should be, or its rest.
    pub(crate) fn fails(&mut self) {
        self.has_failed = true;
    }

    /// The model has written everything, so that what has been reported by now is final, if not the end.
    pub(crate) fn stops(&mut self) {
        self.is_final = true;
    }

    /// Whether nothing more is to be expected than the end.
    pub(crate) fn has_stopped(&self) -> bool {
        self.is_final
    }

    /// Everything has been said: the event that ends a stream has come.
    pub(crate) fn ends(&mut self) {
        self.is_final = true;
        self.has_ended = true;
    }

    /// Whether everything has been said.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether the provider has said what all of it used.
    pub(crate) fn is_reported(&self) -> bool {
        let said = self.report.last_word();
        let has_completion = said.completion() > 0 || self.report.is_whole() && self.written_bytes == 0;
        said.prompt() > 0 && has_completion || self.report.undivided() > 0
    }

    /// Whether there is an error and nothing else, which costs nothing.
    pub(crate) fn is_free(&self) -> bool {
        self.has_failed && self.written_bytes == 0 && self.report.tokens() == Tokens::default()
    }

    /// What it has used so far: what was reported, and where nothing was the estimated prompt and the output
    /// that was seen. `most` is the most output that the provider was asked for: the rule for what was seen is
    /// rough, so up to twice that counts as just that.
    pub(crate) fn used(&self, prompt: u64, most: Option<u64>) -> Tokens {
        let seen = estimate::of_output(self.written_bytes);
        let seen = match most {
            Some(most) if seen <= most.saturating_mul(2) => seen.min(most),
            _ => seen,
        };
        let all = self.report.undivided();
        if all > 0 {
            let completion = all.saturating_sub(prompt).max(seen.min(all));
            return Tokens { input: all - completion, output: completion, ..Tokens::default() };
        }
        let mut used = self.report.tokens();
        // A prompt has tokens, and so has an output: zeros are no report.
        if used.prompt() == 0 {
            used = used.with_prompt(prompt);
        }
        let is_final = self.is_final && self.report.last_word().completion() > 0;
        if !is_final && used.completion() < seen {
            used = used.with_completion(seen);
        }
        used
    }
}

/// Whether a field that tells of errors does.
fn says_something(value: &str) -> bool {
    !matches!(value, "null" | "false" | "\"\"") && !json::is_empty_array(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Rates;

    fn used(usage: &[&str], written: u64, ended: bool) -> Used {
        let mut tally = Tally::default();
        for usage in usage {
            tally.reports(usage);
        }
        tally.writes_bytes(written);
        tally.is_final = ended;
        all(tally.used(100, Some(50)))
    }

    fn all(tokens: Tokens) -> Used {
        Used::of(Rates::default().weigh(tokens))
    }

    fn is(prompt: u64, completion: u64) -> Used {
        Used { prompt, completion }
    }

    #[test]
    fn what_is_not_reported_is_what_was_seen() {
        assert_eq!(used(&[], 40, true), is(100, 10));
        assert_eq!(used(&["null", "[]", "{", r#"{"prompt_tokens":-1}"#], 0, false), is(100, 0));
        assert_eq!(used(&[r#"{"input_tokens":9,"output_tokens":1}"#], 40, false), is(9, 10));
        assert_eq!(used(&[r#"{"input_tokens":9,"output_tokens":1}"#], 40, true), is(9, 1));
    }

    #[test]
    fn zeros_beside_an_output_are_no_report() {
        const ZEROS: &str = r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#;
        assert_eq!(used(&[ZEROS], 40, true), is(100, 10));
        assert_eq!(used(&[r#"{"prompt_tokens":7,"completion_tokens":0}"#], 40, true), is(7, 10));
        assert_eq!(used(&[r#"{"prompt_tokens":7,"completion_tokens":0}"#], 0, true), is(7, 0));
    }

    #[test]
    fn of_a_total_the_prompt_is_what_it_was_estimated_at() {
        assert_eq!(used(&[r#"{"total_tokens":130}"#], 40, true), is(100, 30));
        assert_eq!(used(&[r#"{"total_tokens":30}"#], 40, true), is(20, 10));
        assert_eq!(used(&[r#"{"total_tokens":5}"#], 40, true), is(0, 5));
    }

    #[test]
    fn what_a_stream_starts_with_is_not_the_last_word() {
        let mut tally = Tally::default();
        tally.starts(r#"{"input_tokens":9,"output_tokens":5}"#);
        tally.ends();
        assert_eq!(all(tally.used(100, None)), is(9, 5));
        tally.writes_bytes(40);
        tally.ends();
        assert_eq!(all(tally.used(100, None)), is(9, 10));
        tally.reports(r#"{"input_tokens":0,"output_tokens":7}"#);
        assert_eq!(all(tally.used(100, None)), is(9, 7));
    }

    #[test]
    fn an_error_and_nothing_else_is_free() {
        let tally = |fields: &[(&str, &str)]| {
            let mut tally = Tally::default();
            for (name, value) in fields {
                tally.reads(name, value);
            }
            tally
        };
        for error in [
            ("error", r#"{"message":"no"}"#),
            ("error", "\"no\""),
            ("error", "true"),
            ("errors", "[{}]"),
            ("type", "\"error\""),
            ("object", "\"error\""),
            ("detail", "\"no such model\""),
            ("message", "\"too many requests\""),
            ("choices", r#"[{"index":0,"error":{"code":502}}]"#),
        ] {
            assert!(tally(&[error]).is_free(), "{error:?}");
            assert!(tally(&[error, ("usage", r#"{"prompt_tokens":0}"#)]).is_free(), "{error:?}");
            assert!(!tally(&[error, ("usage", r#"{"prompt_tokens":1}"#)]).is_free(), "{error:?}");
        }
        for none in [
            ("error", "null"),
            ("errors", "[]"),
            ("error", "false"),
            ("type", "\"message\""),
            ("message", "{}"),
        ] {
            assert!(!tally(&[none]).is_free(), "{none:?}");
        }
    }

    #[test]
    fn long_words_are_within_what_was_asked_for_and_twice_that_is_not() {
        assert_eq!(used(&[], 200, false).completion, 50);
        assert_eq!(used(&[], 400, false).completion, 50);
        assert_eq!(used(&[], 401, false).completion, 101);
    }
}
