//! The registry's records as wasmtime makes them of the contract, and what becomes of the library's.

use thread_budget_host::{
    BudgetExhausted, BudgetWarning, Consumed, Severity, ThreadOptions, ThresholdCrossed, Usage,
};

pub(super) use bindings::exports::thread_budget::registry::types;

mod bindings {
    #![allow(missing_docs, unreachable_pub, dead_code, clippy::all)]
    wasmtime::component::bindgen!({ path: "../../wit", world: "thread-budget" });
}

/// Translate a record field by field; a field that is added or renamed stops compiling.
macro_rules! translate {
    ($from:path => $to:path { $($field:ident),* }) => {
        impl From<$from> for $to {
            fn from($from { $($field),* }: $from) -> Self {
                Self { $($field: $field.into()),* }
            }
        }
    };
}

translate!(Usage => types::Usage {
    prompt_tokens, completion_tokens, total_tokens, remaining, max_tokens, request_count
});
translate!(ThresholdCrossed => types::ThresholdCrossed {
    thread_id, threshold_percent, severity, percent_used, tokens_used, tokens_remaining, max_tokens
});
translate!(BudgetExhausted => types::BudgetExhausted { thread_id, used, max_tokens, requested });
translate!(BudgetWarning => types::BudgetWarning {
    percent_used, tokens_used, tokens_remaining, max_tokens, severity, message
});
translate!(types::ThreadOptions => ThreadOptions { max_tokens, parent });

impl From<Severity> for types::Severity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Warning => Self::Warning,
            Severity::Critical => Self::Critical,
            Severity::Final => Self::Final,
        }
    }
}

impl From<Consumed> for types::Consumed {
    fn from(Consumed { usage, crossed, repeated }: Consumed) -> Self {
        Self { usage: usage.into(), crossed: crossed.into_iter().map(Into::into).collect(), repeated }
    }
}
