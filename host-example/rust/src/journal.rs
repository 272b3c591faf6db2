//! The file of a durable registry: states of threads, and a log of the calls since.
//!
//! A call is carried out in the instance, appended to the batch that is being filled, and
//! acknowledged when that batch is on disk. Whoever was first in a batch writes it, in one transaction,
//! as soon as the batch before is written; the others wait. From time to time a checkpoint replaces
//! states and log by the states of now.
//!
//! Lock order: the instance, then `disk`, then `queue`.

use crate::bindings::exports::thread_budget::registry::types;
use crate::error::{CallError, StorageError, from_contract};
use crate::instance::Instance;
use crate::operation::Operation;
use crate::overlay::Overlay;
use crate::types::{ThreadState, Threshold, each};
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction,
};
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::io::ErrorKind;
use std::mem;
#[cfg(unix)]
use std::os::unix::fs::PermissionsExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

/// What the file says it is. The states and the log are of this version of the contract.
pub const DATABASE_FORMAT: &str = "thread-budget:registry@0.1.0 file 1";

/// When a call returns that changed something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When it is on disk; calls that are made at the same time share a transaction. Others may see
    /// its effect before, but nothing is acknowledged that a crash could take back.
    #[default]
    Batched,
    /// The same, each call in a transaction of its own; nobody sees an effect that is not on disk, but
    /// for a thread that a check, a reservation or a handle created: nothing was spent on it yet.
    Immediate,
}

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const STATES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("states");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const NOTES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("notes");

/// Threads a page of the file. A page is read and written whole.
const PAGE_THREADS: u32 = 1_024;

/// What is handed to an instance in one call, in bytes; the room that it always keeps is twice that.
pub(crate) const RESTORE_BYTES: usize = 128 << 10;

pub(crate) struct Journal {
    path: PathBuf,
    pub(crate) durability: Durability,
    /// How long the log may get, in calls; or twice as long as there are threads.
    checkpoint_after: u64,
    disk: Mutex<Disk>,
    queue: Mutex<Queue>,
    /// The instance is ahead of the file, and has to be rebuilt from it.
    stale: AtomicBool,
    checkpoint_due: AtomicBool,
}

#[derive(Default)]
struct Disk {
    /// Whether the file stays as it is.
    read_only: bool,
    /// Closed after a failure, to be opened and checked again.
    database: Option<Database>,
    next_row: u64,
    logged_calls: u64,
    threads: u64,
}

/// What is to be written.
#[derive(Default)]
struct Queue {
    batch: Batch,
    max_threads: u32,
}

struct Batch {
    operations: Vec<u8>,
    calls: u64,
    notes: Vec<Note>,
    outcome: Outcome,
    /// What becomes of the batch before. Taken by the first in this one, who will write it.
    previous: Option<Outcome>,
}

impl Batch {
    fn after(previous: Outcome) -> Self {
        Self {
            operations: Vec::new(),
            calls: 0,
            notes: Vec::new(),
            outcome: Outcome::default(),
            previous: Some(previous),
        }
    }
}

/// The first batch, or one after a failure: there is nothing before it to wait for.
impl Default for Batch {
    fn default() -> Self {
        Self::after(Arc::new(OnceLock::from(Ok(()))))
    }
}

/// Set when a batch is on disk, or is known not to be.
type Outcome = Arc<OnceLock<Result<(), StorageError>>>;

/// Something of the caller's own, kept in the file together with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is kept under.
    pub key: String,
    /// What is kept, in place of what was.
    pub value: Vec<u8>,
}

/// The batch that a call went into.
pub(crate) struct Ticket {
    outcome: Outcome,
    /// For the first in a batch, who has to write it: what becomes of the batch before.
    leads_after: Option<Outcome>,
}

/// What is kept of settings: those in force at a checkpoint.
#[derive(Serialize, Deserialize)]
struct Settings {
    max_tokens_per_thread: u64,
    thresholds: Vec<Threshold>,
    max_threads: u32,
}

