//! What is to be written to the file, in batches: calls that an instance has carried out, and who waits until
//! they are on disk.

use crate::calls::Operation;
use crate::error::{CallError, StorageError};
use crate::instance::Handle;
use std::mem;
use tokio::sync::oneshot;

/// Something of the caller's own, kept in the file together with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is kept under.
    pub key: String,
    /// What is kept, in place of what was.
    pub value: Vec<u8>,
}

/// Told once, when a batch is on disk or known not to be.
pub(super) type Outcome = Result<(), StorageError>;

/// One transaction.
#[derive(Default)]
pub(super) struct Batch {
    /// The calls, one encoded after the other.
    pub(super) operations: Vec<u8>,
    pub(super) calls: u64,
    pub(super) notes: Vec<Note>,
    waiting: Vec<oneshot::Sender<Outcome>>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.calls == 0 && self.notes.is_empty()
    }

    /// Tell who waits for it. Who has stopped waiting need not know.
    pub(super) fn end(self, outcome: &Outcome) {
        for waiting in self.waiting {
            let _ = waiting.send(outcome.clone());
        }
    }
}

/// What callers leave for the thread that writes.
#[derive(Default)]
pub(super) struct Queue {
    batch: Batch,
    /// Whether the batch before is on its way to the disk.
    is_writing: bool,
    /// Why the instance is ahead of the file, when it is: it has to be rebuilt.
    pub(super) stale: Option<StorageError>,
    /// What guards that were dropped leave to be done by whoever enters the instance next.
    pub(super) left: Vec<Left>,
    /// What only the thread that writes can do.
    pub(super) errands: Vec<Errand>,
    pub(super) closing: bool,
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
        self.is_writing || !self.batch.waiting.is_empty()
    }

    /// Tells when everything that was appended so far is on disk; none when it is already.
    pub(super) fn ticket(&mut self) -> Option<oneshot::Receiver<Outcome>> {
        if self.batch.is_empty() && !self.is_writing {
            return None;
        }
        let (tell, told) = oneshot::channel();
        self.batch.waiting.push(tell);
        Some(told)
    }

    /// Whether somebody waits for the thread that writes.
    pub(super) fn has_work(&self) -> bool {
        let has_batch = !self.batch.waiting.is_empty() || self.closing && !self.batch.is_empty();
        has_batch || !self.left.is_empty() || !self.errands.is_empty()
    }

    /// Begin to write what there is.
    pub(super) fn take(&mut self) -> Batch {
        self.is_writing = true;
        mem::take(&mut self.batch)
    }

    /// It is written, or not. Then what was appended meanwhile happened on top of what is lost.
    pub(super) fn written(&mut self, outcome: &Outcome) {
        self.is_writing = false;
        if let Err(error) = outcome {
            self.stale = Some(error.clone());
            mem::take(&mut self.batch).end(outcome);
        }
    }
}
