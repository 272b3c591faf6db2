//! What is to be written to the file, in batches: calls that an instance has carried out, and who waits until
//! they are on disk.

use crate::calls::Operation;
use crate::error::{CallError, StorageError};
use crate::instance::Handle;
use crate::outcome;
use std::mem;
use std::sync::Arc;
use tokio::sync::oneshot;

pub(super) type Written = Result<(), StorageError>;

/// What becomes of a batch.
pub(super) type Outcome = outcome::Outcome<Written>;

/// Something of the caller's own, kept in the file together with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is kept under.
    pub key: String,
    /// What is kept, in place of what was.
    pub value: Vec<u8>,
}

/// One transaction.
#[derive(Default)]
pub(super) struct Batch {
    /// The calls, one encoded after the other.
    pub(super) operations: Vec<u8>,
    pub(super) calls: u64,
    pub(super) notes: Vec<Note>,
    outcome: Arc<Outcome>,
    /// Whether somebody waits for that.
    is_waited_for: bool,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.calls == 0 && self.notes.is_empty()
    }
}

/// What callers leave for the thread that writes.
#[derive(Default)]
pub(super) struct Queue {
    batch: Batch,
    /// Of the batch before, while that is on its way to the disk.
    writing: Option<Arc<Outcome>>,
    /// Why the instance is ahead of the file, when it is: it has to be rebuilt.
    pub(super) stale: Option<StorageError>,
    /// What guards that were dropped leave to be done by whoever enters the instance next.
    pub(super) left: Vec<Left>,
    /// What only the thread that writes can do.
    pub(super) errands: Vec<Errand>,
    pub(super) closing: bool,
    /// Whether the thread that writes has ended.
    pub(super) is_over: bool,
}

/// What a guard leaves when it is dropped, since it must not wait.
pub(crate) enum Left {
    Call(Operation<'static>),
    Handle(Handle),
}

/// Something to be done with the file, and who waits for it.
pub(super) enum Errand {
    Rebuild(oneshot::Sender<Result<(), CallError>>),
    ReadNote(String, oneshot::Sender<Result<Option<Vec<u8>>, StorageError>>),
}

impl Queue {
    /// Add a call that an instance has just carried out. It must be locked, so that the log has the calls in
    /// their order.
    pub(super) fn append(&mut self, operation: &Operation<'_>) -> Result<(), postcard::Error> {
        let encoded = postcard::to_stdvec(operation)?;
        self.batch.operations.extend(encoded);
        self.batch.calls += operation.records();
        Ok(())
    }

    /// Keep a note together with the calls before it.
    pub(super) fn note(&mut self, note: Note) {
        self.batch.notes.push(note);
    }

    /// Whether somebody waits for something that is not on disk yet.
    pub(super) fn is_waited_for(&self) -> bool {
        self.writing.is_some() || self.batch.is_waited_for
    }

    /// What becomes of everything that was appended so far; none when it is on disk already.
    pub(super) fn outcome(&mut self) -> Option<Arc<Outcome>> {
        if self.batch.is_empty() {
            return self.writing.clone();
        }
        self.batch.is_waited_for = true;
        Some(self.batch.outcome.clone())
    }

    /// Whether somebody waits for the thread that writes.
    pub(super) fn has_work(&self) -> bool {
        let has_batch = self.batch.is_waited_for || self.closing && !self.batch.is_empty();
        has_batch || !self.left.is_empty() || !self.errands.is_empty()
    }

    /// Begin to write what there is.
    pub(super) fn take(&mut self) -> Batch {
        let batch = mem::take(&mut self.batch);
        self.writing = Some(batch.outcome.clone());
        batch
    }

    /// It is written, or not. Then what was appended meanwhile happened on top of what is lost. Whose outcomes
    /// that is comes back, to be told when the queue is not locked.
    pub(super) fn written(&mut self, written: &Written) -> impl Iterator<Item = Arc<Outcome>> + use<> {
        let lost = written.as_ref().err().map(|error| {
            self.stale = Some(error.clone());
            mem::take(&mut self.batch).outcome
        });
        self.writing.take().into_iter().chain(lost)
    }

    /// Nobody writes any more.
    pub(super) fn end(&mut self, closed: &Written) -> impl Iterator<Item = Arc<Outcome>> + use<> {
        let outcomes = self.written(closed);
        *self = Self { stale: self.stale.take(), is_over: true, ..Self::default() };
        outcomes
    }
}
