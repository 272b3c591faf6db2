//! A registry that keeps its threads in a store, which other hosts may share.
//!
//! The store has the truth and the instance is a cache of it. A call is carried out in the instance, what it changed
//! is committed if the tree is still as it was read, and then it is answered. Calls on one tree that come while
//! a commit is on its way go together in the next one. When another host was faster, the tree is read anew and
//! the calls are carried out again, by whoever waits for them. An answer that changes nothing waits until the store
//! has confirmed what it was based on.
//!
//! One thread keeps the connection to the store: tasks send, read and give signs of life there. Callers carry out
//! their calls themselves, with the cache locked.

mod cache;
mod lane;
mod listing;
mod presence;
mod reading;
mod sending;
mod settings;
mod trees;

use crate::calls::{Call, Operation};
use crate::error::{CallError, LoadError};
use crate::instance::{Blueprint, Instance};
use crate::lost::LostCalls;
use crate::store::{Store, StoreError, Wrote};
use cache::{Cache, Place};
use lane::{Id, Lane, Telling, Told};
use listing::Listings;
use presence::Presence;
use settings::Settings;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;

pub(crate) use settings::Seeds;

/// How a registry keeps its threads in a store.
pub(crate) struct LanesOptions {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) blueprint: Blueprint,
    pub(crate) max_memory_bytes: usize,
    pub(crate) seeds: Seeds,
    pub(crate) lost_calls: LostCalls,
    pub(crate) time_to_live: Duration,
    pub(crate) incarnation: u64,
}

/// The store, and the instance with some of its threads.
pub(crate) struct Lanes {
    shared: Arc<Shared>,
    /// Ends the thread that keeps the connection.
    close: Option<oneshot::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

/// What callers share with the tasks.
struct Shared {
    store: Arc<dyn Store>,
    blueprint: Blueprint,
    cache: Mutex<Cache>,
    presence: Arc<Presence>,
    listings: Listings,
    lost_calls: LostCalls,
    runtime: Handle,
}

/// What came of carrying a call out.
enum Entered<R> {
    /// It stands.
    Answer(Result<R, CallError>),
    /// It stands if this is told to be done.
    Wait(Telling, Result<R, CallError>),
    /// It was not carried out: first wait for this.
    First(Telling),
}

/// How long a call that other hosts are always faster than is tried.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a registry that is dropped goes on to send what it has.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long to wait before something is told again that the store could not be told.
const PAUSE: Duration = Duration::from_millis(250);

impl Lanes {
    /// Join the hosts of a store.
    pub(crate) fn start(options: LanesOptions) -> Result<Self, LoadError> {
        let LanesOptions { store, blueprint, max_memory_bytes, seeds, lost_calls, time_to_live, incarnation } =
            options;
        let runtime =
            runtime::Builder::new_current_thread().enable_time().build().map_err(LoadError::Keeper)?;
        let shared = Arc::new(Shared {
            cache: Mutex::new(Cache::new(&blueprint, max_memory_bytes, incarnation)?),
            store,
            blueprint,
            presence: Arc::new(Presence::new(incarnation, time_to_live)),
            listings: Listings::default(),
            lost_calls,
            runtime: runtime.handle().clone(),
        });
        let (close, closed) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let of_keeper = shared.clone();
        let keep = async move {
            let started = of_keeper.begin(seeds).await;
            let is_started = started.is_ok();
            let _ = tell.send(started);
            if is_started {
                tokio::spawn(of_keeper.clone().live());
                // An error is that nobody is left who could close it.
                let _ = closed.await;
                of_keeper.finish().await;
            }
        };
        let keeper = thread::Builder::new().name("thread-budget-store".into());
        let keeper = keeper.spawn(move || runtime.block_on(keep)).map_err(LoadError::Keeper)?;
        let lanes = Self { shared, close: Some(close), keeper: Some(keeper) };
        match told.recv() {
            Ok(started) => started.map(|()| lanes),
            Err(_) => {
                Err(lanes.shared.unavailable("the thread that keeps it has ended", Wrote::Nothing).into())
            }
        }
    }

    pub(crate) fn store_name(&self) -> Arc<str> {
        self.shared.store.name()
    }

    /// Who holds, from now on.
    pub(crate) fn holder(&self) -> u64 {
        self.shared.presence.incarnation()
    }

    /// Until when this host answers for what is held now, beside being alive.
    pub(crate) fn deadline(&self) -> u64 {
        self.shared.presence.deadline()
    }

    /// Make a call about a thread.
    pub(crate) async fn run<C: Call>(&self, call: &C) -> Result<C::Answer, CallError> {
        if C::ADMITS {
            self.shared.presence.admits(&self.shared.store.name())?;
        }
        self.shared.on_tree(call.thread_id(), |cache| call.apply(&mut cache.instance)).await
    }

