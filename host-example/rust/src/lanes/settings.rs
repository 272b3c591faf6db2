//! What all hosts share beside the trees: one row of the store, which a host reads when it starts, when it is asked,
//! and with every sign of life.

use super::Shared;
use crate::error::CallError;
use crate::instance::Instance;
use crate::store::{self, SettingsSet, StoreError};
use crate::types::Threshold;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) max_tokens_per_thread: u64,
    pub(crate) thresholds: Vec<Threshold>,
    pub(crate) max_threads: u32,
}

/// What a host was started with. It counts where the store has no settings yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seeds {
    pub(crate) max_tokens_per_thread: Option<u64>,
    pub(crate) thresholds: Option<Vec<Threshold>>,
    pub(crate) max_threads: Option<u32>,
}

impl Settings {
    /// Those that a fresh instance has of itself.
    pub(super) fn of(instance: &mut Instance) -> Result<Self, CallError> {
        let max_tokens_per_thread =
            instance.call(|registry, store| registry.call_max_tokens_per_thread(store))?;
        let thresholds = instance.call(|registry, store| registry.call_thresholds(store))?;
        Ok(Self { max_tokens_per_thread, thresholds, max_threads: u32::MAX })
    }

    fn seeded(mut self, seeds: Seeds) -> Self {
        self.max_tokens_per_thread = seeds.max_tokens_per_thread.unwrap_or(self.max_tokens_per_thread);
        self.thresholds = seeds.thresholds.unwrap_or(self.thresholds);
        self.max_threads = seeds.max_threads.unwrap_or(self.max_threads);
        self
    }

    fn row(&self) -> Vec<u8> {
        // Writing to a vector does not fail, and settings can be written.
        postcard::to_stdvec(self).unwrap_or_default()
    }
}

impl Shared {
    fn read(&self, settings: &store::Settings) -> Result<Settings, StoreError> {
        postcard::from_bytes(&settings.bytes).map_err(|error| StoreError::Foreign {
            store: self.store.name(),
            reason: format!("the settings cannot be read: {error}").into(),
        })
    }

    /// Start with the settings of the store, or give it some.
    pub(super) async fn seed_settings(&self, seeds: Seeds) -> Result<(), CallError> {
        let mut known = self.store.settings().await?;
        while known.is_none() {
            let seeded = self.cache().settings.clone().seeded(seeds.clone());
            // A limit or thresholds that are no good are refused here.
            self.cache().apply_settings(seeded.clone())?;
            match self.store.set_settings(None, seeded.row()).await? {
                SettingsSet::Done(_) => return Ok(()),
                SettingsSet::Conflict(others) => known = others,
            }
        }
        self.take_over(known.as_ref())
    }

    /// Have the settings of the store.
    pub(super) async fn refresh_settings(&self) -> Result<(), CallError> {
        let known = self.store.settings().await?;
        self.take_over(known.as_ref())
    }

    fn take_over(&self, known: Option<&store::Settings>) -> Result<(), CallError> {
        let Some(known) = known else { return Ok(()) };
        let settings = self.read(known)?;
        let mut cache = self.cache();
        cache.make_sound(&self.blueprint)?;
        if cache.settings == settings { Ok(()) } else { cache.apply_settings(settings) }
    }

    /// Change them for all hosts. The others hear of it within a third of their time to live.
    pub(super) async fn change_settings(&self, change: impl Fn(&mut Settings)) -> Result<(), CallError> {
        loop {
            let known = self.store.settings().await?;
            let mut settings = match &known {
                Some(known) => self.read(known)?,
                None => self.cache().settings.clone(),
            };
            change(&mut settings);
            let before = {
                let mut cache = self.cache();
                cache.make_sound(&self.blueprint)?;
                let before = cache.settings.clone();
                // What is no good is refused here.
                cache.apply_settings(settings.clone()).inspect_err(|_| {
                    let _ = cache.apply_settings(before.clone());
                })?;
                before
            };
            match self.store.set_settings(known.map(|known| known.number), settings.row()).await {
                Ok(SettingsSet::Done(_)) => return Ok(()),
                Ok(SettingsSet::Conflict(_)) => {}
                Err(error) => {
                    let _ = self.cache().apply_settings(before);
                    return Err(error.into());
                }
            }
        }
    }
}
