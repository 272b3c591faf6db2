//! What makes, changes and ends a thread.

use super::{Call, Operation, call};
use crate::bounds::{check_id, check_percents};
use crate::error::CallError;
use crate::instance::{Handle, Instance};
use crate::types::{Acknowledgement, FinalBudget, ThreadOptions, Threshold, ThresholdCrossed, Usage};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GetBudget<'a> {
    pub(crate) thread_id: Cow<'a, str>,
}

impl Call for GetBudget<'_> {
    call!("get-budget", GetBudget -> Handle, of thread_id);
    const CREATES: bool = true;
    const WAITS: bool = false;

    fn apply(&self, instance: &mut Instance) -> Result<Handle, CallError> {
        check_id(&self.thread_id)?;
        let resource = instance.ask(|registry, store| registry.call_get_budget(store, &self.thread_id))?;
        Ok(instance.handle(resource))
    }

    fn replay(&self, instance: &mut Instance) -> Result<(), CallError> {
        let handle = self.apply(instance)?;
        instance.free(handle);
        Ok(())
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CheckBudget<'a> {
    pub(crate) thread_id: Cow<'a, str>,
    pub(crate) estimated_tokens: u64,
}

impl Call for CheckBudget<'_> {
    call!("check-budget", CheckBudget -> (), of thread_id);
    const ADMITS: bool = true;
    const CREATES: bool = true;
    const WAITS: bool = false;

    fn apply(&self, instance: &mut Instance) -> Result<(), CallError> {
        check_id(&self.thread_id)?;
        instance
            .ask(|registry, store| registry.call_check_budget(store, &self.thread_id, self.estimated_tokens))
    }

    fn replay(&self, instance: &mut Instance) -> Result<(), CallError> {
        match self.apply(instance) {
            // It has created the thread all the same.
            Err(CallError::Refused(_)) => Ok(()),
            other => other,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OpenThread<'a> {
    pub(crate) thread_id: Cow<'a, str>,
    pub(crate) options: Cow<'a, ThreadOptions>,
}

impl Call for OpenThread<'_> {
    call!("open-thread", OpenThread -> Handle, of thread_id);
    const CREATES: bool = true;

    fn apply(&self, instance: &mut Instance) -> Result<Handle, CallError> {
        check_id(&self.thread_id)?;
        if let Some(parent) = &self.options.parent
            && check_id(parent).is_err()
        {
            return Err(CallError::UnknownParent { parent: parent.clone() });
        }
        let resource = instance
            .ask(|registry, store| registry.call_open_thread(store, &self.thread_id, &self.options))?;
        Ok(instance.handle(resource))
    }

    fn replay(&self, instance: &mut Instance) -> Result<(), CallError> {
        let handle = self.apply(instance)?;
        instance.free(handle);
        Ok(())
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SetLimit<'a> {
    pub(crate) thread_id: Cow<'a, str>,
    pub(crate) max_tokens: u64,
}

impl Call for SetLimit<'_> {
    call!("set-limit", SetLimit -> Usage, of thread_id);

    fn apply(&self, instance: &mut Instance) -> Result<Usage, CallError> {
        check_id(&self.thread_id)?;
        instance.ask(|registry, store| registry.call_set_limit(store, &self.thread_id, self.max_tokens))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AcknowledgeWarnings<'a> {
    pub(crate) thread_id: Cow<'a, str>,
    pub(crate) acknowledgements: Cow<'a, [Acknowledgement]>,
}

impl Call for AcknowledgeWarnings<'_> {
    call!("acknowledge-warnings", AcknowledgeWarnings -> (), of thread_id);

    fn apply(&self, instance: &mut Instance) -> Result<(), CallError> {
        check_percents(&self.acknowledgements)?;
        if check_id(&self.thread_id).is_err() {
            return Ok(());
        }
        instance.call(|registry, store| {
            registry.call_acknowledge_warnings(store, &self.thread_id, &self.acknowledgements)
        })
    }

    fn changed(&self, (): &()) -> bool {
        !self.acknowledgements.is_empty()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CheckThresholds<'a> {
    pub(crate) thread_id: Cow<'a, str>,
    pub(crate) thresholds: Cow<'a, [Threshold]>,
}

impl Call for CheckThresholds<'_> {
    call!("thread-budget.check-thresholds", CheckThresholds -> Vec<ThresholdCrossed>, of thread_id);

    fn apply(&self, instance: &mut Instance) -> Result<Vec<ThresholdCrossed>, CallError> {
        check_percents(&self.thresholds)?;
        let get_budget = GetBudget { thread_id: Cow::Borrowed(&self.thread_id) };
        let handle = get_budget.apply(instance)?;
        let crossed = check_thresholds(instance, handle, &self.thresholds);
        instance.free(handle);
        crossed
    }

    fn changed(&self, crossed: &Vec<ThresholdCrossed>) -> bool {
        !crossed.is_empty()
    }
}

/// The same on a budget of which there is a handle.
pub(crate) fn check_thresholds(
    instance: &mut Instance,
    handle: Handle,
    thresholds: &[Threshold],
) -> Result<Vec<ThresholdCrossed>, CallError> {
    instance.call(|registry, store| {
        registry.thread_budget().call_check_thresholds(store, handle.resource, thresholds)
    })
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ResetThread<'a> {
    pub(crate) thread_id: Cow<'a, str>,
}

impl Call for ResetThread<'_> {
    call!("reset-thread", ResetThread -> (), of thread_id);

    fn apply(&self, instance: &mut Instance) -> Result<(), CallError> {
        if check_id(&self.thread_id).is_err() {
            return Ok(());
        }
        instance.call(|registry, store| registry.call_reset_thread(store, &self.thread_id))
    }

    fn changed(&self, (): &()) -> bool {
        check_id(&self.thread_id).is_ok()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CleanupThread<'a> {
    pub(crate) thread_id: Cow<'a, str>,
}

impl Call for CleanupThread<'_> {
    call!("cleanup-thread", CleanupThread -> Option<FinalBudget>, of thread_id);

    fn apply(&self, instance: &mut Instance) -> Result<Option<FinalBudget>, CallError> {
        if check_id(&self.thread_id).is_err() {
            return Ok(None);
        }
        instance.call(|registry, store| registry.call_cleanup_thread(store, &self.thread_id))
    }

    fn changed(&self, last: &Option<FinalBudget>) -> bool {
        last.is_some()
    }
}
