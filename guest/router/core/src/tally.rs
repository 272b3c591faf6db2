//! What an answer has used, as far as it has come: what the provider reports, and what can be seen.

use crate::estimate;
use crate::json;
use crate::text;

/// Tokens that a request used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    /// Prompt (input) tokens, those read from or written to a cache included.
    pub(crate) prompt: u64,
    /// Completion (output) tokens.
    pub(crate) completion: u64,
}

impl Used {
    pub(crate) fn total(self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }
}

/// The count of one answer.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    reported: Reported,
    written_bytes: u64,
    has_ended: bool,
}

impl Tally {
    /// The provider reports usage: a `usage` object, of any API. A later report replaces an earlier one.
    pub(crate) fn reports(&mut self, usage: &str) {
        let _ = json::fields(usage, &mut |name, value| {
            if let (Some(place), Ok(tokens)) = (self.reported.place(name), value.parse()) {
                *place = Some(tokens);
            }
        });
    }

    /// The model wrote what is in this value.
    pub(crate) fn writes(&mut self, value: &str) {
        self.written_bytes += text::bytes(value);
    }

    /// The model wrote about so much, of which only the length is known.
    pub(crate) fn writes_bytes(&mut self, bytes: u64) {
        self.written_bytes = self.written_bytes.saturating_add(bytes);
    }

    /// Everything has been said: the event that ends a stream has come.
    pub(crate) fn ends(&mut self) {
        self.has_ended = true;
    }

    /// Whether everything has been said.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether the provider has said what all of it used.
    pub(crate) fn is_reported(&self) -> bool {
        self.reported.prompt().is_some() && self.reported.completion().is_some()
    }

    /// What it has used so far: what was reported, and where nothing was the estimated prompt and the output
    /// that was seen. `most` is the most output that the provider was asked for: the rule for what was seen is
    /// rough, so up to twice that counts as just that.
    pub(crate) fn used(&self, prompt: u64, most: Option<u64>) -> Used {
        let seen = estimate::of_output(self.written_bytes);
        let seen = match most {
            Some(most) if seen <= most.saturating_mul(2) => seen.min(most),
            _ => seen,
        };
        let reported = self.reported.completion();
        Used {
            prompt: self.reported.prompt().unwrap_or(prompt),
            completion: match reported {
                Some(reported) if self.has_ended => reported,
                Some(reported) => reported.max(seen),
                None => seen,
            },
        }
    }
}

/// The usage of all APIs. OpenAI's cached tokens are part of its prompt tokens; Anthropic's come on top of
/// its input tokens.
#[derive(Clone, Copy, Debug, Default)]
struct Reported {
    prompt_tokens: Option<u64>,
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

impl Reported {
    fn place(&mut self, name: &str) -> Option<&mut Option<u64>> {
        Some(match name {
            "prompt_tokens" => &mut self.prompt_tokens,
            "input_tokens" => &mut self.input_tokens,
            "cache_creation_input_tokens" => &mut self.cache_creation_input_tokens,
            "cache_read_input_tokens" => &mut self.cache_read_input_tokens,
            "completion_tokens" => &mut self.completion_tokens,
            "output_tokens" => &mut self.output_tokens,
            _ => return None,
        })
    }

    fn prompt(&self) -> Option<u64> {
        let cached = self.cache_creation_input_tokens.unwrap_or(0);
        let cached = cached.saturating_add(self.cache_read_input_tokens.unwrap_or(0));
        self.prompt_tokens.or(self.input_tokens.map(|input| input.saturating_add(cached)))
    }

    fn completion(&self) -> Option<u64> {
        self.completion_tokens.or(self.output_tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(usage: &[&str], written: u64, ended: bool) -> Used {
        let mut tally = Tally { has_ended: ended, ..Tally::default() };
        for usage in usage {
            tally.reports(usage);
        }
        tally.writes_bytes(written);
        tally.used(100, Some(50))
    }

    fn is(prompt: u64, completion: u64) -> Used {
        Used { prompt, completion }
    }

    #[test]
    fn every_api_reports() {
        assert_eq!(
            used(&[r#"{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}"#], 400, true),
            is(7, 3)
        );
        assert_eq!(
            used(
                &[r#"{"input_tokens":7,"input_tokens_details":{"cached_tokens":5},"output_tokens":3}"#],
                0,
                true
            ),
            is(7, 3)
        );
        assert_eq!(
            used(
                &[
                    r#"{"input_tokens":7,"cache_creation_input_tokens":20,"cache_read_input_tokens":null,"output_tokens":1}"#,
                    r#"{"output_tokens":3}"#
                ],
                0,
                true
            ),
            is(27, 3)
        );
    }

    #[test]
    fn what_is_not_reported_is_what_was_seen() {
        assert_eq!(used(&[], 40, true), is(100, 10));
        assert_eq!(used(&["null", "[]", "{", r#"{"prompt_tokens":-1}"#], 0, false), is(100, 0));
        assert_eq!(used(&[r#"{"input_tokens":9,"output_tokens":1}"#], 40, false), is(9, 10));
    }

    #[test]
    fn long_words_are_within_what_was_asked_for_and_twice_that_is_not() {
        assert_eq!(used(&[], 200, false).completion, 50);
        assert_eq!(used(&[], 400, false).completion, 50);
        assert_eq!(used(&[], 401, false).completion, 101);
    }
}
