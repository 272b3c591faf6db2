//! A registry that keeps its threads in a file.
//!
//! A call is carried out in the instance, appended to the batch that is being filled, and acknowledged when
//! that batch is on disk. One thread writes the batches, each in a transaction, and does whatever else waits
//! for the disk. From time to time a checkpoint replaces states and log by the states of now.
//!
//! Lock order: the turn, the instance, the queue. Nobody waits for the disk while the instance is locked, but
//! the thread that writes.

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
use queue::{Errand, Outcome, Queue};
use std::fmt::Display;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use tokio::sync::oneshot::{self, Receiver};

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
    instance: tokio::sync::Mutex<Instance>,
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
            instance: tokio::sync::Mutex::new(instance),
            turn: tokio::sync::Mutex::default(),
            queue: Mutex::default(),
            work: Condvar::new(),
            logged_calls: AtomicU64::new(disk.logged_calls()),
        };
        if let Ok(mut instance) = shared.instance.try_lock() {
            shared.number_births(&mut instance);
            if !shared.options.read_only {
                for operation in in_flight.settle(holder, lost_calls) {
                    shared.carry_out(&mut instance, &operation);
                }
            }
        }
        let shared = Arc::new(shared);
        let of_writer = shared.clone();
        let writer = thread::Builder::new().name("thread-budget-file".into());
        let writer = writer.spawn(move || of_writer.write(disk)).map_err(|error| shared.io(&error))?;
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
        let (answer, ticket) = {
            let mut instance = self.shared.enter().await?;
            self.shared.apply(&mut instance, call, note)?
        };
        self.shared.wait(ticket).await?;
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
        let (answer, ticket) = {
            let mut instance = self.shared.enter_as(budget.instance).await?;
            if instance
                .call(|registry, store| registry.thread_budget().call_is_detached(store, budget.resource))?
            {
                return detached(&mut instance);
            }
            self.shared.apply(&mut instance, call, |_| None)?
        };
        self.shared.wait(ticket).await?;
        Ok(answer)
    }

    /// Do something with the instance that changes nothing.
    pub(crate) async fn with<R>(
        &self,
        work: impl FnOnce(&mut Instance) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        let _turn = self.shared.turn().await?;
        work(&mut *self.shared.enter().await?)
    }

    /// The same with the instance that made a handle, if it is still there.
    pub(crate) async fn with_maker_of<R>(
        &self,
        handle: Handle,
        work: impl FnOnce(&mut Instance) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        let _turn = self.shared.turn().await?;
        work(&mut *self.shared.enter_as(handle.instance).await?)
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
            // It does not panic; if it did, the file would be closed all the same.
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
        let ticket = {
            let mut queue = self.queue();
            if queue.is_waited_for() { queue.ticket() } else { None }
        };
        self.wait(ticket).await?;
        Ok(Some(turn))
    }

    /// Lock the instance, rebuilt if need be.
    async fn enter(&self) -> Result<tokio::sync::MutexGuard<'_, Instance>, CallError> {
        loop {
            let mut instance = self.instance.lock().await;
            if self.is_sound(&instance) {
                self.do_what_is_left(&mut instance);
            }
            if self.is_sound(&instance) {
                return Ok(instance);
            }
            drop(instance);
            let (tell, told) = oneshot::channel();
            self.send(|queue| queue.errands.push(Errand::Rebuild(tell)));
            told.await.unwrap_or_else(|_| Err(self.closed().into()))?;
        }
    }

    /// Lock the instance of that number: none that was rebuilt since will do.
    async fn enter_as(&self, number: usize) -> Result<tokio::sync::MutexGuard<'_, Instance>, CallError> {
        let instance = self.enter().await?;
        if instance.number == number { Ok(instance) } else { Err(CallError::StaleHandle) }
    }

    /// Whether the instance goes on, and what it has done can be written.
    fn is_sound(&self, instance: &Instance) -> bool {
        instance.lost.is_none() && self.queue().stale.is_none()
    }

    /// Carry a call out and append it, if it has changed something. Tells when that is on disk, or what its
    /// answer was based on.
    fn apply<C: Call>(
        &self,
        instance: &mut Instance,
        call: &C,
        note: impl FnOnce(&C::Answer) -> Option<Note>,
    ) -> Result<(C::Answer, Option<Receiver<Outcome>>), CallError> {
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
        let ticket = if C::WAITS { queue.ticket() } else { None };
        Ok((answer, ticket))
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
        let left = mem::take(&mut self.queue().left);
        for left in left {
            match left {
                Left::Call(operation) => self.carry_out(instance, &operation),
                Left::Handle(handle) => instance.free(handle),
            }
        }
    }

    /// Wait until what a ticket stands for is on disk.
    async fn wait(&self, ticket: Option<Receiver<Outcome>>) -> Outcome {
        let Some(told) = ticket else { return Ok(()) };
        self.work.notify_one();
        told.await.unwrap_or_else(|_| Err(self.closed()))
    }

    /// Put something into the queue for the thread that writes.
    fn send(&self, put: impl FnOnce(&mut Queue)) {
        put(&mut self.queue());
        self.work.notify_one();
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

fn has_budget(instance: &mut Instance, thread_id: &str) -> Result<bool, CallError> {
    instance.call(|registry, store| registry.call_has_budget(store, thread_id))
}
