//! From settings to a running registry.

use crate::blocking::wait;
use crate::bounds::MIN_MEMORY_BYTES;
use crate::cache::Cache;
use crate::calls::{Call, SetNextBirth};
use crate::error::LoadError;
use crate::file::{Durability, File, FileOptions};
use crate::instance::{Blueprint, engine};
use crate::lanes::{Lanes, LanesOptions, Seeds};
use crate::lost::LostCalls;
use crate::meter::Meter;
use crate::registry::{Place, Registry, new_holder};
use crate::shards::Shards;
use crate::store::Store;
use crate::types::Threshold;
use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, fs};

/// Settings for a [`Registry`]; every one has a default.
///
/// ```
/// use std::time::Duration;
/// use thread_budget_host::{Registry, Severity, Threshold};
///
/// let registry = Registry::builder()
///     .tokens_per_thread(50_000)
///     .thresholds([Threshold { percent: 80, severity: Severity::Critical }])
///     .max_threads(10_000)
///     .max_memory_bytes(16 << 20)
///     .deadline(Duration::from_millis(100))
///     .build()?
///     .blocking();
/// assert_eq!(registry.max_tokens_per_thread()?, 50_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is loaded before `build`"]
pub struct RegistryBuilder {
    component: ComponentSource,
    cache: Cache,
    max_memory_bytes: usize,
    deadline: Option<Duration>,
    tokens_per_thread: Option<u64>,
    thresholds: Option<Vec<Threshold>>,
    max_threads: Option<u32>,
    instances: usize,
    database: Option<PathBuf>,
    durability: Durability,
    checkpoint_after: u64,
    read_only: bool,
    store: Option<Shared>,
    time_to_live: Duration,
    lost_calls: LostCalls,
    meter: Meter,
}

/// A store that others may share.
#[derive(Clone)]
struct Shared(Arc<dyn Store>);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

#[derive(Clone, Debug)]
enum ComponentSource {
    Bytes(Cow<'static, [u8]>),
    Path(PathBuf),
}

/// Enough for a million threads, and for listing them, with some to spare.
const DEFAULT_MAX_MEMORY_BYTES: usize = 512 << 20;

/// Ten times what listing a million threads takes; all other calls take microseconds.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

/// Long enough for an engine that is restarted or fails over, short for those who wait for what was held.
const DEFAULT_TIME_TO_LIVE: Duration = Duration::from_secs(30);

/// Brought back in some 50 milliseconds.
const DEFAULT_CHECKPOINT_AFTER: u64 = 1 << 16;

impl Default for RegistryBuilder {
    fn default() -> Self {
        Self {
            component: ComponentSource::Bytes(Cow::Borrowed(crate::COMPONENT)),
            cache: Cache::default(),
            max_memory_bytes: DEFAULT_MAX_MEMORY_BYTES,
            deadline: Some(DEFAULT_DEADLINE),
            tokens_per_thread: None,
            thresholds: None,
            max_threads: None,
            instances: 1,
            database: None,
            durability: Durability::default(),
            checkpoint_after: DEFAULT_CHECKPOINT_AFTER,
            read_only: false,
            store: None,
            time_to_live: DEFAULT_TIME_TO_LIVE,
            lost_calls: LostCalls::default(),
            meter: Meter::default(),
        }
    }
}

impl RegistryBuilder {
    /// Use this component instead of the one that is built in ([`COMPONENT`](crate::COMPONENT)).
    pub fn component_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.component = ComponentSource::Bytes(Cow::Owned(bytes.into()));
        self
    }

