//! A file on its way into an instance: the states of its last checkpoint, then the calls since.

use super::disk::{LOG, META, STATES, Settings, io};
use super::in_flight::InFlight;
use crate::calls::{
    Call, Configure, Operation, Release, SetMaxThreads, SetNextBirth, SetThresholds, Settle, SettleLost,
};
use crate::error::{CallError, StorageError};
use crate::instance::Instance;
use crate::states::restore_all;
use crate::types::ThreadState;
use redb::{Database, ReadableDatabase, ReadableTable};
use serde::Deserialize;
use std::path::Path;

/// What was found.
#[derive(Default)]
pub(super) struct Loaded {
    /// Threads of the last checkpoint.
    pub(super) threads: u64,
    /// Calls since.
    pub(super) calls: u64,
    /// Where the log goes on.
    pub(super) next_row: u64,
    pub(super) in_flight: InFlight,
}

impl Loaded {
    /// Bring a fresh instance to where the file is.
    pub(super) fn from(
        database: &Database,
        path: &Path,
        instance: &mut Instance,
    ) -> Result<Self, StorageError> {
        let mut loaded = Self::default();
        let read = |error: redb::Error| io(path, &error);
        let unrestorable = |error: CallError| StorageError::Unrestorable {
            path: path.into(),
            reason: error.to_string().into(),
        };
        let transaction = database.begin_read().map_err(|error| read(error.into()))?;
        let meta = transaction.open_table(META).map_err(|error| read(error.into()))?;
        let settings = meta.get("settings").map_err(|error| read(error.into()))?;
        let settings = settings.map(|settings| decode(path, settings.value()).map(|(settings, _)| settings));
        let settings: Option<Settings> = settings.transpose()?;
        if let Some(settings) = &settings {
            apply_before_states(settings, instance).map_err(unrestorable)?;
        }
        let states = transaction.open_table(STATES).map_err(|error| read(error.into()))?;
        for page in states.iter().map_err(|error| read(error.into()))? {
            let (_, page) = page.map_err(|error| read(error.into()))?;
            let (threads, _): (Vec<ThreadState>, _) = decode(path, page.value())?;
            loaded.threads += threads.len() as u64;
            threads.iter().for_each(|thread| loaded.in_flight.add(thread));
            restore_all(instance, threads).map_err(unrestorable)?;
        }
        if let Some(settings) = &settings {
            apply_after_states(settings, instance).map_err(unrestorable)?;
        }
        let log = transaction.open_table(LOG).map_err(|error| read(error.into()))?;
        for row in log.iter().map_err(|error| read(error.into()))? {
            let (number, row) = row.map_err(|error| read(error.into()))?;
            loaded.next_row = number.value() + 1;
            let mut rest = row.value();
            while !rest.is_empty() {
                let (operation, after): (Operation<'_>, _) = decode(path, rest)?;
                rest = after;
                loaded.calls += operation.records();
                loaded.replay(&operation, instance).map_err(unrestorable)?;
            }
        }
        Ok(loaded)
    }

    fn replay(&mut self, operation: &Operation<'_>, instance: &mut Instance) -> Result<(), CallError> {
        match operation {
            Operation::SetHold(call) => {
                let held = call.apply(instance)?;
                self.in_flight.set(call, held.completion_tokens);
                return Ok(());
            }
            Operation::Settle(Settle { thread_id, request_id, .. })
            | Operation::SettleLost(SettleLost { thread_id, request_id, .. })
            | Operation::Release(Release { thread_id, request_id }) => {
                self.in_flight.end(thread_id, request_id);
            }
            _ => {}
        }
        operation.replay(instance)
    }
}

fn apply_before_states(settings: &Settings, instance: &mut Instance) -> Result<(), CallError> {
    Configure { max_tokens_per_thread: settings.max_tokens_per_thread }.apply(instance)?;
    SetThresholds { thresholds: settings.thresholds.as_slice().into() }.apply(instance)
}

/// There may be more threads than a limit that was lowered lets come back.
fn apply_after_states(settings: &Settings, instance: &mut Instance) -> Result<(), CallError> {
    SetMaxThreads { max_threads: settings.max_threads }.apply(instance)?;
    SetNextBirth { birth: settings.next_birth }.apply(instance)
}

fn decode<'b, T: Deserialize<'b>>(path: &Path, bytes: &'b [u8]) -> Result<(T, &'b [u8]), StorageError> {
    postcard::take_from_bytes(bytes).map_err(|error| StorageError::Corrupt {
        path: path.into(),
        reason: format!("a record cannot be read: {error}").into(),
    })
}