impl Journal {
    pub(crate) fn open(
        path: PathBuf,
        durability: Durability,
        checkpoint_after: u64,
        read_only: bool,
    ) -> Result<Self, StorageError> {
        let journal = Self {
            path,
            durability,
            checkpoint_after,
            disk: Mutex::new(Disk { read_only, ..Disk::default() }),
            queue: Mutex::default(),
            stale: AtomicBool::new(false),
            checkpoint_due: AtomicBool::new(false),
        };
        journal.lock_disk().open(&journal.path)?;
        Ok(journal)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the instance is ahead of the file, since something could not be written.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    /// Add a call, which the instance has just carried out, to the batch. The instance must be locked,
    /// so that calls are logged in the order in which they happened.
    pub(crate) fn append(
        &self,
        operation: Option<&Operation>,
        note: Option<Note>,
    ) -> Result<Ticket, StorageError> {
        let mut queue = self.push(operation)?;
        queue.batch.notes.extend(note);
        let leads_after = queue.batch.previous.take();
        Ok(Ticket { outcome: queue.batch.outcome.clone(), leads_after })
    }

    /// The same for a call that nobody waits for: it is written with the next one, or at the end.
    pub(crate) fn append_unwaited(&self, operation: &Operation) -> Result<(), StorageError> {
        self.push(Some(operation)).map(drop)
    }

    fn push(&self, operation: Option<&Operation>) -> Result<MutexGuard<'_, Queue>, StorageError> {
        let mut queue = self.lock_queue();
        if self.is_stale() {
            return Err(self.io(&"what this call was based on could not be written"));
        }
        if let Some(operation) = operation {
            if let Operation::SetMaxThreads { max_threads } = operation {
                queue.max_threads = *max_threads;
            }
            let operations = mem::take(&mut queue.batch.operations);
            queue.batch.operations =
                postcard::to_extend(operation, operations).map_err(|error| self.io(&error))?;
            queue.batch.calls += operation.records();
        }
        Ok(queue)
    }

    /// Wait until the batch of the ticket is on disk, or write it. Every ticket has to come here, since
    /// others may wait for the one who leads.
    pub(crate) fn wait(&self, Ticket { outcome, leads_after }: Ticket) -> Result<(), StorageError> {
        if let Some(previous) = leads_after {
            previous.wait();
            // Those who waited for it as well may have a next call for this batch.
            thread::yield_now();
            self.write_batch(&outcome);
        }
        outcome.wait().clone()
    }

    /// Write the batch of that outcome, which is being filled unless it was lost with the one before.
    fn write_batch(&self, outcome: &Outcome) {
        let mut disk = self.lock_disk();
        let batch = {
            let mut queue = self.lock_queue();
            if outcome.get().is_some() {
                return;
            }
            mem::replace(&mut queue.batch, Batch::after(outcome.clone()))
        };
        let result = disk.write(&self.path, &batch);
        if disk.logged_calls >= self.checkpoint_after.max(2 * disk.threads) {
            self.checkpoint_due.store(true, Ordering::Relaxed);
        }
        drop(disk);
        if let Err(error) = &result {
            // What was appended meanwhile happened on top of what is lost now.
            let mut queue = self.lock_queue();
            self.stale.store(true, Ordering::Release);
            let lost = mem::take(&mut queue.batch);
            let _ = lost.outcome.set(Err(error.clone()));
        }
        // A batch is written once, here.
        let _ = outcome.set(result);
    }

    /// Have everything on disk that was appended.
    fn drain(&self) -> Result<(), StorageError> {
        let ticket = self.append(None, None)?;
        self.wait(ticket)
    }

    /// Bring a fresh instance to where the file is. The instance this replaces must be locked.
    pub(crate) fn load_into(&self, instance: &mut Instance) -> Result<(), StorageError> {
        if !self.is_stale() {
            // Calls that the lost instance had carried out, and whose callers wait.
            let _ = self.drain();
        }
        let mut disk = self.lock_disk();
        disk.open(&self.path)?;
        let max_threads = instance.with_allowances(|instance| disk.load_into(&self.path, instance))?;
        self.lock_queue().max_threads = max_threads;
        self.stale.store(false, Ordering::Release);
        Ok(())
    }

    /// Whether the log has become long.
    pub(crate) fn checkpoint_is_due(&self) -> bool {
        self.checkpoint_due.load(Ordering::Relaxed)
    }

