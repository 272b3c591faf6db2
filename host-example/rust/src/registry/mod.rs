//! The registry: each method one call, carried out where the threads are.

mod requests;
mod settings;
mod threads;

use crate::bindings::exports::thread_budget::registry::registry as wit;
use crate::blocking;
use crate::bounds::check_id;
use crate::builder::RegistryBuilder;
use crate::calls::{Call, GetBudget, Operation};
use crate::clock;
use crate::error::CallError;
use crate::file::{File, Left};
use crate::handle::Budget;
use crate::instance::{Handle, Instance};
use crate::lanes::Lanes;
use crate::lost::LostCalls;
use crate::meter::Meter;
use crate::shards::Shards;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wasmtime::component::ResourceAny;
use wasmtime::{Store, StoreLimits};

/// A registry of budgets: a component instance, or several that share its threads.
///
/// Clones share it, and every method can be called from any thread of the process, on any async runtime or
/// none. Without a database nothing ever waits: each future is ready when it is first polled, after about a
/// microsecond. With a database a call that changes something is ready when that is on disk.
/// [`Registry::blocking`] is the same for programs without async code. Give each tenant a registry of its own
/// and nothing is shared between them.
///
/// Every method can also fail with [`CallError::Deadline`] or [`CallError::Trap`]. After either a
/// registry with a database is rebuilt from it by the next call; without one that part of it is lost
/// and says so, [`CallError::InstanceLost`]. With a database every method that changes something can
/// fail with [`CallError::Storage`], with a store every method with [`CallError::Store`].
///
/// A call whose future is dropped before it is ready may have been carried out or not. Dropping the last
/// clone of a registry with a database writes what nobody waited for and closes the file, which takes a
/// moment.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    place: Place,
    meter: Meter,
    lost_calls: LostCalls,
    /// Tells this registry from every other that there is or was: who holds, and how its requests are named.
    holder: u64,
    /// How many requests it has named.
    named: AtomicU64,
}

/// Where the threads are.
pub(crate) enum Place {
    Memory(Shards),
    File(File),
    Store(Lanes),
}

/// How long a registry answers for what it holds, from when it was set last.
const TERM: Duration = Duration::from_secs(15 * 60);

/// Which instance.
enum Of<'a> {
    /// The one that keeps the thread.
    Thread(&'a str),
    Number(usize),
}

/// A number that no other registry has.
pub(crate) fn new_holder() -> u64 {
    // The standard library's hasher is seeded at random.
    RandomState::new().hash_one(0)
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Registry");
        match &self.inner.place {
            Place::Memory(shards) => debug.field("instances", &shards.len()),
            Place::File(file) => debug.field("database", &file.path()),
            Place::Store(lanes) => debug.field("store", &lanes.store_name()),
        };
        debug.finish_non_exhaustive()
    }
}

