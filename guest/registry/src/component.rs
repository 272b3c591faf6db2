//! The exports, each a translation of one call.

extern crate alloc;

use crate::runtime::InstanceState;
use alloc::string::String;
use alloc::vec::Vec;
use bindings::exports::thread_budget::registry::{registry, types, warnings};
use thread_budget_core::{self as core, Registry, Thresholds};

mod bindings {
    #![allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]
    use super::Component;
    wit_bindgen::generate!({
        path: "../../wit",
        world: "thread-budget",
        disable_run_ctors_once_workaround: true,
    });
    export!(Component);
}

static REGISTRY: InstanceState<Registry> = InstanceState::new(Registry::new());

/// What one thread takes in the list of all, beyond the bytes of its id: here, in the canonical ABI
/// (pointer, length and six counters), and, generously, for what the allocator adds to the id.
const ROW_BYTES: usize = size_of::<(String, types::Usage)>() + 56 + 32;

struct Component;

/// What a row of crossed thresholds takes beside its own size and the bytes of its id: in the canonical
/// ABI, and for what the allocator adds to the id.
const CROSSED_BYTES: usize = 56 + 32;

/// What a row of a snapshot takes in the canonical ABI, beside its own size and its lists.
const STATE_BYTES: usize = 96;

/// What a handle of the contract stands for.
struct ThreadBudget(core::ThreadBudget);

impl registry::Guest for Component {
    type ThreadBudget = ThreadBudget;

    fn configure(max_tokens_per_thread: u64) {
        REGISTRY.with(|registry| registry.configure(max_tokens_per_thread));
    }

    fn max_tokens_per_thread() -> u64 {
        REGISTRY.with(|registry| registry.max_tokens_per_thread())
    }

    fn set_thresholds(thresholds: Vec<types::Threshold>) -> Result<(), types::RegistryError> {
        REGISTRY.with(|registry| Ok(registry.set_thresholds(thresholds.into_iter().map(Into::into))?))
    }

    fn thresholds() -> Vec<types::Threshold> {
        REGISTRY.with(|registry| registry.thresholds().iter().map(Into::into).collect())
    }

    fn set_max_threads(max_threads: u32) {
        REGISTRY.with(|registry| registry.set_max_threads(max_threads));
    }

    fn set_next_birth(birth: u64) {
        REGISTRY.with(|registry| registry.set_next_birth(birth));
    }

    fn get_budget(thread_id: String) -> Result<registry::ThreadBudget, types::RegistryError> {
        let budget = REGISTRY.with(|registry| registry.get_budget(&thread_id))?;
        Ok(registry::ThreadBudget::new(ThreadBudget(budget)))
    }

    fn check_budget(thread_id: String, estimated_tokens: u64) -> Result<(), types::RegistryError> {
        REGISTRY.with(|registry| Ok(registry.check_budget(&thread_id, estimated_tokens)?))
    }

    fn consume(
        thread_id: String,
        prompt_tokens: u64,
        completion_tokens: u64,
    ) -> Result<types::Consumed, types::RegistryError> {
        REGISTRY.with(|registry| Ok(registry.consume(&thread_id, prompt_tokens, completion_tokens)?.into()))
    }

    fn consume_batch(
        entries: Vec<types::UsageEntry>,
    ) -> Result<Vec<types::ThresholdCrossed>, types::RegistryError> {
        let entries =
            entries.iter().map(|entry| (&*entry.thread_id, entry.prompt_tokens, entry.completion_tokens));
        let crossed = REGISTRY.with(|registry| registry.consume_batch(entries, CROSSED_BYTES))?;
        Ok(each(crossed))
    }

    fn hold(
        thread_id: String,
        request_id: String,
        prompt_tokens: u64,
        completion_tokens: u64,
        least_completion_tokens: u64,
        holder: u64,
        deadline: u64,
    ) -> Result<types::Held, types::RegistryError> {
        let wanted =
            core::Wanted { prompt_tokens, completion_tokens, least_completion_tokens, holder, deadline };
        REGISTRY.with(|registry| Ok(registry.hold(&thread_id, request_id, wanted)?.into()))
    }