    /// Replace states and log by the states of now. The instance must be locked, and everything that
    /// it has done be on disk. A checkpoint that fails leaves the file as it was, and later calls meet
    /// the reason.
    pub(crate) fn checkpoint(&self, instance: &mut Instance) {
        let max_threads = self.lock_queue().max_threads;
        let mut disk = self.lock_disk();
        // The log is kept, so nothing is lost by not shortening it.
        let _ = disk.checkpoint(&self.path, instance, max_threads);
        self.checkpoint_due.store(false, Ordering::Relaxed);
    }

    /// What is noted under that key.
    pub(crate) fn note(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let mut disk = self.lock_disk();
        disk.open(&self.path)?;
        let Some(database) = &disk.database else { return Ok(None) };
        let read = || -> Result<_, redb::Error> {
            match database.begin_read()?.open_table(NOTES) {
                Ok(notes) => Ok(notes.get(key)?.map(|value| value.value().to_vec())),
                Err(TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        read().map_err(|error| self.io(&error))
    }

    /// How many threads there may be.
    pub(crate) fn max_threads(&self) -> u32 {
        self.lock_queue().max_threads
    }

    /// How many calls the log has.
    pub(crate) fn logged_calls(&self) -> u64 {
        self.lock_disk().logged_calls
    }

    fn io(&self, reason: &dyn Display) -> StorageError {
        io(&self.path, reason)
    }

    fn lock_queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Journal {
    /// Write what nobody waited for.
    fn drop(&mut self) {
        let _ = self.drain();
    }
}

/// Make the file, if there is none, whole at once: who is stopped in between leaves none, not half of one.
fn create(path: &Path) -> Result<(), StorageError> {
    if path.exists() {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let mut made = tempfile::Builder::new();
    made.prefix(".thread-budget-");
    #[cfg(unix)]
    made.permissions(PermissionsExt::from_mode(0o666));
    let made = made.tempfile_in(folder).map_err(|error| io(path, &error))?;
    let database = Database::create(made.path()).map_err(|error| io(path, &error))?;
    format_of(&database).map_err(|error| io(path, &error))?;
    drop(database);
    match made.persist_noclobber(path) {
        // Somebody else may have made it meanwhile.
        Err(error) if error.error.kind() != ErrorKind::AlreadyExists => Err(io(path, &error.error)),
        _ => Ok(()),
    }
}

fn io(path: &Path, reason: &dyn Display) -> StorageError {
    StorageError::Io { path: path.into(), reason: reason.to_string().into() }
}

impl Disk {
    /// Open the file, or make it, with every page of it checked.
    fn open(&mut self, path: &Path) -> Result<(), StorageError> {
        if self.database.is_some() {
            return Ok(());
        }
        let corrupt = |reason: &dyn Display| StorageError::Corrupt {
            path: path.into(),
            reason: reason.to_string().into(),
        };
        let mut builder = Database::builder();
        builder.set_check_integrity_on_open(true);
        let opened = if self.read_only {
            Overlay::open(path).and_then(|overlay| builder.create_with_backend(overlay))
        } else {
            create(path)?;
            builder.create(path)
        };
        let database = opened.map_err(|error| match &error {
            DatabaseError::DatabaseAlreadyOpen => StorageError::InUse { path: path.into() },
            DatabaseError::Storage(redb::StorageError::Corrupted(reason)) => corrupt(reason),
            DatabaseError::Storage(redb::StorageError::Io(source))
                if matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
            {
                corrupt(source)
            }
            DatabaseError::UpgradeRequired(_) => corrupt(&error),
            _ => io(path, &error),
        })?;
        let found = format_of(&database).map_err(|error| io(path, &error))?;
        if found != DATABASE_FORMAT {
            return Err(StorageError::Format { path: path.into(), found });
        }
        self.database = Some(database);
        Ok(())
    }

    fn write(&mut self, path: &Path, batch: &Batch) -> Result<(), StorageError> {
        if batch.calls == 0 && batch.notes.is_empty() {
            return Ok(());
        }
        self.open(path)?;
        let row = self.next_row;
        self.transact(path, |transaction| {
            if batch.calls > 0 {
                transaction.open_table(LOG)?.insert(row, batch.operations.as_slice())?;
            }
            if !batch.notes.is_empty() {
                let mut notes = transaction.open_table(NOTES)?;
                for Note { key, value } in &batch.notes {
                    notes.insert(key.as_str(), value.as_slice())?;
                }
            }
            Ok(())
        })?;
        self.next_row += 1;
        self.logged_calls += batch.calls;
        Ok(())
    }

    /// Write to the file, all or nothing. redb may panic on a file that was damaged while it was open.
    /// Whatever goes wrong, the file is closed, to be checked before it is used again.
    fn transact(
        &mut self,
        path: &Path,
        write: impl FnOnce(&WriteTransaction) -> Result<(), WriteError>,
    ) -> Result<(), StorageError> {
        let Some(database) = self.database.take() else { return Err(io(path, &"closed")) };
        let transact = || {
            let transaction = database.begin_write()?;
            write(&transaction)?;
            Ok(transaction.commit()?)
        };
        let result: Result<(), WriteError> = panic::catch_unwind(AssertUnwindSafe(transact))
            .map_err(|_| io(path, &"the database code panicked"))?;
        result.map_err(|error| io(path, &error))?;
        self.database = Some(database);
        Ok(())
    }

    fn load_into(&mut self, path: &Path, instance: &mut Instance) -> Result<u32, StorageError> {
        let Some(database) = &self.database else { return Err(io(path, &"closed")) };
        let mut load = Load { path, instance, threads: 0, calls: 0, next_row: 0, max_threads: u32::MAX };
        let result = load.run(database);
        let Load { threads, calls, next_row, max_threads, .. } = load;
        (self.threads, self.logged_calls, self.next_row) = (threads, calls, next_row);
        result.map(|()| max_threads)
    }

    fn checkpoint(
        &mut self,
        path: &Path,
        instance: &mut Instance,
        max_threads: u32,
    ) -> Result<(), StorageError> {
        let mut threads = 0;
        self.transact(path, |transaction| {
            transaction.delete_table(STATES)?;
            transaction.delete_table(LOG)?;
            transaction.open_table(LOG)?;
            let mut states = transaction.open_table(STATES)?;
            let mut after: Option<String> = None;
            for page in 0.. {
                let threads_of_page = snapshot(instance, after.as_deref(), PAGE_THREADS)?;
                let Some(last) = threads_of_page.last() else { break };
                after = Some(last.thread_id.clone());
                threads += threads_of_page.len() as u64;
                states.insert(page, encode(&threads_of_page)?.as_slice())?;
            }
            let settings = Settings {
                max_tokens_per_thread: instance
                    .call(|registry, store| registry.call_max_tokens_per_thread(store))?,
                thresholds: each(instance.call(|registry, store| registry.call_thresholds(store))?),
                max_threads,
            };
            transaction.open_table(META)?.insert("settings", encode(&settings)?.as_slice())?;
            Ok(())
        })?;
        (self.threads, self.logged_calls) = (threads, 0);
        Ok(())
    }
}

/// What can stop a write.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Database(redb::Error),
    #[error(transparent)]
    Encoding(postcard::Error),
    #[error(transparent)]
    Call(#[from] CallError),
}

impl<E: Into<redb::Error>> From<E> for WriteError {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, WriteError> {
    postcard::to_stdvec(value).map_err(WriteError::Encoding)
}

/// The format that the file names; a file without any data gets this program's.
fn format_of(database: &Database) -> Result<String, redb::Error> {
    let transaction = database.begin_read()?;
    let is_new = transaction.list_tables()?.next().is_none();
    if !is_new {
        return Ok(match transaction.open_table(META) {
            Ok(meta) => meta
                .get("format")?
                .map_or_else(String::new, |format| String::from_utf8_lossy(format.value()).into_owned()),
            Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => String::new(),
            Err(error) => return Err(error.into()),
        });
    }
    drop(transaction);
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert("format", DATABASE_FORMAT.as_bytes())?;
    transaction.open_table(STATES)?;
    transaction.open_table(LOG)?;
    transaction.commit()?;
    Ok(DATABASE_FORMAT.into())
}

/// A file on its way into an instance.
struct Load<'a> {
    path: &'a Path,
    instance: &'a mut Instance,
    threads: u64,
    calls: u64,
    next_row: u64,
    max_threads: u32,
}

impl Load<'_> {
    fn run(&mut self, database: &Database) -> Result<(), StorageError> {
        let path = self.path;
        let read = |error: redb::Error| io(path, &error);
        let transaction = database.begin_read().map_err(|error| read(error.into()))?;
        let meta = transaction.open_table(META).map_err(|error| read(error.into()))?;
        if let Some(settings) = meta.get("settings").map_err(|error| read(error.into()))? {
            let Settings { max_tokens_per_thread, thresholds, max_threads } =
                self.decode(settings.value())?.0;
            self.replay(&Operation::Configure { max_tokens_per_thread })?;
            self.replay(&Operation::SetThresholds { thresholds })?;
            self.max_threads = max_threads;
        }
        let states = transaction.open_table(STATES).map_err(|error| read(error.into()))?;
        for page in states.iter().map_err(|error| read(error.into()))? {
            let (_, page) = page.map_err(|error| read(error.into()))?;
            let (threads, _): (Vec<ThreadState>, _) = self.decode(page.value())?;
            self.threads += threads.len() as u64;
            restore(self.instance, threads).map_err(|error| self.unrestorable(&error))?;
        }
        let log = transaction.open_table(LOG).map_err(|error| read(error.into()))?;
        for row in log.iter().map_err(|error| read(error.into()))? {
            let (number, row) = row.map_err(|error| read(error.into()))?;
            self.next_row = number.value() + 1;
            let mut rest = row.value();
            while !rest.is_empty() {
                let (operation, after): (Operation, _) = self.decode(rest)?;
                rest = after;
                self.calls += operation.records();
                match operation {
                    // Threads that were made under a higher limit stay, so it is set at the end.
                    Operation::SetMaxThreads { max_threads } => self.max_threads = max_threads,
                    operation => self.replay(&operation)?,
                }
            }
        }
        self.replay(&Operation::SetMaxThreads { max_threads: self.max_threads })
    }

    fn decode<'b, T: Deserialize<'b>>(&self, bytes: &'b [u8]) -> Result<(T, &'b [u8]), StorageError> {
        postcard::take_from_bytes(bytes).map_err(|error| StorageError::Corrupt {
            path: self.path.into(),
            reason: format!("a record cannot be read: {error}").into(),
        })
    }

    fn replay(&mut self, operation: &Operation) -> Result<(), StorageError> {
        operation.replay(self.instance).map_err(|error| self.unrestorable(&error))
    }

    fn unrestorable(&self, error: &CallError) -> StorageError {
        StorageError::Unrestorable { path: self.path.into(), reason: error.to_string().into() }
    }
}

/// A page of the states of an instance.
pub(crate) fn snapshot(
    instance: &mut Instance,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<ThreadState>, CallError> {
    Ok(each(instance.call(|registry, store| registry.call_snapshot(store, after, limit))?))
}

/// Bring threads back, in portions that any instance can take. When one is refused, those before it
/// stay.
fn restore(instance: &mut Instance, threads: Vec<ThreadState>) -> Result<(), CallError> {
    let mut portion: Vec<types::ThreadState> = Vec::new();
    let mut bytes = 0;
    for thread in threads {
        bytes += bytes_of(&thread);
        if bytes > RESTORE_BYTES && !portion.is_empty() {
            restore_portion(instance, &mem::take(&mut portion))?;
            bytes = bytes_of(&thread);
        }
        portion.push(thread.into());
    }
    restore_portion(instance, &portion)
}

/// About what a state takes as an argument.
pub(crate) fn bytes_of(thread: &ThreadState) -> usize {
    let ids = thread.request_ids.iter().map(|id| id.len() + 24).sum::<usize>();
    128 + thread.thread_id.len()
        + thread.parent.as_ref().map_or(0, String::len)
        + thread.triggered_thresholds.len() * 12
        + ids
}

pub(crate) fn restore_portion(
    instance: &mut Instance,
    portion: &[types::ThreadState],
) -> Result<(), CallError> {
    let result = instance.call(|registry, store| registry.call_restore(store, portion))?;
    from_contract(result, "")
}
