//! What a provider reports that a request used.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Tokens that a request used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt (input) tokens, those read from or written to a cache included.
    pub prompt: u64,
    /// Completion (output) tokens.
    pub completion: u64,
}

/// The usage of all three APIs. OpenAI's cached tokens are part of its prompt tokens; Anthropic's come on
/// top of its input tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Reported {
    prompt_tokens: Option<u64>,
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

impl Reported {
    /// What is reported of it; a later report of a stream, `newer`, replaces an earlier one.
    pub(crate) fn updated(self, newer: Self) -> Self {
        Self {
            prompt_tokens: newer.prompt_tokens.or(self.prompt_tokens),
            input_tokens: newer.input_tokens.or(self.input_tokens),
            cache_creation_input_tokens: newer
                .cache_creation_input_tokens
                .or(self.cache_creation_input_tokens),
            cache_read_input_tokens: newer.cache_read_input_tokens.or(self.cache_read_input_tokens),
            completion_tokens: newer.completion_tokens.or(self.completion_tokens),
            output_tokens: newer.output_tokens.or(self.output_tokens),
        }
    }

    /// Prompt tokens, if they are reported.
    pub(crate) fn prompt(&self) -> Option<u64> {
        let cached = self.cache_creation_input_tokens.unwrap_or(0);
        let cached = cached.saturating_add(self.cache_read_input_tokens.unwrap_or(0));
        self.prompt_tokens.or(self.input_tokens.map(|input| input.saturating_add(cached)))
    }

    /// Completion tokens, if they are reported.
    pub(crate) fn completion(&self) -> Option<u64> {
        self.completion_tokens.or(self.output_tokens)
    }

    /// Both, if both are.
    pub(crate) fn usage(&self) -> Option<Usage> {
        Some(Usage { prompt: self.prompt()?, completion: self.completion()? })
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

/// What an answer that is not a stream reports; none when it reports nothing that can be read.
#[must_use]
pub fn reported_usage(body: &[u8]) -> Option<Usage> {
    let answer: Answer<'_> = serde_json::from_slice(body).ok()?;
    serde_json::from_str::<Reported>(answer.usage?.get()).ok()?.usage()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_api_is_understood() {
        let usage = |prompt, completion| Some(Usage { prompt, completion });
        let of = |body: &str| reported_usage(body.as_bytes());
        assert_eq!(
            of(r#"{"id":"x","usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}"#),
            usage(7, 3)
        );
        assert_eq!(
            of(
                r#"{"usage":{"input_tokens":7,"input_tokens_details":{"cached_tokens":5},"output_tokens":3}}"#
            ),
            usage(7, 3)
        );
        assert_eq!(
            of(
                r#"{"usage":{"input_tokens":7,"cache_creation_input_tokens":20,"cache_read_input_tokens":null,"output_tokens":3}}"#
            ),
            usage(27, 3)
        );
    }

    #[test]
    fn what_cannot_be_read_is_not_reported() {
        for body in [
            "",
            "{}",
            "[]",
            r#"{"usage":null}"#,
            r#"{"usage":{"prompt_tokens":-1,"completion_tokens":3}}"#,
            r#"{"usage":{"prompt_tokens":1}}"#,
            r#"{"usage":{"prompt_tokens":1,"completion_tokens":3}"#,
        ] {
            assert_eq!(reported_usage(body.as_bytes()), None, "{body}");
        }
    }
}
