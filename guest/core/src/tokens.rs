//! Tokens of one request, as the provider bills them.

/// Prompt and completion tokens. Sums saturate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) prompt: u64,
    pub(crate) completion: u64,
}

impl Tokens {
    pub(crate) const fn new(prompt: u64, completion: u64) -> Self {
        Self { prompt, completion }
    }

    pub(crate) const fn total(self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    pub(crate) fn plus(self, others: Self) -> Self {
        Self::new(
            self.prompt.saturating_add(others.prompt),
            self.completion.saturating_add(others.completion),
        )
    }

    /// What these are more than others, of prompt and completion each.
    pub(crate) fn beyond(self, others: Self) -> Self {
        Self::new(
            self.prompt.saturating_sub(others.prompt),
            self.completion.saturating_sub(others.completion),
        )
    }

    /// The larger of these and others, of prompt and completion each.
    pub(crate) fn max(self, others: Self) -> Self {
        Self::new(self.prompt.max(others.prompt), self.completion.max(others.completion))
    }
}