    /// Use the component in this file instead of the one that is built in.
    pub fn component_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.component = ComponentSource::Path(path.into());
        self
    }

    /// Where the compiled component is kept. [`Cache::User`] unless set.
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = cache;
        self
    }

    /// The most linear memory the instance may have, in bytes, 1 MiB or more. 512 MiB unless set, enough
    /// for a million threads; an empty registry takes 128 KiB. At the cap new threads are refused with
    /// [`CallError::OutOfMemory`](crate::CallError::OutOfMemory). A quarter and 16 MiB more may be used
    /// to bring back what a database holds.
    pub fn max_memory_bytes(mut self, bytes: usize) -> Self {
        self.max_memory_bytes = bytes;
        self
    }

    /// The longest a call may take before it is stopped and the instance given up; up to a tenth
    /// more may pass. 10 seconds unless set, 10 milliseconds at the least. A thread of this process
    /// keeps the time.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Let calls take any time. They get some 10 % faster, and no thread keeps the time.
    pub fn no_deadline(mut self) -> Self {
        self.deadline = None;
        self
    }

    /// The limit of a new thread, in tokens. 100,000 unless set.
    pub fn tokens_per_thread(mut self, tokens: u64) -> Self {
        self.tokens_per_thread = Some(tokens);
        self
    }

    /// The thresholds. 75 warning, 90 critical, 95 final unless set; none turns warnings off.
    pub fn thresholds(mut self, thresholds: impl Into<Vec<Threshold>>) -> Self {
        self.thresholds = Some(thresholds.into());
        self
    }

    /// The most threads the registry keeps. Unlimited unless set.
    pub fn max_threads(mut self, threads: u32) -> Self {
        self.max_threads = Some(threads);
        self
    }

    /// How many instances share the threads, so that as many calls can run at once. 1 unless set. A
    /// tree of threads stays in one of them.
    pub fn instances(mut self, instances: usize) -> Self {
        self.instances = instances;
        self
    }

    /// Keep the state in this file, and start from what it holds; it is created when there is none.
    /// Limits, thresholds and the thread limit are kept too, and those set here replace them. One
    /// registry at a time can have it open. What was in flight when the file was open last is settled, see
    /// [`RegistryBuilder::lost_calls`].
    pub fn database(mut self, path: impl Into<PathBuf>) -> Self {
        self.database = Some(path.into());
        self
    }

    /// When a call that changes something returns, with a database. [`Durability::Batched`] unless set.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How many calls, entries of batches among them, the database's log may hold before a checkpoint replaces it by the states of the
    /// threads; a restart makes them again, a million in less than a second. 65,536 unless set, and
    /// never less than twice as many as there are threads, so that checkpoints stay a small part of
    /// what is written.
    pub fn checkpoint_after(mut self, calls: u64) -> Self {
        self.checkpoint_after = calls;
        self
    }

    /// Keep the threads in this store, which registries of other hosts may share: a thread has one budget in
    /// all of them. The instance is then a cache of the threads that are in use, and drops others when
    /// [`RegistryBuilder::max_memory_bytes`] wants it so. Limits, thresholds and the thread limit are the store's; those
    /// set here count when it has none yet.
    pub fn store_at(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(Shared(store));
        self
    }

    /// How long a store takes this registry for alive without hearing from it. 30 seconds unless set. After that, and
    /// after the deadline of what it holds, others settle that, see [`RegistryBuilder::lost_calls`], and it admits
    /// nothing until the store has heard of it again.
    pub fn time_to_live(mut self, time: Duration) -> Self {
        self.time_to_live = time;
        self
    }

    /// How calls are settled that were sent and of which nobody says what they used: whose guard is dropped,
    /// or whose process ended. [`LostCalls::Prompt`] unless set.
    pub fn lost_calls(mut self, lost_calls: LostCalls) -> Self {
        self.lost_calls = lost_calls;
        self
    }

    /// Leave the database's file as it is: it must exist, and what changes is kept in memory, until the
    /// registry is dropped. What is in flight stays so. Several at a time can read a file so while nobody has it open to write.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Tell the `metrics` facade what happens: `thread_budget.tokens` by kind,
    /// `thread_budget.crossings` by severity, `thread_budget.holds` that have a guard, and
    /// `thread_budget.call.duration_seconds` and `thread_budget.call.errors` by call, refusals being of
    /// the kind `refused`. A call then takes some 100 ns more.
    pub fn metrics(mut self) -> Self {
        self.meter = Meter::on();
        self
    }

    /// Compile (or load from the cache), read the database, instantiate and configure. That takes
    /// milliseconds to seconds: call it where blocking is allowed.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn build(self) -> Result<Registry, LoadError> {
        if (self.database.is_some() || self.store.is_some()) && self.instances > 1 {
            return Err(LoadError::TooManyInstances { instances: self.instances });
        }
        if self.max_memory_bytes < MIN_MEMORY_BYTES {
            return Err(LoadError::MemoryCap { bytes: self.max_memory_bytes });
        }
        let engine = engine(self.deadline)?;
        let bytes = match self.component {
            ComponentSource::Bytes(bytes) => bytes,
            ComponentSource::Path(path) => {
                Cow::Owned(fs::read(&path).map_err(|source| LoadError::Read { path, source })?)
            }
        };
        let component = self.cache.load_or_compile(&engine, &bytes).map_err(LoadError::Compile)?;
        let blueprint = Blueprint::new(engine, &component, self.max_memory_bytes, self.deadline)?;
        let holder = new_holder();
        if let Some(Shared(store)) = self.store {
            let options = LanesOptions {
                store,
                blueprint,
                max_memory_bytes: self.max_memory_bytes,
                seeds: Seeds {
                    max_tokens_per_thread: self.tokens_per_thread,
                    thresholds: self.thresholds,
                    max_threads: self.max_threads,
                },
                lost_calls: self.lost_calls,
                time_to_live: self.time_to_live,
                incarnation: holder,
            };
            let place = Place::Store(Lanes::start(options)?);
            return Ok(Registry::new(place, self.meter, self.lost_calls, holder));
        }
        let place = match self.database {
            None => Place::Memory(shards(&blueprint, self.instances.max(1))?),
            Some(path) => {
                let Self { durability, checkpoint_after, read_only, .. } = self;
                let options = FileOptions { path, durability, checkpoint_after, read_only };
                Place::File(File::open(options, blueprint, holder, self.lost_calls)?)
            }
        };
        let registry = Registry::new(place, self.meter, self.lost_calls, holder);
        if let Some(tokens) = self.tokens_per_thread {
            wait(registry.configure(tokens))?;
        }
        if let Some(thresholds) = self.thresholds {
            wait(registry.set_thresholds(&thresholds))?;
        }
        if let Some(threads) = self.max_threads {
            wait(registry.set_max_threads(threads))?;
        }
        Ok(registry)
    }
}

/// How far apart the births of two instances are. No registry makes as many threads.
const BIRTHS_PER_INSTANCE: u64 = 1 << 40;

fn shards(blueprint: &Blueprint, instances: usize) -> Result<Shards, LoadError> {
    let mut made = Vec::new();
    for number in 0..instances {
        let mut instance = blueprint.instantiate()?;
        if number > 0 {
            SetNextBirth { birth: number as u64 * BIRTHS_PER_INSTANCE }.apply(&mut instance)?;
        }
        made.push(instance);
    }
    Ok(Shards::new(made))
}
