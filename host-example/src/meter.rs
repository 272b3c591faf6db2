//! What a registry tells the `metrics` facade, when it was built to.

use crate::error::CallError;
use crate::types::{Consumed, ThresholdCrossed};
use std::time::Instant;

/// Whether to tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter(pub(crate) bool);

impl Meter {
    /// Time a call, and count it when it is a refusal.
    pub(crate) fn call<R>(
        self,
        name: &'static str,
        call: impl FnOnce() -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        if !self.0 {
            return call();
        }
        let started = Instant::now();
        let result = call();
        metrics::histogram!("thread_budget.call.duration_seconds", "call" => name)
            .record(started.elapsed().as_secs_f64());
        if let Err(error) = &result {
            let kind = if matches!(error, CallError::Refused(_)) { "refused" } else { "failed" };
            metrics::counter!("thread_budget.call.errors", "call" => name, "kind" => kind).increment(1);
        }
        result
    }

    /// Count what a request used and led to.
    pub(crate) fn consumed(self, consumed: &Consumed, prompt_tokens: u64, completion_tokens: u64) {
        if !consumed.repeated {
            self.tokens(prompt_tokens, completion_tokens);
            self.crossed(&consumed.crossed);
        }
    }

    pub(crate) fn tokens(self, prompt_tokens: u64, completion_tokens: u64) {
        if self.0 {
            metrics::counter!("thread_budget.tokens", "kind" => "prompt").increment(prompt_tokens);
            metrics::counter!("thread_budget.tokens", "kind" => "completion").increment(completion_tokens);
        }
    }

    pub(crate) fn crossed(self, crossed: &[ThresholdCrossed]) {
        if self.0 {
            for crossed in crossed {
                metrics::counter!("thread_budget.crossings", "severity" => crossed.severity.as_str())
                    .increment(1);
            }
        }
    }

    /// A reservation began (1) or ended (-1).
    pub(crate) fn reservations(self, change: f64) {
        if self.0 {
            metrics::gauge!("thread_budget.reservations").increment(change);
        }
    }
}