    /// Ask about a thread.
    pub(crate) async fn with<R>(
        &self,
        thread_id: &str,
        work: impl Fn(&mut Instance) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        self.shared.on_tree(thread_id, |cache| work(&mut cache.instance)).await
    }

    /// Make a call that makes or finds a thread, and return the birth of that.
    pub(crate) async fn find<R>(
        &self,
        thread_id: &str,
        work: impl Fn(&mut Instance) -> Result<R, CallError>,
    ) -> Result<(R, Option<u64>), CallError> {
        let find = |cache: &mut Cache| {
            let found = work(&mut cache.instance)?;
            Ok((found, cache.birth_of(thread_id)?))
        };
        self.shared.on_tree(thread_id, find).await
    }

    /// Do something with a thread if it still is the one of that birth.
    pub(crate) async fn with_birth<R>(
        &self,
        thread_id: &str,
        birth: u64,
        work: impl Fn(&mut Instance) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        let work = |cache: &mut Cache| match cache.birth_of(thread_id)? {
            Some(known) if known == birth => work(&mut cache.instance),
            _ => Err(CallError::StaleHandle),
        };
        self.shared.on_tree(thread_id, work).await
    }

    /// Ask the instance about no thread.
    pub(crate) fn with_none<R>(
        &self,
        work: impl FnOnce(&mut Instance) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        self.shared.with_none(work)
    }

    /// Have the settings of the store, to be asked for them.
    pub(crate) async fn refresh_settings(&self) -> Result<u32, CallError> {
        self.shared.refresh_settings().await?;
        Ok(self.shared.cache().settings.max_threads)
    }

    /// Change the settings of all hosts.
    pub(crate) async fn change_settings(&self, operation: &Operation<'_>) -> Result<(), CallError> {
        let change = |settings: &mut Settings| match operation {
            Operation::Configure(call) => settings.max_tokens_per_thread = call.max_tokens_per_thread,
            Operation::SetThresholds(call) => settings.thresholds = call.thresholds.to_vec(),
            Operation::SetMaxThreads(call) => settings.max_threads = call.max_threads,
            _ => {}
        };
        self.shared.change_settings(change).await
    }

    /// See to it that something is done. It is done in the instance at once where that has the tree.
    pub(crate) fn leave(&self, operation: Operation<'static>) {
        let thread_id = operation.thread_id().to_owned();
        self.shared.clone().leave(thread_id, move |cache| operation.replay(&mut cache.instance));
    }
}

impl Drop for Lanes {
    /// Send what nobody waited for.
    fn drop(&mut self) {
        drop(self.close.take());
        if let Some(keeper) = self.keeper.take() {
            // What it has to say it has told those who waited.
            let _ = keeper.join();
        }
    }
}

impl Shared {
    async fn begin(&self, seeds: Seeds) -> Result<(), LoadError> {
        self.join().await?;
        Ok(self.seed_settings(seeds).await?)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // A panic while it was locked cannot have left the instance in between: wasmtime reports what happens
        // inside as errors, and that an instance is lost is noted last.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_none<R>(&self, work: impl FnOnce(&mut Instance) -> Result<R, CallError>) -> Result<R, CallError> {
        let mut cache = self.cache();
        cache.make_sound(&self.blueprint)?;
        work(&mut cache.instance)
    }

    /// Carry something out where the tree is that the id leads to, until it stands.
    async fn on_tree<R>(
        self: &Arc<Self>,
        thread_id: &str,
        work: impl Fn(&mut Cache) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        if crate::check_id(thread_id).is_err() {
            // It is refused, or it is about no thread.
            let mut cache = self.cache();
            cache.make_sound(&self.blueprint)?;
            return work(&mut cache);
        }
        let (started, began) = (Instant::now(), self.cache().tick());
        loop {
            let room = self.room_for_a_thread(thread_id).await?;
            let entered = self.enter(thread_id, began, |cache| cache.within(room, &work));
            if let Some(result) = self.stands(entered).await? {
                return result;
            }
            self.check_patience(started)?;
        }
    }

    /// The answer, when it stands; none when it has to be asked for again.
    async fn stands<R>(&self, entered: Entered<R>) -> Result<Option<Result<R, CallError>>, CallError> {
        let (telling, result) = match entered {
            Entered::Answer(result) => return Ok(Some(result)),
            Entered::Wait(telling, result) => (telling, Some(result)),
            Entered::First(telling) => (telling, None),
        };
        match telling.wait().await {
            Told::Done => Ok(result),
            Told::Again => Ok(None),
            Told::Failed(error) => Err(error),
        }
    }