    fn settle(
        thread_id: String,
        request_id: String,
        prompt_tokens: u64,
        completion_tokens: u64,
        remember: bool,
    ) -> Result<types::Consumed, types::RegistryError> {
        REGISTRY.with(|registry| {
            Ok(registry.settle(&thread_id, request_id, prompt_tokens, completion_tokens, remember)?.into())
        })
    }

    fn settle_lost(
        thread_id: String,
        request_id: String,
        prompt_tokens: u64,
        completion_tokens: u64,
    ) -> Result<types::Consumed, types::RegistryError> {
        REGISTRY.with(|registry| {
            Ok(registry.settle_lost(&thread_id, &request_id, prompt_tokens, completion_tokens)?.into())
        })
    }

    fn release(thread_id: String, request_id: String) -> bool {
        REGISTRY.with(|registry| registry.release(&thread_id, &request_id))
    }

    fn open_thread(
        thread_id: String,
        options: types::ThreadOptions,
    ) -> Result<registry::ThreadBudget, types::RegistryError> {
        let types::ThreadOptions { max_tokens, parent } = options;
        let budget =
            REGISTRY.with(|registry| registry.open_thread(&thread_id, max_tokens, parent.as_deref()))?;
        Ok(registry::ThreadBudget::new(ThreadBudget(budget)))
    }

    fn set_limit(thread_id: String, max_tokens: u64) -> Result<types::Usage, types::RegistryError> {
        REGISTRY.with(|registry| Ok(registry.set_limit(&thread_id, max_tokens)?.into()))
    }

    fn pending_warnings(thread_id: String) -> Vec<types::BudgetWarning> {
        let warnings = REGISTRY.with(|registry| registry.pending_warnings(&thread_id));
        each(warnings)
    }

    fn acknowledge_warnings(thread_id: String, acknowledgements: Vec<types::Acknowledgement>) {
        let acknowledgements =
            acknowledgements.into_iter().map(|given| (given.threshold_percent, given.max_tokens));
        REGISTRY.with(|registry| registry.acknowledge_warnings(&thread_id, acknowledgements));
    }

    fn held_tokens(thread_id: String) -> u64 {
        REGISTRY.with(|registry| registry.held_tokens(&thread_id))
    }

    fn has_budget(thread_id: String) -> bool {
        REGISTRY.with(|registry| registry.has_budget(&thread_id))
    }

    fn get_usage(thread_id: String) -> Option<types::Usage> {
        REGISTRY.with(|registry| registry.get_usage(&thread_id).map(Into::into))
    }

    fn get_all_usage() -> Vec<(String, types::Usage)> {
        REGISTRY.with(|registry| match registry.all_threads(ROW_BYTES) {
            Some(threads) => {
                threads.map(|thread| (thread.thread_id().into(), thread.usage().into())).collect()
            }
            None => Vec::new(),
        })
    }

    fn reset_thread(thread_id: String) {
        REGISTRY.with(|registry| registry.reset_thread(&thread_id));
    }

    fn cleanup_thread(thread_id: String) -> Option<types::FinalBudget> {
        REGISTRY.with(|registry| registry.cleanup_thread(&thread_id).map(Into::into))
    }

    fn clear() {
        REGISTRY.with(Registry::clear);
    }

    fn snapshot(after: Option<String>, limit: u32) -> Vec<types::ThreadState> {
        let states = REGISTRY.with(|registry| registry.snapshot(after.as_deref(), limit, STATE_BYTES));
        each(states)
    }

    fn restore(states: Vec<types::ThreadState>) -> Result<(), types::RegistryError> {
        let states: Vec<core::ThreadState> = each(states);
        REGISTRY.with(|registry| Ok(registry.restore(&states)?))
    }

    fn take_changes(limit: u32) -> Result<types::Changes, types::RegistryError> {
        let core::Changes { changed, gone } =
            REGISTRY.with(|registry| registry.take_changes(limit, STATE_BYTES))?;
        Ok(types::Changes { changed: each(changed), gone })
    }

    fn drop_tree(thread_id: String) -> bool {
        REGISTRY.with(|registry| registry.drop_tree(&thread_id))
    }
}

impl registry::GuestThreadBudget for ThreadBudget {
    fn thread_id(&self) -> String {
        self.0.thread_id().into()
    }

