//! What a registry tells the `metrics` facade, when it was built to.

use crate::error::CallError;
use crate::types::{Consumed, ThresholdCrossed};
use metrics::Unit;
use std::time::Instant;

/// Whether to tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meter(bool);

const TOKENS: &str = "thread_budget.tokens";
const CROSSINGS: &str = "thread_budget.crossings";
const HOLDS: &str = "thread_budget.holds";
const DURATION: &str = "thread_budget.call.duration_seconds";
const ERRORS: &str = "thread_budget.call.errors";

impl Meter {
    /// One that tells, after it has said what it will tell of.
    pub(crate) fn on() -> Self {
        metrics::describe_counter!(TOKENS, Unit::Count, "Tokens recorded, by kind: prompt, completion");
        metrics::describe_counter!(CROSSINGS, Unit::Count, "Thresholds crossed, by severity");
        metrics::describe_gauge!(HOLDS, Unit::Count, "Guards of calls in flight");
        metrics::describe_histogram!(DURATION, Unit::Seconds, "How long calls take, by call");
        metrics::describe_counter!(
            ERRORS,
            Unit::Count,
            "Calls not carried out, by call and kind: refused, failed"
        );
        Self(true)
    }

    /// When a call began; to be told when it ends.
    pub(crate) fn start(self) -> Option<Instant> {
        self.0.then(Instant::now)
    }

    /// Tell how long a call took, and count it when it was not carried out.
    pub(crate) fn end(self, name: &'static str, started: Option<Instant>, error: Option<&CallError>) {
        let Some(started) = started else { return };
        metrics::histogram!(DURATION, "call" => name).record(started.elapsed().as_secs_f64());
        if let Some(error) = error {
            let kind = if matches!(error, CallError::Refused(_)) { "refused" } else { "failed" };
            metrics::counter!(ERRORS, "call" => name, "kind" => kind).increment(1);
        }
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
            metrics::counter!(TOKENS, "kind" => "prompt").increment(prompt_tokens);
            metrics::counter!(TOKENS, "kind" => "completion").increment(completion_tokens);
        }
    }

    pub(crate) fn crossed(self, crossed: &[ThresholdCrossed]) {
        if self.0 {
            for crossed in crossed {
                metrics::counter!(CROSSINGS, "severity" => crossed.severity.as_str()).increment(1);
            }
        }
    }

    /// A guard was made (1) or is gone (-1).
    pub(crate) fn holds(self, change: f64) {
        if self.0 {
            metrics::gauge!(HOLDS).increment(change);
        }
    }
}
