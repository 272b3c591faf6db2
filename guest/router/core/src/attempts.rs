//! Who is asked next where a provider has not answered, and when.

use crate::config::Config;
use crate::retry;
use alloc::vec::Vec;

/// The providers for a request, and how far it has come with them.
#[derive(Debug)]
pub(crate) struct Attempts {
    upstreams: Vec<usize>,
    at: usize,
    /// How often the current one was asked again.
    trial: u32,
}

/// What comes after an attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The same provider, after so many milliseconds.
    Again(u64),
    /// The next provider.
    Next,
    /// Nobody.
    GiveUp,
}

impl Attempts {
    pub(crate) fn new(upstreams: Vec<usize>) -> Self {
        Self { upstreams, at: 0, trial: 0 }
    }

    /// Ask nobody but this one, if it may be asked.
    pub(crate) fn only(&mut self, upstream: usize) {
        if self.upstreams.contains(&upstream) {
            self.upstreams = [upstream].into();
        }
    }

    /// Who may still answer: places in the configuration's list.
    pub(crate) fn left(&self) -> &[usize] {
        self.upstreams.get(self.at..).unwrap_or_default()
    }

    /// Whose turn it is: a place in the configuration's list.
    pub(crate) fn upstream(&self) -> Option<usize> {
        self.upstreams.get(self.at).copied()
    }

    /// Go on after an attempt that failed: with the same provider where that `may_pass`, after what it asked
    /// for in `wait`, or else with the next. `left` is the time that is left for all of it.
    pub(crate) fn after(
        &mut self,
        config: &Config,
        may_pass: bool,
        wait: Option<u64>,
        chance: u64,
        left: u64,
    ) -> Then {
        if left == 0 {
            return Then::GiveUp;
        }
        let pause = may_pass.then(|| retry::pause(config, self.trial, wait, chance)).flatten();
        if let Some(pause) = pause.filter(|&pause| pause < left) {
            self.trial += 1;
            return Then::Again(pause);
        }
        self.at += 1;
        self.trial = 0;
        if self.at < self.upstreams.len() { Then::Next } else { Then::GiveUp }
    }
}