impl Registry {
    /// Settings for a new registry.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::default()
    }

    pub(crate) fn new(place: Place, meter: Meter, lost_calls: LostCalls, holder: u64) -> Self {
        Self { inner: Arc::new(Inner { place, meter, lost_calls, holder, named: AtomicU64::new(0) }) }
    }

    /// The same registry for programs without async code: its methods return when they are done.
    #[must_use]
    pub fn blocking(&self) -> blocking::Registry {
        self.clone().into()
    }

    /// Whether it keeps its threads in a database or a store, so that calls may wait.
    #[must_use]
    pub fn has_database(&self) -> bool {
        !matches!(self.inner.place, Place::Memory(_))
    }

    /// Which of the instances keeps the thread, or would, counted from 0. Callers that share threads out
    /// among themselves by it never wait for each other, and each stays with what its processor's cache
    /// holds. It changes when the thread is opened below a parent, and is another in the next registry.
    #[must_use]
    pub fn instance_of(&self, thread_id: &str) -> usize {
        match &self.inner.place {
            Place::Memory(shards) => shards.number_for(thread_id),
            Place::File(_) | Place::Store(_) => 0,
        }
    }

    /// How many calls the database's log holds, beyond the states of its last checkpoint; each entry of a
    /// batch is one. 0 without a database.
    #[must_use]
    pub fn logged_calls(&self) -> u64 {
        match &self.inner.place {
            Place::Memory(_) | Place::Store(_) => 0,
            Place::File(file) => file.logged_calls(),
        }
    }

    /// Make a call about a thread.
    pub(crate) async fn run<C: Call>(&self, call: &C) -> Result<C::Answer, CallError> {
        let started = self.inner.meter.start();
        let result = match &self.inner.place {
            Place::Memory(shards) => call.apply(&mut shards.lock_for(call.thread_id())),
            Place::File(file) => file.run(call).await,
            Place::Store(lanes) => lanes.run(call).await,
        };
        self.inner.meter.end(C::NAME, started, result.as_ref().err());
        result
    }

    /// Make a call on a budget that there is a handle on: `by_handle`, or by its thread's id where it is logged.
    pub(crate) async fn run_on<C: Call>(
        &self,
        budget: Budget,
        by_id: &C,
        by_handle: impl FnOnce(&mut Instance, Handle) -> Result<C::Answer, CallError>,
    ) -> Result<C::Answer, CallError> {
        let started = self.inner.meter.start();
        let result = match (&self.inner.place, budget) {
            (Place::Memory(shards), Budget::Handle(handle)) => {
                by_handle(&mut shards.lock(handle.instance), handle)
            }
            (Place::File(file), Budget::Handle(handle)) => {
                file.run_on(handle, by_id, |instance| by_handle(instance, handle)).await
            }
            (Place::Store(lanes), Budget::Birth(birth)) => {
                lanes.with_birth(by_id.thread_id(), birth, |instance| by_id.apply(instance)).await
            }
            _ => Err(CallError::StaleHandle),
        };
        self.inner.meter.end(C::NAME, started, result.as_ref().err());
        result
    }

    /// Ask about a thread. About an impossible id the answer is the empty one.
    async fn ask<R: Default>(
        &self,
        name: &'static str,
        thread_id: &str,
        question: impl Fn(&wit::Guest, &mut Store<StoreLimits>) -> wasmtime::Result<R>,
    ) -> Result<R, CallError> {
        if check_id(thread_id).is_err() {
            return Ok(R::default());
        }
        let started = self.inner.meter.start();
        let result = self.with(Of::Thread(thread_id), |instance| instance.call(&question)).await;
        self.inner.meter.end(name, started, result.as_ref().err());
        result
    }

    /// Do something with an instance that changes nothing.
    async fn with<R>(
        &self,
        of: Of<'_>,
        work: impl Fn(&mut Instance) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        match (&self.inner.place, of) {
            (Place::Memory(shards), Of::Thread(thread_id)) => work(&mut shards.lock_for(thread_id)),
            (Place::Memory(shards), Of::Number(number)) => work(&mut shards.lock(number)),
            (Place::File(file), _) => file.with(work).await,
            (Place::Store(lanes), Of::Thread(thread_id)) => lanes.with(thread_id, work).await,
            (Place::Store(lanes), Of::Number(_)) => lanes.with_none(work),
        }
    }

    /// Ask a budget that there is a handle on.
    pub(crate) async fn ask_on<R>(
        &self,
        thread_id: &str,
        budget: Budget,
        question: impl Fn(wit::GuestThreadBudget<'_>, &mut Store<StoreLimits>, ResourceAny) -> wasmtime::Result<R>,
    ) -> Result<R, CallError> {
        let ask = |instance: &mut Instance, handle: Handle| {
            instance.call(|registry, store| question(registry.thread_budget(), store, handle.resource))
        };
        match (&self.inner.place, budget) {
            (Place::Memory(shards), Budget::Handle(handle)) => ask(&mut shards.lock(handle.instance), handle),
            (Place::File(file), Budget::Handle(handle)) => {
                file.with_maker_of(handle, |instance| ask(instance, handle)).await
            }
            (Place::Store(lanes), Budget::Birth(birth)) => {
                let get_budget = GetBudget { thread_id: thread_id.into() };
                let ask = |instance: &mut Instance| {
                    let handle = get_budget.apply(instance)?;
                    let answer = ask(instance, handle);
                    instance.free(handle);
                    answer
                };
                lanes.with_birth(thread_id, birth, ask).await
            }
            _ => Err(CallError::StaleHandle),
        }
    }

    /// How many instances there are.
    fn instances(&self) -> usize {
        match &self.inner.place {
            Place::Memory(shards) => shards.len(),
            Place::File(_) | Place::Store(_) => 1,
        }
    }

    /// See to it that something is done, without waiting for it. Nobody is told when it cannot be.
    pub(crate) fn leave(&self, operation: Operation<'static>) {
        match &self.inner.place {
            Place::Memory(shards) => _ = operation.replay(&mut shards.lock_for(operation.thread_id())),
            Place::File(file) => file.leave(Left::Call(operation)),
            Place::Store(lanes) => lanes.leave(operation),
        }
    }

    /// Free what a handle stands for.
    pub(crate) fn free(&self, budget: Budget) {
        match (&self.inner.place, budget) {
            (Place::Memory(shards), Budget::Handle(handle)) => shards.lock(handle.instance).free(handle),
            (Place::File(file), Budget::Handle(handle)) => file.leave(Left::Handle(handle)),
            (_, Budget::Birth(_)) | (Place::Store(_), _) => {}
        }
    }

    /// A name for a request that has none: the holder's and a number, in hexadecimal.
    fn name_request(&self) -> String {
        let number = self.inner.named.fetch_add(1, Ordering::Relaxed);
        let digits = |number: u64, count| {
            (0..count)
                .rev()
                .filter_map(move |digit| char::from_digit((number >> (4 * digit)) as u32 & 15, 16))
        };
        let length = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1);
        let mut name = String::with_capacity(33);
        name.extend(digits(self.inner.holder, 16));
        name.push('-');
        name.extend(digits(number, length));
        name
    }

    /// Until when this registry answers for what is held now. In memory nobody else could.
    pub(crate) fn deadline(&self) -> u64 {
        match &self.inner.place {
            Place::Memory(_) => 0,
            Place::Store(lanes) => lanes.deadline(),
            Place::File(_) => clock::milliseconds(clock::now() + TERM),
        }
    }

    pub(crate) fn meter(&self) -> Meter {
        self.inner.meter
    }

    pub(crate) fn lost_calls(&self) -> LostCalls {
        self.inner.lost_calls
    }

    /// Tells this registry from every other that there is or was: what holds of its own name as their holder. With
    /// a store it is another one after the store has not heard of this registry for too long.
    #[must_use]
    pub fn holder(&self) -> u64 {
        match &self.inner.place {
            Place::Store(lanes) => lanes.holder(),
            _ => self.inner.holder,
        }
    }
}
