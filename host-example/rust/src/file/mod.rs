//! A registry that keeps its threads in a file.
//!
//! A call is carried out in the instance, appended to the batch that is being filled, and acknowledged when
//! that batch is on disk. One thread writes the batches, each in a transaction, and does whatever else waits
//! for the disk. From time to time a checkpoint replaces states and log by the states of now.
//!
//! The instance is locked for as long as a call takes. For what takes longer the thread that writes takes it
//! away, and callers wait until it is back. Lock order: the turn, the instance, the queue.

mod disk;
mod in_flight;
mod load;
mod overlay;
mod queue;
mod writer;

use crate::calls::{Call, Operation, SetNextBirth};
use crate::clock;
use crate::error::{CallError, LoadError, StorageError};
use crate::instance::{Blueprint, Handle, Instance};
use crate::lost::LostCalls;
use disk::{Disk, io};
use queue::{Errand, Outcome, Queue, Written};
use std::fmt::Display;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use tokio::sync::Notify;
use tokio::sync::oneshot;

pub use disk::DATABASE_FORMAT;
pub(crate) use queue::Left;
pub use queue::Note;

/// When a call returns that changed something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When it is on disk; calls that are made at the same time share a transaction. Others may see
    /// its effect before, but nothing is acknowledged that a crash could take back.
    #[default]
    Batched,
    /// The same, each call in a transaction of its own; nobody sees an effect that is not on disk, but
    /// for a thread that a check or a handle created: nothing was spent on it yet.
    Immediate,
}

/// How a file is kept.
pub(crate) struct FileOptions {
    pub(crate) path: PathBuf,
    pub(crate) durability: Durability,
    /// How long the log may get, in calls; or twice as long as there are threads.
    pub(crate) checkpoint_after: u64,
    /// Leave it as it is.
    pub(crate) read_only: bool,
}

