//! What a call is charged that was sent to a provider and of which nobody said what it used.

use serde::Deserialize;

/// How calls that got lost are settled: their guard was dropped after [`Hold::sent`](crate::Hold::sent), or
/// their process ended while they were in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LostCalls {
    /// At the prompt, and every slice of the completion but the latest: a hold that grew has used what it had
    /// before.
    #[default]
    Prompt,
    /// At all that was held.
    All,
    /// At nothing.
    Nothing,
}

/// What was held of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slices {
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    /// The completion before its latest slice.
    pub(crate) completion_before: u64,
}

impl Slices {
    pub(crate) fn new(prompt_tokens: u64, completion_tokens: u64) -> Self {
        Self { prompt_tokens, completion_tokens, completion_before: 0 }
    }

    /// Other numbers are asked for. More is a slice, and those before it are used.
    pub(crate) fn ask(&mut self, completion_tokens: u64) {
        if completion_tokens > self.completion_tokens {
            self.completion_before = self.completion_tokens;
        }
    }

    /// They were granted.
    pub(crate) fn set(&mut self, prompt_tokens: u64, completion_tokens: u64) {
        self.ask(completion_tokens);
        self.completion_before = self.completion_before.min(completion_tokens);
        (self.prompt_tokens, self.completion_tokens) = (prompt_tokens, completion_tokens);
    }

    /// The prompt and completion tokens to charge; none when the hold is to be let go.
    pub(crate) fn charge(self, lost_calls: LostCalls) -> Option<(u64, u64)> {
        match lost_calls {
            LostCalls::Prompt => Some((self.prompt_tokens, self.completion_before)),
            LostCalls::All => Some((self.prompt_tokens, self.completion_tokens)),
            LostCalls::Nothing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slice_but_the_latest_counts() {
        let mut slices = Slices::new(10, 100);
        assert_eq!(slices.charge(LostCalls::Prompt), Some((10, 0)));
        slices.set(10, 300);
        slices.set(12, 600);
        assert_eq!(slices.charge(LostCalls::Prompt), Some((12, 300)));
        assert_eq!(slices.charge(LostCalls::All), Some((12, 600)));
        assert_eq!(slices.charge(LostCalls::Nothing), None);
        slices.set(12, 600);
        assert_eq!(slices.charge(LostCalls::Prompt), Some((12, 300)), "the same again is no slice");
        slices.set(12, 200);
        assert_eq!(slices.charge(LostCalls::Prompt), Some((12, 200)), "given back");
    }
}
