//! Between the registry's records, as the policy's contract has them, and those of the library, which are the
//! same field by field. A field that is added or renamed there stops compiling here.

use super::policy::registry as wit;
use thread_budget_host::{
    Acknowledgement, BudgetExhausted, BudgetWarning, CallError, Consumed, Held, InvalidInput, Severity,
    ThreadOptions, ThresholdCrossed, Usage,
};

/// Becomes its counterpart on the other side.
pub(super) trait Translate<T> {
    fn translate(self) -> T;
}

macro_rules! itself {
    ($($type:ty)*) => { $(impl Translate<$type> for $type {
        fn translate(self) -> $type {
            self
        }
    })* };
}

itself!(bool u32 u64 f64 String);

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

macro_rules! records {
    ($($from:path => $to:path { $($field:ident),* $(,)? })*) => { $(
        impl Translate<$to> for $from {
            fn translate(self) -> $to {
                let $from { $($field),* } = self;
                $to { $($field: $field.translate()),* }
            }
        }
    )* };
}

records! {
    Usage => wit::Usage { prompt_tokens, completion_tokens, total_tokens, remaining, max_tokens, request_count }
    Held => wit::Held { completion_tokens, usage, room, severity, runway, pending, repeated }
    Consumed => wit::Consumed { usage, room, severity, crossed, repeated }
    ThresholdCrossed => wit::ThresholdCrossed {
        thread_id, threshold_percent, severity, percent_used, tokens_used, tokens_remaining, max_tokens, runway,
    }
    BudgetWarning => wit::BudgetWarning {
        thread_id, threshold_percent, percent_used, tokens_used, tokens_remaining, max_tokens, runway, severity,
        message,
    }
    BudgetExhausted => wit::BudgetExhausted { thread_id, used, held, max_tokens, requested }
    wit::ThreadOptions => ThreadOptions { max_tokens, parent }
    wit::Acknowledgement => Acknowledgement { threshold_percent, max_tokens }
}

impl Translate<wit::Severity> for Severity {
    fn translate(self) -> wit::Severity {
        match self {
            Self::Warning => wit::Severity::Warning,
            Self::Critical => wit::Severity::Critical,
            Self::Final => wit::Severity::Final,
        }
    }
}

/// What the contract says of an error; the error itself where the registry could not be asked.
pub(super) fn refusal(error: CallError) -> Result<wit::RegistryError, CallError> {
    Ok(match error {
        CallError::Refused(exhausted) => wit::RegistryError::Exhausted(exhausted.translate()),
        CallError::Invalid(InvalidInput::RequestId { .. }) => {
            wit::RegistryError::InvalidRequestId(error.to_string())
        }
        CallError::Invalid(_) => wit::RegistryError::InvalidThreadId(error.to_string()),
        CallError::TooManyThreads { limit } => wit::RegistryError::TooManyThreads(limit),
        CallError::TooManyHolds { max } => wit::RegistryError::TooManyHolds(max),
        CallError::OutOfMemory => wit::RegistryError::OutOfMemory,
        CallError::UnknownParent { parent } => wit::RegistryError::UnknownParent(parent),
        CallError::ParentCycle { parent } => wit::RegistryError::ParentCycle(parent),
        CallError::TooDeep { max } => wit::RegistryError::TooDeep(max),
        CallError::OptionsDiffer { thread_id } => wit::RegistryError::OptionsDiffer(thread_id),
        CallError::UnknownHold => wit::RegistryError::UnknownHold,
        CallError::Storage(_)
        | CallError::StaleHandle
        | CallError::Deadline { .. }
        | CallError::Trap { .. }
        | CallError::InstanceLost { .. } => return Err(error),
    })
}