/// The file, and the instance with its threads.
pub(crate) struct File {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

/// What callers share with the thread that writes.
struct Shared {
    options: FileOptions,
    blueprint: Blueprint,
    /// None while the thread that writes has it.
    instance: Mutex<Option<Instance>>,
    /// Notified when it is back.
    back: Notify,
    /// Held by a call until its effect is on disk, where nobody may see it before.
    turn: tokio::sync::Mutex<()>,
    queue: Mutex<Queue>,
    work: Condvar,
    /// How long the log is.
    logged_calls: AtomicU64,
}

impl File {
    /// Open it. What calls of others than the holder had in flight is lost, and settled.
    pub(crate) fn open(
        options: FileOptions,
        blueprint: Blueprint,
        holder: u64,
        lost_calls: LostCalls,
    ) -> Result<Self, LoadError> {
        let mut disk = Disk::open(options.path.clone(), options.read_only)?;
        let mut instance = blueprint.instantiate()?;
        let in_flight = disk.load_into(&mut instance)?;
        let shared = Shared {
            options,
            blueprint,
            instance: Mutex::default(),
            back: Notify::new(),
            turn: tokio::sync::Mutex::default(),
            queue: Mutex::default(),
            work: Condvar::new(),
            logged_calls: AtomicU64::new(disk.logged_calls()),
        };
        shared.number_births(&mut instance);
        if !shared.options.read_only {
            for operation in in_flight.settle(holder, lost_calls) {
                shared.carry_out(&mut instance, &operation);
            }
        }
        shared.give_back(instance);
        let shared = Arc::new(shared);
        let of_writer = shared.clone();
        let writer = thread::Builder::new().name("thread-budget-file".into());
        let writer = writer.spawn(move || of_writer.run(disk)).map_err(|error| shared.io(&error))?;
        Ok(Self { shared, writer: Some(writer) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.shared.options.path
    }

    /// How many calls the log has.
    pub(crate) fn logged_calls(&self) -> u64 {
        self.shared.logged_calls.load(Ordering::Relaxed)
    }

    /// Make a call that may change something.
    pub(crate) async fn run<C: Call>(&self, call: &C) -> Result<C::Answer, CallError> {
        self.run_noting(call, |_| None).await
    }

    /// The same, and keep a note, made of its answer, together with it.
    pub(crate) async fn run_noting<C: Call>(
        &self,
        call: &C,
        note: impl FnOnce(&C::Answer) -> Option<Note>,
    ) -> Result<C::Answer, CallError> {
        let _turn = self.shared.turn().await?;
        let apply = |instance: &mut Instance| self.shared.apply(instance, call, note);
        let (answer, outcome) = self.shared.with(apply).await?;
        self.shared.wait(outcome).await?;
        Ok(answer)
    }

    /// Make a call on a budget: by its thread's id, as it is logged, unless it is detached and none of the
    /// registry's concern.
    pub(crate) async fn run_on<C: Call>(
        &self,
        budget: Handle,
        call: &C,
        detached: impl FnOnce(&mut Instance) -> Result<C::Answer, CallError>,
    ) -> Result<C::Answer, CallError> {
        let _turn = self.shared.turn().await?;
        let apply = |instance: &mut Instance| {
            check_maker(instance, budget)?;
            let is_detached = instance
                .call(|registry, store| registry.thread_budget().call_is_detached(store, budget.resource))?;
            if is_detached {
                return Ok((detached(instance)?, None));
            }
            self.shared.apply(instance, call, |_| None)
        };
        let (answer, outcome) = self.shared.with(apply).await?;
        self.shared.wait(outcome).await?;
        Ok(answer)
    }

    /// Do something with the instance that changes nothing.
    pub(crate) async fn with<R>(
        &self,
        work: impl FnOnce(&mut Instance) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        let _turn = self.shared.turn().await?;
        self.shared.with(work).await
    }

    /// The same with the instance that made a handle, if it is still there.
    pub(crate) async fn with_maker_of<R>(
        &self,
        handle: Handle,
        work: impl FnOnce(&mut Instance) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        self.with(|instance| {
            check_maker(instance, handle)?;
            work(instance)
        })
        .await
    }

    /// What is noted under that key.
    pub(crate) async fn note(&self, key: &str) -> Result<Option<Vec<u8>>, CallError> {
        let (tell, told) = oneshot::channel();
        self.shared.send(|queue| queue.errands.push(Errand::ReadNote(key.into(), tell)));
        Ok(told.await.unwrap_or_else(|_| Err(self.shared.closed()))?)
    }

    /// Leave something to be done, without waiting.
    pub(crate) fn leave(&self, left: Left) {
        self.shared.send(|queue| queue.left.push(left));
    }
}

impl Drop for File {
    /// Write what nobody waited for, and close the file.
    fn drop(&mut self) {
        self.shared.send(|queue| queue.closing = true);
        if let Some(writer) = self.writer.take() {
            // What it has to say it has told those who waited.
            let _ = writer.join();
        }
    }
}

impl Shared {
    /// Where nobody may see what is not on disk: wait until everything is, and keep others from going on.
    async fn turn(&self) -> Result<Option<tokio::sync::MutexGuard<'_, ()>>, CallError> {
        if self.options.durability == Durability::Batched {
            return Ok(None);
        }
        let turn = self.turn.lock().await;
        // Whoever had it before may have stopped waiting.
        let outcome = {
            let mut queue = self.queue();
            if queue.is_waited_for() { queue.outcome() } else { None }
        };
        self.wait(outcome).await?;
        Ok(Some(turn))
    }

    /// Do something with the instance, rebuilt if need be.
    async fn with<R>(
        &self,
        work: impl FnOnce(&mut Instance) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        loop {
            let back = self.back.notified();
            let rebuilt = {
                let mut place = self.lock();
                if let Some(instance) = &mut *place {
                    self.do_what_is_left(instance);
                    if self.is_sound(instance) {
                        return work(instance);
                    }
                    let (tell, told) = oneshot::channel();
                    self.send(|queue| queue.errands.push(Errand::Rebuild(tell)));
                    Some(told)
                } else if self.queue().is_over {
                    return Err(self.closed().into());
                } else {
                    None
                }
            };
            match rebuilt {
                Some(told) => told.await.unwrap_or_else(|_| Err(self.closed().into()))?,
                None => back.await,
            }
        }
    }

    /// Whether the instance goes on, and what it has done can be written.
    fn is_sound(&self, instance: &Instance) -> bool {
        instance.lost.is_none() && self.queue().stale.is_none()
    }

    /// Carry a call out and append it, if it has changed something. With what becomes of that, or of what its
    /// answer was based on.
    fn apply<C: Call>(
        &self,
        instance: &mut Instance,
        call: &C,
        note: impl FnOnce(&C::Answer) -> Option<Note>,
    ) -> Result<(C::Answer, Option<Arc<Outcome>>), CallError> {
        let is_new = C::CREATES && !has_budget(instance, call.thread_id())?;
        let result = call.apply(instance);
        let changed = match &result {
            _ if C::CREATES => is_new && has_budget(instance, call.thread_id()).unwrap_or(false),
            Ok(answer) => call.changed(answer),
            Err(_) => false,
        };
        if changed {
            self.append(&call.operation())?;
        }
        let answer = result?;
        let note = note(&answer);
        let mut queue = self.queue();
        if let Some(error) = &queue.stale {
            return Err(error.clone().into());
        }
        if let Some(note) = note {
            queue.note(note);
        }
        let outcome = if C::WAITS { queue.outcome() } else { None };
        Ok((answer, outcome))
    }

    /// Carry out what nobody waits for.
    fn carry_out(&self, instance: &mut Instance, operation: &Operation<'_>) {
        if operation.replay(instance).is_ok() {
            // When it cannot be written the instance is rebuilt as the file is.
            let _ = self.append(operation);
        }
    }

    /// From now on births are above those of threads that are gone, of which the file says nothing.
    fn number_births(&self, instance: &mut Instance) {
        self.carry_out(instance, &Operation::SetNextBirth(SetNextBirth { birth: clock::birth() }));
    }

    fn append(&self, operation: &Operation<'_>) -> Result<(), StorageError> {
        let mut queue = self.queue();
        if let Some(error) = &queue.stale {
            return Err(error.clone());
        }
        queue.append(operation).map_err(|error| {
            let error = self.io(&error);
            queue.stale = Some(error.clone());
            error
        })
    }

    fn do_what_is_left(&self, instance: &mut Instance) {
        if !self.is_sound(instance) {
            return;
        }
        let left = mem::take(&mut self.queue().left);
        for left in left {
            match left {
                Left::Call(operation) => self.carry_out(instance, &operation),
                Left::Handle(handle) => instance.free(handle),
            }
        }
    }

    /// Wait until a batch is on disk.
    async fn wait(&self, outcome: Option<Arc<Outcome>>) -> Written {
        let Some(outcome) = outcome else { return Ok(()) };
        self.work.notify_one();
        outcome.wait().await
    }

    /// Put something into the queue for the thread that writes, if it is still there.
    fn send(&self, put: impl FnOnce(&mut Queue)) {
        let mut queue = self.queue();
        if !queue.is_over {
            put(&mut queue);
        }
        self.work.notify_one();
    }

    /// Lock the instance, if it is there.
    fn lock(&self) -> MutexGuard<'_, Option<Instance>> {
        // A panic while it was locked cannot have left it in between: wasmtime reports what happens inside as
        // errors, and that an instance is lost is noted last.
        self.instance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Let callers go on with the instance.
    fn give_back(&self, instance: Instance) {
        *self.lock() = Some(instance);
        self.back.notify_waiters();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn io(&self, reason: &dyn Display) -> StorageError {
        io(&self.options.path, reason)
    }

    fn closed(&self) -> StorageError {
        self.io(&"it was closed")
    }
}

/// Whether the instance is the one that made the handle: none that was rebuilt since will do.
fn check_maker(instance: &Instance, handle: Handle) -> Result<(), CallError> {
    if instance.number == handle.instance { Ok(()) } else { Err(CallError::StaleHandle) }
}

fn has_budget(instance: &mut Instance, thread_id: &str) -> Result<bool, CallError> {
    instance.call(|registry, store| registry.call_has_budget(store, thread_id))
}
