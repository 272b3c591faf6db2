//! Bytes as a source of choices. When they run out, every choice is the first.

use crate::agreement::HANDLES;
use crate::model::{Hold, Mark, Severity, Thread, Threshold};
use serde_json::{Value, json};
use std::collections::BTreeSet;

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

    /// An argument of a call, by its name.
    pub(super) fn argument(&mut self, name: &str) -> Value {
        match name {
            "thread_id" => self.thread_id().into(),
            "request_id" => self.request_id().into(),
            "on" | "as" => self.handle().into(),
            "prompt_tokens" | "completion_tokens" => self.count().into(),
            "estimated_tokens" | "deadline" => self.any_count().into(),
            "least_completion_tokens" => self.maybe(Self::any_count).unwrap_or_default().into(),
            "max_tokens" | "max_tokens_per_thread" => self.limit().into(),
            "remember" => (self.below(2) == 1).into(),
            "holder" | "birth" => self.byte().into(),
            "limit" => u32::MAX.into(),
            "max_threads" => self.maybe(|s| s.below(20)).unwrap_or(u8::MAX).into(),
            "threshold_percent" => self.percent().into(),
            "options" => {
                json!({ "max_tokens": self.maybe(Self::limit), "parent": self.maybe(Self::thread_id) })
            }
            "thresholds" => json!(self.thresholds()),
            "entries" => self.records(6, &["thread_id", "prompt_tokens", "completion_tokens"]),
            "acknowledgements" => self.records(4, &["threshold_percent", "max_tokens"]),
            "states" => json!(self.list(3, |s| s.state(Self::count))),
            _ => unreachable!("no argument is called {name}"),
        }
    }

    fn records(&mut self, most: u8, fields: &[&str]) -> Value {
        let record = |s: &mut Self| {
            fields.iter().map(|name| ((*name).to_owned(), s.argument(name))).collect::<Value>()
        };
        self.list(most, record).into()
    }

    pub(super) fn handle(&mut self) -> &'static str {
        self.pick(&HANDLES)
    }

    pub(super) fn thread_id(&mut self) -> String {
        match self.byte() {
            0..=129 => self.pick(&THREADS[..3]).into(),
            130..=199 => self.pick(&THREADS).into(),
            200..=239 => link(self.below(20)),
            240..=249 => "x".repeat(1_020 + usize::from(self.below(10))),
            _ => self.text(),
        }
    }

    fn request_id(&mut self) -> String {
        match self.byte() {
            0..=99 => "r".into(),
            100..=199 => format!("r{}", self.below(3)),
            200..=239 => format!("q{}", self.below(80)),
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
        match self.below(16) {
            0..=4 => 0,
            5..=11 => self.number(1),
            12..=14 => self.number(2),
            _ => self.number(4),
        }
    }

    fn limit(&mut self) -> u64 {
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

    fn threshold(&mut self) -> Threshold {
        let severities = [Severity::Warning, Severity::Critical, Severity::Final];
        Threshold { percent: self.percent(), severity: self.pick(&severities) }
    }

    fn thresholds(&mut self) -> Vec<Threshold> {
        self.list(5, Self::threshold)
    }

    /// Mostly a possible one. `count` gives its counts.
    pub(super) fn state(&mut self, count: fn(&mut Self) -> u64) -> Thread {
        let parent = self.maybe(Self::thread_id);
        let hold = |s: &mut Self| Hold {
            made_for: s.maybe(Self::thread_id),
            request_id: s.request_id(),
            prompt_tokens: count(s),
            completion_tokens: count(s),
            completion_before: s.below(3).into(),
            holder: s.any_count(),
            deadline: s.any_count(),
        };
        let mark = |s: &mut Self| Mark {
            made_for: s.maybe(Self::thread_id),
            request_id: s.request_id(),
            prompt_tokens: count(s),
            completion_tokens: count(s),
        };
        let mut state = Thread {
            thread_id: self.thread_id(),
            birth: self.any_count(),
            opened: parent.is_some() || self.below(2) == 1,
            parent,
            max_tokens: self.limit(),
            prompt_tokens: count(self),
            completion_tokens: count(self),
            request_count: count(self),
            average_tokens: self.below(4).into(),
            triggered_thresholds: self.thresholds(),
            pending_thresholds: self.list(4, Self::percent),
            request_ids: self.list(3, Self::request_id),
            holds: self.list(3, hold),
            lost: self.list(3, mark),
        };
        let flaws = self.byte();
        if flaws & 1 == 0 {
            make_possible(&mut state);
        }
        if flaws & 14 == 14 {
            state.opened = !state.opened;
        }
        if flaws & 48 == 48 {
            state.request_ids.extend((0..60 + self.below(8)).map(|n| format!("r{n}")));
        }
        state
    }
}

/// Thresholds in order, reached and crossed; each request once, and of no more than was used.
fn make_possible(state: &mut Thread) {
    let reached: Vec<u32> = (1..=100).filter(|percent| state.reaches(*percent)).collect();
    state.triggered_thresholds.retain(|threshold| reached.contains(&threshold.percent));
    state.triggered_thresholds.sort_by_key(|threshold| threshold.percent);
    state.triggered_thresholds.dedup_by_key(|threshold| threshold.percent);
    let crossed: Vec<u32> = state.triggered_thresholds.iter().map(|threshold| threshold.percent).collect();
    state.pending_thresholds.retain(|percent| crossed.contains(percent));
    state.pending_thresholds.sort_unstable();
    state.pending_thresholds.dedup();
    state.request_count = state.request_count.max(1);
    state.average_tokens = state.average_tokens.min(state.prompt_tokens.max(state.completion_tokens));

    let mut names = BTreeSet::new();
    let mut is_new = |made_for: &Option<String>, id: &str| {
        made_for.as_ref() != Some(&state.thread_id) && names.insert((made_for.clone(), id.to_owned()))
    };
    state.request_ids.retain(|id| is_new(&None, id));
    state.holds.retain(|hold| is_new(&hold.made_for, &hold.request_id));
    state.lost.retain(|mark| is_new(&mark.made_for, &mark.request_id));
    for hold in &mut state.holds {
        hold.completion_before = hold.completion_before.min(hold.completion_tokens);
    }
    for mark in &mut state.lost {
        mark.prompt_tokens = mark.prompt_tokens.min(state.prompt_tokens);
        mark.completion_tokens = mark.completion_tokens.min(state.completion_tokens);
    }
}

/// A thread of a line of them.
pub(super) fn link(number: u8) -> String {
    format!("t{number}")
}
