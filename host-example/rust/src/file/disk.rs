//! The file itself: its tables, and how they are read and written.

use super::in_flight::InFlight;
use super::load::Loaded;
use super::overlay::Overlay;
use super::queue::{Batch, Note};
use crate::calls::{Call, SetNextBirth};
use crate::error::{CallError, StorageError};
use crate::instance::Instance;
use crate::states::snapshot;
use crate::types::Threshold;
use redb::{Database, DatabaseError, ReadableDatabase, TableDefinition, TableError, WriteTransaction};
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::io::ErrorKind;
use std::mem;
#[cfg(unix)]
use std::os::unix::fs::PermissionsExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

/// What the file says it is. The states and the log are of this version of the contract.
pub const DATABASE_FORMAT: &str = "thread-budget:registry@0.2.0 file 1";

pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const STATES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("states");
pub(super) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const NOTES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("notes");

/// Threads a page of the file. A page is read and written whole.
const PAGE_THREADS: u32 = 1_024;

/// What is kept of settings: those in force at a checkpoint.
#[derive(Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) max_tokens_per_thread: u64,
    pub(super) thresholds: Vec<Threshold>,
    pub(super) max_threads: u32,
    pub(super) next_birth: u64,
}

/// A registry as it is at one moment, encoded.
pub(super) struct Checkpoint {
    settings: Vec<u8>,
    pages: Vec<Vec<u8>>,
    threads: u64,
}

impl Checkpoint {
    /// Of an instance, whose next thread will have that birth.
    pub(super) fn of(instance: &mut Instance, next_birth: u64) -> Result<Self, CheckpointError> {
        SetNextBirth { birth: next_birth }.apply(instance)?;
        let settings = Settings {
            max_tokens_per_thread: instance
                .call(|registry, store| registry.call_max_tokens_per_thread(store))?,
            thresholds: instance.call(|registry, store| registry.call_thresholds(store))?,
            max_threads: instance.max_threads,
            next_birth,
        };
        let mut checkpoint = Self { settings: encode(&settings)?, pages: Vec::new(), threads: 0 };
        let mut after: Option<String> = None;
        loop {
            let page = snapshot(instance, after.as_deref(), PAGE_THREADS)?;
            let Some(last) = page.last() else { return Ok(checkpoint) };
            after = Some(last.thread_id.clone());
            checkpoint.threads += page.len() as u64;
            checkpoint.pages.push(encode(&page)?);
        }
    }
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckpointError {
    #[error(transparent)]
    Encoding(#[from] postcard::Error),
    #[error(transparent)]
    Call(#[from] CallError),
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_stdvec(value)
}

pub(super) struct Disk {
    path: PathBuf,
    /// Whether the file stays as it is.
    read_only: bool,
    /// Closed after a failure, to be opened and checked again.
    database: Option<Database>,
    loaded: Loaded,
}

impl Disk {
    /// Open the file, or make it.
    pub(super) fn open(path: PathBuf, read_only: bool) -> Result<Self, StorageError> {
        let mut disk = Self { path, read_only, database: None, loaded: Loaded::default() };
        disk.opened()?;
        Ok(disk)
    }

    /// The file, with every page of it checked when it had to be opened.
    fn opened(&mut self) -> Result<&Database, StorageError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open(&self.path, self.read_only)?,
        };
        Ok(self.database.insert(database))
    }

    /// How many calls the log has.
    pub(super) fn logged_calls(&self) -> u64 {
        self.loaded.calls
    }

    /// Whether the log has become longer than that, and than twice as many calls as there are threads.
    pub(super) fn checkpoint_is_due(&self, after: u64) -> bool {
        self.loaded.calls >= after.max(2 * self.loaded.threads)
    }

    pub(super) fn write(&mut self, batch: &Batch) -> Result<(), StorageError> {
        if batch.is_empty() {
            return Ok(());
        }
        let row = self.loaded.next_row;
        self.transact(|transaction| {
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
        self.loaded.next_row += 1;
        self.loaded.calls += batch.calls;
        Ok(())
    }

    /// Replace states and log.
    pub(super) fn replace(&mut self, checkpoint: &Checkpoint) -> Result<(), StorageError> {
        self.transact(|transaction| {
            transaction.delete_table(STATES)?;
            transaction.delete_table(LOG)?;
            transaction.open_table(LOG)?;
            let mut states = transaction.open_table(STATES)?;
            for (number, page) in (0..).zip(&checkpoint.pages) {
                states.insert(number, page.as_slice())?;
            }
            transaction.open_table(META)?.insert("settings", checkpoint.settings.as_slice())?;
            Ok(())
        })?;
        (self.loaded.threads, self.loaded.calls) = (checkpoint.threads, 0);
        Ok(())
    }

    /// Write to the file, all or nothing. redb may panic on a file that was damaged while it was open.
    /// Whatever goes wrong, the file is closed, to be checked before it is used again.
    fn transact(
        &mut self,
        write: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StorageError> {
        self.opened()?;
        let Some(database) = self.database.take() else { return Err(self.io(&"closed")) };
        let transact = || -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            write(&transaction)?;
            Ok(transaction.commit()?)
        };
        let result = panic::catch_unwind(AssertUnwindSafe(transact))
            .map_err(|_| self.io(&"the database code panicked"))?;
        result.map_err(|error| self.io(&error))?;
        self.database = Some(database);
        Ok(())
    }

    /// Bring a fresh instance to where the file is. Tells which calls were in flight then.
    pub(super) fn load_into(&mut self, instance: &mut Instance) -> Result<InFlight, StorageError> {
        self.opened()?;
        let Some(database) = &self.database else { return Err(self.io(&"closed")) };
        self.loaded = instance.with_allowances(|instance| Loaded::from(database, &self.path, instance))?;
        Ok(mem::take(&mut self.loaded.in_flight))
    }

    /// What is noted under that key.
    pub(super) fn note(&mut self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let database = self.opened()?;
        let read = || -> Result<_, redb::Error> {
            match database.begin_read()?.open_table(NOTES) {
                Ok(notes) => Ok(notes.get(key)?.map(|value| value.value().to_vec())),
                Err(TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        read().map_err(|error| self.io(&error))
    }

    fn io(&self, reason: &dyn Display) -> StorageError {
        io(&self.path, reason)
    }
}

pub(super) fn io(path: &Path, reason: &dyn Display) -> StorageError {
    StorageError::Io { path: path.into(), reason: reason.to_string().into() }
}

fn open(path: &Path, read_only: bool) -> Result<Database, StorageError> {
    let corrupt =
        |reason: &dyn Display| StorageError::Corrupt { path: path.into(), reason: reason.to_string().into() };
    // redb would make a database of it.
    if path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0) {
        return Err(corrupt(&"the file is empty"));
    }
    let mut builder = Database::builder();
    builder.set_check_integrity_on_open(true);
    let opened = if read_only {
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
    if found == DATABASE_FORMAT {
        Ok(database)
    } else {
        Err(StorageError::Format { path: path.into(), found })
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
