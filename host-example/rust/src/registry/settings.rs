//! What concerns every thread.

use super::{Of, Place, Registry};
use crate::bindings::exports::thread_budget::registry::registry as wit;
use crate::calls::{Call, Clear, Configure, Operation, SetMaxThreads, SetThresholds};
use crate::error::{CallError, InvalidInput};
use crate::states;
use crate::types::{ThreadState, Threshold, Usage};
use wasmtime::{Store, StoreLimits};

impl Registry {
    /// Set the limit, in tokens, of threads created from now on; threads that exist keep theirs, see
    /// [`Registry::set_limit`].
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn configure(&self, max_tokens_per_thread: u64) -> Result<(), CallError> {
        self.set(&Configure { max_tokens_per_thread }).await
    }

    /// The limit, in tokens, that a new thread gets.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn max_tokens_per_thread(&self) -> Result<u64, CallError> {
        self.ask_number(0, |registry, store| registry.call_max_tokens_per_thread(store)).await
    }

    /// Replace the thresholds, for every thread from its next consumption on.
    ///
    /// # Errors
    /// [`InvalidInput::Threshold`] and [`InvalidInput::TooManyThresholds`]; those in force then stay.
    pub async fn set_thresholds(&self, thresholds: &[Threshold]) -> Result<(), CallError> {
        self.set(&SetThresholds { thresholds: thresholds.into() }).await
    }

    /// The thresholds in force, ascending by percent.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn thresholds(&self) -> Result<Vec<Threshold>, CallError> {
        self.ask_number(0, |registry, store| registry.call_thresholds(store)).await
    }

    /// Set how many threads may exist; those beyond a lowered limit stay. Of several instances each
    /// gets its share, rounded up. In a store some more may come to exist, by hosts that make theirs at the same
    /// time.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn set_max_threads(&self, max_threads: u32) -> Result<(), CallError> {
        let instances = u32::try_from(self.instances()).unwrap_or(u32::MAX);
        self.set(&SetMaxThreads { max_threads: max_threads.div_ceil(instances) }).await
    }

    /// How many threads may exist; of several instances, in each. 4,294,967,295 is no limit.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn max_threads(&self) -> Result<u32, CallError> {
        match &self.inner.place {
            Place::Store(lanes) => lanes.refresh_settings().await,
            _ => self.with(Of::Number(0), |instance| Ok(instance.max_threads)).await,
        }
    }

    /// Whether every instance answers.
    ///
    /// # Errors
    /// Those of the first that does not, see [`Registry`].
    pub async fn answers(&self) -> Result<(), CallError> {
        for number in 0..self.instances() {
            self.ask_number(number, |registry, store| registry.call_max_tokens_per_thread(store)).await?;
        }
        Ok(())
    }

    /// Every thread's usage, ascending by thread id in byte order. Empty when the instance's memory
    /// cannot hold the list.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn get_all_usage(&self) -> Result<Vec<(String, Usage)>, CallError> {
        if let Place::Store(lanes) = &self.inner.place {
            return lanes.all_usage().await;
        }
        let mut all: Vec<(String, Usage)> = Vec::new();
        for number in 0..self.instances() {
            all.append(
                &mut self.ask_number(number, |registry, store| registry.call_get_all_usage(store)).await?,
            );
        }
        if self.instances() > 1 {
            all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        }
        Ok(all)
    }

    /// The states of up to `limit` threads, those after the thread `after` or the first ones. Parents come
    /// before their children. A page may be shorter than asked for; an empty one is the end. Pages agree with
    /// each other when nothing is changed meanwhile; of several instances one comes after the other. When the
    /// thread `after` is gone some may come again.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn snapshot(&self, after: Option<&str>, limit: u32) -> Result<Vec<ThreadState>, CallError> {
        if let Place::Store(lanes) = &self.inner.place {
            return lanes.page(after, limit as usize).await;
        }
        let mut number = after.map_or(0, |thread_id| self.instance_of(thread_id));
        let mut after = after;
        loop {
            let of = Of::Number(number);
            let page = self.with(of, |instance| states::snapshot(instance, after, limit)).await?;
            (number, after) = (number + 1, None);
            if !page.is_empty() || number == self.instances() {
                return Ok(page);
            }
        }
    }

    /// Bring threads back into a registry of one instance, all or none. None of them may exist; a
    /// parent must, or come earlier in the list.
    ///
    /// # Errors
    /// [`InvalidInput::State`], also for more than an instance can take at once and for a registry
    /// that has a database or several instances; otherwise as [`Registry::open_thread`].
    pub async fn restore(&self, states: &[ThreadState]) -> Result<(), CallError> {
        match &self.inner.place {
            Place::Memory(shards) if shards.len() == 1 => states::restore(&mut shards.lock(0), states),
            _ => {
                let reason =
                    "states are restored into a registry of one instance without a database or a store"
                        .into();
                Err(InvalidInput::State { reason }.into())
            }
        }
    }

    /// Forget every thread, and all that is held; the settings stay. With a store that is one tree after the other.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn clear(&self) -> Result<(), CallError> {
        self.set(&Clear).await
    }

    /// What was noted in the database under that key; none without a database. A store has no notes.
    ///
    /// # Errors
    /// [`CallError::Storage`].
    pub async fn note(&self, key: &str) -> Result<Option<Vec<u8>>, CallError> {
        match &self.inner.place {
            Place::Memory(_) | Place::Store(_) => Ok(None),
            Place::File(file) => file.note(key).await,
        }
    }

    /// Ask an instance.
    async fn ask_number<R>(
        &self,
        number: usize,
        question: impl Fn(&wit::Guest, &mut Store<StoreLimits>) -> wasmtime::Result<R>,
    ) -> Result<R, CallError> {
        if let Place::Store(lanes) = &self.inner.place {
            lanes.refresh_settings().await?;
        }
        self.with(Of::Number(number), |instance| instance.call(&question)).await
    }

    /// A call that every instance gets.
    async fn set<C: Call<Answer = ()>>(&self, call: &C) -> Result<(), CallError> {
        match &self.inner.place {
            Place::Memory(shards) => shards.apply_to_all(call),
            Place::File(file) => file.run(call).await,
            Place::Store(lanes) => match call.operation() {
                Operation::Clear(_) => lanes.clear().await,
                operation => lanes.change_settings(&operation).await,
            },
        }
    }
}
