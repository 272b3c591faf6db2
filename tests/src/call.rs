//! A call of the contract, and what came of it, as JSON: the language of the vectors.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thread_budget_host::{ThreadOptions, ThreadState, Threshold, ThresholdCrossed, UsageEntry};

/// One call, named and with arguments as in the contract. Handles, on budgets and reservations, have
/// names that vectors give them.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "call", rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs)]
pub enum Call {
    Configure {
        max_tokens_per_thread: u64,
    },
    MaxTokensPerThread {},
    SetThresholds {
        thresholds: Vec<Threshold>,
    },
    Thresholds {},
    SetMaxThreads {
        max_threads: u32,
    },
    /// Keeps the handle under the name `as`.
    GetBudget {
        thread_id: String,
        r#as: String,
    },
    CheckBudget {
        thread_id: String,
        estimated_tokens: u64,
    },
    Consume {
        thread_id: String,
        prompt_tokens: u64,
        completion_tokens: u64,
    },
    ConsumeOnce {
        thread_id: String,
        request_id: String,
        prompt_tokens: u64,
        completion_tokens: u64,
    },
    ConsumeBatch {
        entries: Vec<UsageEntry>,
    },
    /// Keeps the reservation under the name `as`.
    Reserve {
        thread_id: String,
        estimated_tokens: u64,
        r#as: String,
    },
    /// Keeps the handle under the name `as`.
    OpenThread {
        thread_id: String,
        options: ThreadOptions,
        r#as: String,
    },
    SetLimit {
        thread_id: String,
        max_tokens: u64,
    },
    TakeWarnings {
        thread_id: String,
    },
    HeldTokens {
        thread_id: String,
    },
    HasBudget {
        thread_id: String,
    },
    GetUsage {
        thread_id: String,
    },
    GetAllUsage {},
    ResetThread {
        thread_id: String,
    },
    CleanupThread {
        thread_id: String,
    },
    Clear {},
    Snapshot {
        after: Option<String>,
        limit: u32,
    },
    Restore {
        states: Vec<ThreadState>,
    },
    #[serde(rename = "reservation.tokens")]
    ReservationTokens {
        on: String,
    },
    #[serde(rename = "reservation.charged-thread")]
    ReservationChargedThread {
        on: String,
    },
    /// Takes the reservation.
    #[serde(rename = "reservation.commit")]
    ReservationCommit {
        on: String,
        prompt_tokens: u64,
        completion_tokens: u64,
    },
    /// Takes the reservation.
    #[serde(rename = "reservation.drop")]
    ReservationDrop {
        on: String,
    },
    #[serde(rename = "thread-budget.thread-id")]
    BudgetThreadId {
        on: String,
    },
    #[serde(rename = "thread-budget.usage")]
    BudgetUsage {
        on: String,
    },
    #[serde(rename = "thread-budget.percent-used")]
    BudgetPercentUsed {
        on: String,
    },
    #[serde(rename = "thread-budget.is-exhausted")]
    BudgetIsExhausted {
        on: String,
    },
    #[serde(rename = "thread-budget.held-tokens")]
    BudgetHeldTokens {
        on: String,
    },
    #[serde(rename = "thread-budget.is-detached")]
    BudgetIsDetached {
        on: String,
    },
    #[serde(rename = "thread-budget.can-consume")]
    BudgetCanConsume {
        on: String,
        estimated_tokens: u64,
    },
    #[serde(rename = "thread-budget.consume")]
    BudgetConsume {
        on: String,
        prompt_tokens: u64,
        completion_tokens: u64,
    },
    #[serde(rename = "thread-budget.triggered-thresholds")]
    BudgetTriggeredThresholds {
        on: String,
    },
    #[serde(rename = "thread-budget.check-thresholds")]
    BudgetCheckThresholds {
        on: String,
        thresholds: Vec<Threshold>,
    },
    BudgetWarning {
        crossed: ThresholdCrossed,
    },
}

impl Call {
    /// Whether it changes nothing, whatever it is answered.
    #[must_use]
    pub fn is_query(&self) -> bool {
        matches!(
            self,
            Self::MaxTokensPerThread {}
                | Self::Thresholds {}
                | Self::HasBudget { .. }
                | Self::GetUsage { .. }
                | Self::GetAllUsage {}
                | Self::HeldTokens { .. }
                | Self::Snapshot { .. }
        )
    }
}

/// What a call returned, or the contract's error. Counts that a JavaScript number cannot hold are
/// decimal strings in both.
pub type Outcome = Result<Value, Value>;

/// The largest count that every JSON reader takes as it is written.
const LARGEST_PORTABLE: u64 = 1 << 53;

/// A result as the vectors write it.
pub(crate) fn returned(value: impl Serialize) -> Value {
    let mut value = json!(value);
    make_portable(&mut value);
    value
}

/// Replace counts that a JavaScript number cannot hold by decimal strings.
fn make_portable(value: &mut Value) {
    for_each_scalar(value, &|scalar| {
        if let Some(count) = scalar.as_u64().filter(|count| *count > LARGEST_PORTABLE) {
            *scalar = Value::String(count.to_string());
        }
    });
}

/// Put the numbers back.
pub(crate) fn undo_portable(value: &mut Value) {
    for_each_scalar(value, &|scalar| {
        let count = scalar.as_str().and_then(|text| text.parse::<u64>().ok());
        if let Some(count) = count.filter(|count| *count > LARGEST_PORTABLE) {
            *scalar = count.into();
        }
    });
}

fn for_each_scalar(value: &mut Value, change: &dyn Fn(&mut Value)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| for_each_scalar(item, change)),
        Value::Object(fields) => fields.values_mut().for_each(|field| for_each_scalar(field, change)),
        scalar => change(scalar),
    }
}
