//! Which errors are the registry's answer, for the policy to decide on.

use thread_budget_host::{CallError, InvalidInput, RegistryError};

/// What the contract says of an error; the error itself where the registry could not be asked.
pub(super) fn refusal(error: CallError) -> Result<RegistryError, CallError> {
    Ok(match error {
        CallError::Refused(exhausted) => RegistryError::Exhausted(exhausted),
        CallError::Invalid(InvalidInput::RequestId { .. }) => {
            RegistryError::InvalidRequestId(error.to_string())
        }
        CallError::Invalid(_) => RegistryError::InvalidThreadId(error.to_string()),
        CallError::TooManyThreads { limit } => RegistryError::TooManyThreads(limit),
        CallError::TooManyHolds { max } => RegistryError::TooManyHolds(max),
        CallError::OutOfMemory => RegistryError::OutOfMemory,
        CallError::UnknownParent { parent } => RegistryError::UnknownParent(parent),
        CallError::ParentCycle { parent } => RegistryError::ParentCycle(parent),
        CallError::TooDeep { max } => RegistryError::TooDeep(max),
        CallError::OptionsDiffer { thread_id } => RegistryError::OptionsDiffer(thread_id),
        CallError::UnknownHold => RegistryError::UnknownHold,
        CallError::Storage(_)
        | CallError::Store(_)
        | CallError::StaleHandle
        | CallError::Deadline { .. }
        | CallError::Trap { .. }
        | CallError::InstanceLost { .. } => return Err(error),
    })
}
