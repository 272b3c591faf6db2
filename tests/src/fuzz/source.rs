//! Bytes as a source of choices. When they run out, every choice is the first.

use thread_budget_host::{Severity, ThreadState, Threshold};

/// Few, so that calls meet on the same threads. The last is impossible.
const THREADS: [&str; 12] = ["a", "b", "c", "ab", "é", "thread-1", "thread-10", "h0", "h1", "h2", "h3", ""];

pub(super) struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    /// Less than `n`.
    pub(super) fn below(&mut self, n: u8) -> u8 {
        self.byte() % n
    }

    fn number(&mut self, bytes: usize) -> u64 {
        (0..bytes).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    pub(super) fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()].clone()
    }

    pub(super) fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(2) == 1).then(|| make(self))
    }

    pub(super) fn list<T>(&mut self, most: u8, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    pub(super) fn thread_id(&mut self) -> String {
        match self.byte() {
            0..=199 => self.pick(&THREADS).into(),
            200..=239 => link(self.below(20)),
            240..=249 => "x".repeat(1_020 + usize::from(self.below(10))),
            _ => self.text(),
        }
    }

    pub(super) fn request_id(&mut self) -> String {
        match self.byte() {
            0..=239 => format!("r{}", self.below(80)),
            240..=249 => "x".repeat(250 + usize::from(self.below(10))),
            _ => self.text(),
        }
    }

    fn text(&mut self) -> String {
        let bytes = self.list(12, Self::byte);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Small enough, summed up, for the model's plain f64 arithmetic to be exact.
    pub(super) fn count(&mut self) -> u64 {
        match self.below(4) {
            0 => 0,
            1 => self.number(1),
            2 => self.number(2),
            _ => self.number(4),
        }
    }

    pub(super) fn limit(&mut self) -> u64 {
        match self.below(8) {
            0 => 0,
            1..=3 => 1 + self.number(1),
            4..=6 => 1 + self.number(2),
            _ => 1 + self.number(6),
        }
    }

    /// Any count that there is.
    pub(super) fn any_count(&mut self) -> u64 {
        match self.below(4) {
            0..=1 => self.count(),
            2 => self.number(8),
            _ => u64::MAX - self.number(1),
        }
    }

    fn percent(&mut self) -> u32 {
        match self.byte() {
            byte @ 0..=249 => 1 + u32::from(byte % 100),
            byte => [0, 101, u32::MAX][usize::from(byte % 3)],
        }
    }

    pub(super) fn threshold(&mut self) -> Threshold {
        Threshold { percent: self.percent(), severity: self.pick(&Severity::ALL) }
    }

    pub(super) fn thresholds(&mut self) -> Vec<Threshold> {
        self.list(5, Self::threshold)
    }

    /// Mostly a possible one. `count` gives its counts.
    pub(super) fn state(&mut self, count: fn(&mut Self) -> u64) -> ThreadState {
        let parent = self.maybe(Self::thread_id);
        let mut state = ThreadState {
            thread_id: self.thread_id(),
            opened: parent.is_some() || self.below(2) == 1,
            parent,
            max_tokens: self.limit(),
            prompt_tokens: count(self),
            completion_tokens: count(self),
            request_count: count(self),
            triggered_thresholds: self.list(4, Self::percent),
            undelivered_thresholds: self.thresholds(),
            request_ids: self.list(3, Self::request_id),
        };
        let flaws = self.byte();
        if flaws & 1 == 0 {
            self.make_possible(&mut state);
        }
        if flaws & 14 == 14 {
            state.opened = !state.opened;
        }
        if flaws & 48 == 48 {
            state.request_ids.extend((0..60 + self.below(8)).map(|n| format!("r{n}")));
        }
        state
    }

    /// Thresholds in order, reached and crossed; each request once.
    fn make_possible(&mut self, state: &mut ThreadState) {
        let total = state.prompt_tokens.saturating_add(state.completion_tokens);
        let (total, limit) = (u128::from(total), u128::from(state.max_tokens));
        let reached = |percent: &u32| {
            (1..=100).contains(percent) && limit > 0 && total * 100 >= u128::from(*percent) * limit
        };
        state.undelivered_thresholds.retain(|threshold| reached(&threshold.percent));
        state.undelivered_thresholds.sort_by_key(|threshold| threshold.percent);
        state.undelivered_thresholds.dedup_by_key(|threshold| threshold.percent);
        let undelivered = state.undelivered_thresholds.iter().map(|threshold| threshold.percent);
        state.triggered_thresholds.extend(undelivered);
        state.triggered_thresholds.retain(reached);
        state.triggered_thresholds.sort_unstable();
        state.triggered_thresholds.dedup();
        state.request_ids.sort_unstable();
        state.request_ids.dedup();
    }
}

/// A thread of a line of them.
pub(super) fn link(number: u8) -> String {
    format!("t{number}")
}