    fn usage(&self) -> types::Usage {
        self.0.usage().into()
    }

    fn percent_used(&self) -> f64 {
        self.0.budget().percent_used()
    }

    fn is_exhausted(&self) -> bool {
        self.0.budget().is_exhausted()
    }

    fn can_consume(&self, estimated_tokens: u64) -> bool {
        self.0.can_consume(estimated_tokens)
    }

    fn held_tokens(&self) -> u64 {
        self.0.held_tokens()
    }

    fn is_detached(&self) -> bool {
        self.0.is_detached()
    }

    fn consume(&self, prompt_tokens: u64, completion_tokens: u64) -> types::Consumed {
        REGISTRY.with(|registry| registry.consume_of(&self.0, prompt_tokens, completion_tokens).into())
    }

    fn triggered_thresholds(&self) -> Vec<u32> {
        self.0.triggered().map(|threshold| threshold.percent).collect()
    }

    fn check_thresholds(&self, thresholds: Vec<types::Threshold>) -> Vec<types::ThresholdCrossed> {
        let thresholds = Thresholds::reachable(thresholds.into_iter().map(Into::into));
        each(REGISTRY.with(|registry| registry.check_thresholds_of(&self.0, &thresholds)))
    }
}

impl warnings::Guest for Component {
    fn budget_warning(crossed: types::ThresholdCrossed) -> warnings::Warning {
        core::BudgetWarning::from(core::ThresholdCrossed::from(crossed)).into()
    }
}

impl From<types::Severity> for core::Severity {
    fn from(severity: types::Severity) -> Self {
        match severity {
            types::Severity::Warning => Self::Warning,
            types::Severity::Critical => Self::Critical,
            types::Severity::Final => Self::Final,
        }
    }
}

