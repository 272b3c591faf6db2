//! What concerns every thread.

use super::{Call, Operation, call};
use crate::bounds::check_percents;
use crate::error::CallError;
use crate::instance::Instance;
use crate::types::Threshold;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Configure {
    pub(crate) max_tokens_per_thread: u64,
}

impl Call for Configure {
    call!("configure", Configure -> ());

    fn apply(&self, instance: &mut Instance) -> Result<(), CallError> {
        instance.call(|registry, store| registry.call_configure(store, self.max_tokens_per_thread))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SetThresholds<'a> {
    pub(crate) thresholds: Cow<'a, [Threshold]>,
}

impl Call for SetThresholds<'_> {
    call!("set-thresholds", SetThresholds -> ());

    fn apply(&self, instance: &mut Instance) -> Result<(), CallError> {
        check_percents(&self.thresholds)?;
        instance.ask(|registry, store| registry.call_set_thresholds(store, &self.thresholds))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SetMaxThreads {
    pub(crate) max_threads: u32,
}

impl Call for SetMaxThreads {
    call!("set-max-threads", SetMaxThreads -> ());

    fn apply(&self, instance: &mut Instance) -> Result<(), CallError> {
        instance.max_threads = self.max_threads;
        instance.call(|registry, store| registry.call_set_max_threads(store, self.max_threads))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SetNextBirth {
    pub(crate) birth: u64,
}

impl Call for SetNextBirth {
    call!("set-next-birth", SetNextBirth -> ());

    fn apply(&self, instance: &mut Instance) -> Result<(), CallError> {
        instance.call(|registry, store| registry.call_set_next_birth(store, self.birth))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Clear;

impl Call for Clear {
    call!("clear", Clear -> ());

    fn apply(&self, instance: &mut Instance) -> Result<(), CallError> {
        instance.call(|registry, store| registry.call_clear(store))
    }
}