    fn check_patience(&self, started: Instant) -> Result<(), StoreError> {
        if started.elapsed() < PATIENCE {
            return Ok(());
        }
        Err(self.unavailable("other hosts change the tree all the time", Wrote::Nothing))
    }

    fn unavailable(&self, reason: &str, wrote: Wrote) -> StoreError {
        StoreError::Unavailable { store: self.store.name(), reason: reason.into(), wrote }
    }

    /// Whether the thread may be made, where there is a limit to how many there are.
    async fn room_for_a_thread(&self, thread_id: &str) -> Result<bool, CallError> {
        let max_threads = {
            let cache = self.cache();
            if cache.has_thread(thread_id) { u32::MAX } else { cache.settings.max_threads }
        };
        Ok(max_threads == u32::MAX || self.store.threads().await? < u64::from(max_threads))
    }

    /// Carry something out, if the tree is there.
    fn enter<R>(
        self: &Arc<Self>,
        thread_id: &str,
        began: u64,
        work: impl FnOnce(&mut Cache) -> Result<R, CallError>,
    ) -> Entered<R> {
        let mut cache = self.cache();
        if let Err(error) = cache.make_sound(&self.blueprint) {
            return Entered::Answer(Err(error));
        }
        let root = match cache.place_of(thread_id) {
            Place::Lane(root) => root,
            Place::Loading(telling) => return Entered::First(telling),
            Place::Unknown => return Entered::First(self.load(&mut cache, thread_id)),
        };
        self.enter_lane(&mut cache, &root, began, work)
    }

    fn enter_lane<R>(
        self: &Arc<Self>,
        cache: &mut Cache,
        root: &Id,
        began: u64,
        work: impl FnOnce(&mut Cache) -> Result<R, CallError>,
    ) -> Entered<R> {
        let now = cache.tick();
        let Some(lane) = cache.lanes.get_mut(root) else { return Entered::First(self.load(cache, root)) };
        if let Some(reloading) = &lane.reloading {
            return Entered::First(reloading.clone());
        }
        if lane.is_adrift {
            return Entered::First(match lane.last_telling() {
                Some(telling) => telling,
                None => {
                    cache.remove(root);
                    self.load(cache, root)
                }
            });
        }
        lane.used = now;
        let result = cache.enter(root, work);
        if cache.instance.lost.is_some() {
            return Entered::Answer(result);
        }
        if let Err(error) = cache.note(root) {
            cache.set_adrift(root);
            return Entered::Answer(Err(error));
        }
        if matches!(result, Err(CallError::OutOfMemory)) && cache.make_room_beside(root) {
            return Entered::First(told(Told::Again));
        }
        let Some(lane) = cache.lanes.get_mut(root) else { return Entered::Answer(result) };
        if lane.is_fresh(began) {
            if lane.is_nothing() {
                cache.remove(root);
            }
            return Entered::Answer(result);
        }
        let telling = lane.wait();
        self.send(cache, root);
        Entered::Wait(telling, result)
    }

    /// Carry something out that nobody waits for, and again until it stands.
    fn leave<R: Send + 'static>(
        self: Arc<Self>,
        thread_id: String,
        work: impl Fn(&mut Cache) -> Result<R, CallError> + Send + Sync + 'static,
    ) {
        let began = self.cache().tick();
        let first = self.enter(&thread_id, began, &work);
        let mut left = self.presence.leave();
        self.runtime.clone().spawn(async move {
            let mut entered = Some(first);
            loop {
                let result = match entered.take() {
                    Some(entered) => self.stands(entered).await,
                    None => self.on_tree(&thread_id, &work).await.map(|done| Some(Ok(done))),
                };
                match result {
                    Ok(Some(result)) => match result {
                        Err(CallError::Store(error)) if error.is_temporary() => {}
                        // There is nobody to tell why it cannot be done.
                        _ => return,
                    },
                    Ok(None) => continue,
                    Err(CallError::Store(error)) if error.is_temporary() => {}
                    Err(_) => return,
                }
                left.set_late();
                tokio::time::sleep(PAUSE).await;
            }
        });
    }

    /// Send what is there, before the end.
    async fn finish(self: Arc<Self>) {
        let started = Instant::now();
        while started.elapsed() < LAST_WORDS {
            if self.cache().lanes.values().all(Lane::is_quiet) && !self.presence.has_left() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let telling = self
            .cache()
            .end(&Told::Failed(self.unavailable("the registry was dropped", Wrote::Perhaps).into()));
        telling.into_iter().for_each(|(telling, told)| telling.tell(&told));
    }
}

/// Something that is told already.
fn told(told: Told) -> Telling {
    let telling = Telling::default();
    telling.tell(&told);
    telling
}
