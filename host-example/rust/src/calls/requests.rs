//! What a request is allowed, and what it used.

use super::{Call, Operation, call};
use crate::bounds::{check_batch, check_id, check_ids};
use crate::error::CallError;
use crate::instance::Instance;
use crate::types::{Consumed, Held, ThresholdCrossed, UsageEntry};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Consume<'a> {
    pub(crate) thread_id: Cow<'a, str>,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
}

impl Call for Consume<'_> {
    call!("consume", Consume -> Consumed, of thread_id);

    fn apply(&self, instance: &mut Instance) -> Result<Consumed, CallError> {
        check_id(&self.thread_id)?;
        instance.ask(|registry, store| {
            registry.call_consume(store, &self.thread_id, self.prompt_tokens, self.completion_tokens)
        })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ConsumeBatch<'a> {
    pub(crate) entries: Cow<'a, [UsageEntry]>,
}

impl Call for ConsumeBatch<'_> {
    call!("consume-batch", ConsumeBatch -> Vec<ThresholdCrossed>);

    fn apply(&self, instance: &mut Instance) -> Result<Vec<ThresholdCrossed>, CallError> {
        check_batch(&self.entries)?;
        instance.ask(|registry, store| registry.call_consume_batch(store, &self.entries))
    }

    fn changed(&self, _: &Vec<ThresholdCrossed>) -> bool {
        !self.entries.is_empty()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SetHold<'a> {
    pub(crate) thread_id: Cow<'a, str>,
    pub(crate) request_id: Cow<'a, str>,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    pub(crate) least_completion_tokens: u64,
    pub(crate) holder: u64,
    pub(crate) deadline: u64,
}

impl Call for SetHold<'_> {
    call!("hold", SetHold -> Held, of thread_id);
    const ADMITS: bool = true;

    fn apply(&self, instance: &mut Instance) -> Result<Held, CallError> {
        check_ids(&self.thread_id, &self.request_id)?;
        instance.ask(|registry, store| {
            registry.call_hold(
                store,
                &self.thread_id,
                &self.request_id,
                self.prompt_tokens,
                self.completion_tokens,
                self.least_completion_tokens,
                self.holder,
                self.deadline,
            )
        })
    }

    fn changed(&self, answer: &Held) -> bool {
        !answer.repeated
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Settle<'a> {
    pub(crate) thread_id: Cow<'a, str>,
    pub(crate) request_id: Cow<'a, str>,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    pub(crate) remember: bool,
}

impl Call for Settle<'_> {
    call!("settle", Settle -> Consumed, of thread_id);

    fn apply(&self, instance: &mut Instance) -> Result<Consumed, CallError> {
        check_ids(&self.thread_id, &self.request_id)?;
        instance.ask(|registry, store| {
            registry.call_settle(
                store,
                &self.thread_id,
                &self.request_id,
                self.prompt_tokens,
                self.completion_tokens,
                self.remember,
            )
        })
    }

    fn changed(&self, answer: &Consumed) -> bool {
        !answer.repeated
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SettleLost<'a> {
    pub(crate) thread_id: Cow<'a, str>,
    pub(crate) request_id: Cow<'a, str>,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
}

impl Call for SettleLost<'_> {
    call!("settle-lost", SettleLost -> Consumed, of thread_id);

    fn apply(&self, instance: &mut Instance) -> Result<Consumed, CallError> {
        check_ids(&self.thread_id, &self.request_id)?;
        instance.ask(|registry, store| {
            registry.call_settle_lost(
                store,
                &self.thread_id,
                &self.request_id,
                self.prompt_tokens,
                self.completion_tokens,
            )
        })
    }

    fn changed(&self, answer: &Consumed) -> bool {
        !answer.repeated
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Release<'a> {
    pub(crate) thread_id: Cow<'a, str>,
    pub(crate) request_id: Cow<'a, str>,
}

impl Call for Release<'_> {
    call!("release", Release -> bool, of thread_id);

    fn apply(&self, instance: &mut Instance) -> Result<bool, CallError> {
        if check_ids(&self.thread_id, &self.request_id).is_err() {
            return Ok(false);
        }
        instance.call(|registry, store| registry.call_release(store, &self.thread_id, &self.request_id))
    }

    fn changed(&self, held: &bool) -> bool {
        *held
    }
}
