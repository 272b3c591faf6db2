//! Bytes as what a database holds, or as the file itself.

use redb::{Database, Error, TableDefinition};
use std::fs;
use std::path::Path;
use thread_budget_host::{CallError, DATABASE_FORMAT, LoadError, Registry};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const STATES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("states");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

pub(super) fn check(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let path = folder.path().join("file.redb");
    match bytes.split_first() {
        // A checksum guards every page of a file, so what gets past it is written with one.
        Some((first, content)) if first % 8 > 0 => {
            make(&path, *first, content).unwrap_or_else(|error| panic!("{error}"));
        }
        _ => fs::write(&path, bytes).unwrap_or_else(|error| panic!("{error}")),
    }
    let before = fs::read(&path).unwrap_or_else(|error| panic!("{error}"));
    match Registry::builder().database(&path).max_memory_bytes(4 << 20).build() {
        Ok(registry) => {
            let registry = registry.blocking();
            registry.get_all_usage().unwrap_or_else(|error| panic!("{error}"));
            let counted = registry.consume("still counts", 1, 1);
            assert!(matches!(counted, Ok(_) | Err(CallError::TooManyThreads { .. })), "{counted:?}");
        }
        Err(LoadError::Storage(_)) => {
            let after = fs::read(&path).unwrap_or_else(|error| panic!("{error}"));
            assert!(after.len() >= before.len(), "it is kept");
        }
        Err(error) => panic!("{error}"),
    }
}

/// A sound file of which the first byte says which of the tables holds the rest.
fn make(path: &Path, first: u8, content: &[u8]) -> Result<(), Error> {
    let database = Database::create(path)?;
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", DATABASE_FORMAT.as_bytes())?;
        let mut states = transaction.open_table(STATES)?;
        let mut log = transaction.open_table(LOG)?;
        match first % 8 {
            1 => _ = meta.insert("settings", content)?,
            2..=4 => _ = states.insert(0, content)?,
            _ => _ = log.insert(0, content)?,
        }
    }
    transaction.commit()?;
    Ok(())
}
