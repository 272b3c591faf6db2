//! Between the contract's records, as wasmtime makes them, and those of this crate, which are the same field
//! by field. A field that is added or renamed there stops compiling here.

use crate::bindings::exports::thread_budget::registry::types as wit;
use crate::error::{CallError, InvalidInput};
use crate::types::{
    Acknowledgement, BudgetExhausted, BudgetWarning, Consumed, FinalBudget, Held, HoldState, LostState,
    Severity, ThreadOptions, ThreadState, Threshold, ThresholdCrossed, Usage, UsageEntry,
};

/// Becomes its counterpart on the other side.
pub(crate) trait Translate<T> {
    fn translate(self) -> T;
}

macro_rules! translate_itself {
    ($($type:ty)*) => { $(impl Translate<$type> for $type {
        fn translate(self) -> $type {
            self
        }
    })* };
}

translate_itself!(() bool u32 u64 f64 String);

impl<T: Translate<U>, U> Translate<Vec<U>> for Vec<T> {
    fn translate(self) -> Vec<U> {
        self.into_iter().map(T::translate).collect()
    }
}

impl<T: Translate<U>, U> Translate<Option<U>> for Option<T> {
    fn translate(self) -> Option<U> {
        self.map(T::translate)
    }
}

impl<T: Translate<V>, U: Translate<W>, V, W> Translate<(V, W)> for (T, U) {
    fn translate(self) -> (V, W) {
        (self.0.translate(), self.1.translate())
    }
}

macro_rules! translate_fields {
    ($from:path => $to:path { $($field:ident),* }) => {
        impl Translate<$to> for $from {
            fn translate(self) -> $to {
                let $from { $($field),* } = self;
                $to { $($field: $field.translate()),* }
            }
        }
    };
}

macro_rules! translate_records {
    ($($record:ident { $($field:ident),* $(,)? })*) => { $(
        translate_fields!(wit::$record => $record { $($field),* });
        translate_fields!($record => wit::$record { $($field),* });
    )* };
}

translate_records! {
    Acknowledgement { threshold_percent, max_tokens }
    BudgetExhausted { thread_id, used, held, max_tokens, requested }
    BudgetWarning {
        thread_id, threshold_percent, percent_used, tokens_used, tokens_remaining, max_tokens, runway, severity,
        message,
    }
    Consumed { usage, room, severity, crossed, repeated }
    FinalBudget { usage, percent_used, triggered_thresholds }
    Held { completion_tokens, usage, room, severity, pending, repeated }
    HoldState { made_for, request_id, prompt_tokens, completion_tokens, completion_before, holder, deadline }
    LostState { made_for, request_id, prompt_tokens, completion_tokens }
    ThreadOptions { max_tokens, parent }
    ThreadState {
        thread_id, birth, parent, opened, max_tokens, prompt_tokens, completion_tokens, request_count,
        average_tokens, triggered_thresholds, pending_thresholds, request_ids, holds, lost,
    }
    Threshold { percent, severity }
    ThresholdCrossed {
        thread_id, threshold_percent, severity, percent_used, tokens_used, tokens_remaining, max_tokens, runway,
    }
    Usage { prompt_tokens, completion_tokens, total_tokens, remaining, max_tokens, request_count }
    UsageEntry { thread_id, prompt_tokens, completion_tokens }
}

macro_rules! translate_cases {
    ($from:path => $to:path { $($case:ident),* }) => {
        impl Translate<$to> for $from {
            fn translate(self) -> $to {
                match self { $(<$from>::$case => <$to>::$case),* }
            }
        }
    };
}

translate_cases!(wit::Severity => Severity { Warning, Critical, Final });
translate_cases!(Severity => wit::Severity { Warning, Critical, Final });

impl From<wit::RegistryError> for CallError {
    fn from(error: wit::RegistryError) -> Self {
        let invalid = |reason| Self::Invalid(InvalidInput::State { reason });
        match error {
            wit::RegistryError::Exhausted(exhausted) => Self::Refused(exhausted.translate()),
            wit::RegistryError::TooManyThreads(limit) => Self::TooManyThreads { limit },
            wit::RegistryError::InvalidThreshold(percent) => {
                Self::Invalid(InvalidInput::Threshold { percent })
            }
            wit::RegistryError::OutOfMemory => Self::OutOfMemory,
            wit::RegistryError::UnknownParent(parent) => Self::UnknownParent { parent },
            wit::RegistryError::ParentCycle(parent) => Self::ParentCycle { parent },
            wit::RegistryError::TooDeep(max) => Self::TooDeep { max },
            wit::RegistryError::OptionsDiffer(thread_id) => Self::OptionsDiffer { thread_id },
            wit::RegistryError::TooManyHolds(max) => Self::TooManyHolds { max },
            wit::RegistryError::UnknownHold => Self::UnknownHold,
            wit::RegistryError::InvalidState(reason) => invalid(reason),
            // The host looks at ids and batches first: these cannot come from a call of its own.
            wit::RegistryError::InvalidThreadId(reason) | wit::RegistryError::InvalidRequestId(reason) => {
                invalid(reason)
            }
            wit::RegistryError::BatchTooLarge(most) => invalid(format!("a batch has at most {most} entries")),
        }
    }
}
