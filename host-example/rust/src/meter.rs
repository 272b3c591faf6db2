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
const RESERVATIONS: &str = "thread_budget.reservations";
const DURATION: &str = "thread_budget.call.duration_seconds";
const ERRORS: &str = "thread_budget.call.errors";

impl Meter {
    /// One that tells, after it has said what it will tell of.
    pub(crate) fn on() -> Self {
        metrics::describe_counter!(TOKENS, Unit::Count, "Tokens recorded, by kind: prompt, completion");
        metrics::describe_counter!(CROSSINGS, Unit::Count, "Thresholds crossed, by severity");
        metrics::describe_gauge!(RESERVATIONS, Unit::Count, "Reservations that hold tokens now");
        metrics::describe_histogram!(DURATION, Unit::Seconds, "How long calls take, by call");
        metrics::describe_counter!(
            ERRORS,
            Unit::Count,
            "Calls not carried out, by call and kind: refused, failed"
        );
        Self(true)
    }

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
        metrics::histogram!(DURATION, "call" => name).record(started.elapsed().as_secs_f64());
        if let Err(error) = &result {
            let kind = if matches!(error, CallError::Refused(_)) { "refused" } else { "failed" };
            metrics::counter!(ERRORS, "call" => name, "kind" => kind).increment(1);
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

    /// A reservation began (1) or ended (-1).
    pub(crate) fn reservations(self, change: f64) {
        if self.0 {
            metrics::gauge!(RESERVATIONS).increment(change);
        }
    }
}