impl From<core::Severity> for types::Severity {
    fn from(severity: core::Severity) -> Self {
        match severity {
            core::Severity::Warning => Self::Warning,
            core::Severity::Critical => Self::Critical,
            core::Severity::Final => Self::Final,
        }
    }
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

translate!(types::Threshold => core::Threshold { percent, severity });
translate!(core::Threshold => types::Threshold { percent, severity });
translate!(core::Usage => types::Usage {
    prompt_tokens, completion_tokens, total_tokens, remaining, max_tokens, request_count
});
translate!(types::ThresholdCrossed => core::ThresholdCrossed {
    thread_id, threshold_percent, severity, percent_used, tokens_used, tokens_remaining, max_tokens,
    runway
});
translate!(core::ThresholdCrossed => types::ThresholdCrossed {
    thread_id, threshold_percent, severity, percent_used, tokens_used, tokens_remaining, max_tokens,
    runway
});
translate!(core::BudgetExhausted => types::BudgetExhausted { thread_id, used, held, max_tokens, requested });
translate!(core::FinalBudget => types::FinalBudget { usage, percent_used, triggered_thresholds });
translate!(core::BudgetWarning => types::BudgetWarning {
    thread_id, threshold_percent, percent_used, tokens_used, tokens_remaining, max_tokens, runway, severity,
    message
});
translate!(core::HoldState => types::HoldState {
    made_for, request_id, prompt_tokens, completion_tokens, completion_before, holder, deadline
});
translate!(types::HoldState => core::HoldState {
    made_for, request_id, prompt_tokens, completion_tokens, completion_before, holder, deadline
});
translate!(core::LostState => types::LostState { made_for, request_id, prompt_tokens, completion_tokens });
translate!(types::LostState => core::LostState { made_for, request_id, prompt_tokens, completion_tokens });

/// Where a field is a list of records, each is translated.
fn each<T, U: From<T>>(list: Vec<T>) -> Vec<U> {
    list.into_iter().map(Into::into).collect()
}

impl From<core::Consumed> for types::Consumed {
    fn from(core::Consumed { usage, room, severity, crossed, repeated }: core::Consumed) -> Self {
        Self {
            usage: usage.into(),
            room,
            severity: severity.map(Into::into),
            crossed: each(crossed),
            repeated,
        }
    }
}

impl From<core::Held> for types::Held {
    fn from(held: core::Held) -> Self {
        let core::Held { completion_tokens, usage, room, severity, runway, pending, repeated } = held;
        Self {
            completion_tokens,
            usage: usage.into(),
            room,
            severity: severity.map(Into::into),
            runway,
            pending: each(pending),
            repeated,
        }
    }
}

/// Translate a thread's state, both ways.
macro_rules! translate_state {
    ($from:path => $to:path) => {
        impl From<$from> for $to {
            fn from(state: $from) -> Self {
                let $from {
                    thread_id,
                    birth,
                    parent,
                    opened,
                    max_tokens,
                    prompt_tokens,
                    completion_tokens,
                    request_count,
                    average_tokens,
                    triggered_thresholds,
                    pending_thresholds,
                    request_ids,
                    holds,
                    lost,
                } = state;
                Self {
                    thread_id,
                    birth,
                    parent,
                    opened,
                    max_tokens,
                    prompt_tokens,
                    completion_tokens,
                    request_count,
                    average_tokens,
                    triggered_thresholds: each(triggered_thresholds),
                    pending_thresholds,
                    request_ids,
                    holds: each(holds),
                    lost: each(lost),
                }
            }
        }
    };
}

translate_state!(core::ThreadState => types::ThreadState);
translate_state!(types::ThreadState => core::ThreadState);

impl From<core::InvalidThreshold> for types::RegistryError {
    fn from(core::InvalidThreshold(percent): core::InvalidThreshold) -> Self {
        Self::InvalidThreshold(percent)
    }
}

impl From<core::CreateError> for types::RegistryError {
    fn from(error: core::CreateError) -> Self {
        match error {
            core::CreateError::InvalidThreadId(_) => {
                Self::InvalidThreadId(core::InvalidThreadId::TEXT.into())
            }
            core::CreateError::TooManyThreads(limit) => Self::TooManyThreads(limit),
            core::CreateError::OutOfMemory => Self::OutOfMemory,
        }
    }
}

impl From<core::CheckError> for types::RegistryError {
    fn from(error: core::CheckError) -> Self {
        match error {
            core::CheckError::Exhausted(exhausted) => Self::Exhausted(exhausted.into()),
            core::CheckError::Create(error) => error.into(),
        }
    }
}

impl From<core::BatchError> for types::RegistryError {
    fn from(error: core::BatchError) -> Self {
        match error {
            core::BatchError::TooLarge(most) => Self::BatchTooLarge(most),
            core::BatchError::Create(error) => error.into(),
        }
    }
}

impl From<core::OpenError> for types::RegistryError {
    fn from(error: core::OpenError) -> Self {
        match error {
            core::OpenError::UnknownParent(parent) => Self::UnknownParent(parent),
            core::OpenError::ParentCycle(parent) => Self::ParentCycle(parent),
            core::OpenError::TooDeep(most) => Self::TooDeep(most),
            core::OpenError::OptionsDiffer(thread_id) => Self::OptionsDiffer(thread_id),
            core::OpenError::Create(error) => error.into(),
        }
    }
}

impl From<core::InvalidRequestId> for types::RegistryError {
    fn from(_: core::InvalidRequestId) -> Self {
        Self::InvalidRequestId(core::InvalidRequestId::TEXT.into())
    }
}

impl From<core::HoldError> for types::RegistryError {
    fn from(error: core::HoldError) -> Self {
        match error {
            core::HoldError::Exhausted(exhausted) => Self::Exhausted(exhausted.into()),
            core::HoldError::InvalidRequestId(error) => error.into(),
            core::HoldError::TooManyHolds(most) => Self::TooManyHolds(most),
            core::HoldError::Create(error) => error.into(),
        }
    }
}

impl From<core::SettleError> for types::RegistryError {
    fn from(error: core::SettleError) -> Self {
        match error {
            core::SettleError::InvalidRequestId(error) => error.into(),
            core::SettleError::UnknownHold => Self::UnknownHold,
            core::SettleError::Create(error) => error.into(),
        }
    }
}

impl From<core::RestoreError> for types::RegistryError {
    fn from(error: core::RestoreError) -> Self {
        match error {
            core::RestoreError::InvalidState(why) => Self::InvalidState(why),
            core::RestoreError::Open(error) => error.into(),
        }
    }
}
