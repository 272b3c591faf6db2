//! Idempotency keys: which of them exchanges have now, and for which body each was claimed.

use super::policy::contract::KeyConflict;
use sha2::{Digest, Sha256};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many are remembered, the latest; more than there can be exchanges.
const MOST: usize = 1 << 16;

/// How long.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

type Hash = [u8; 32];

/// All of them. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Keys(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    known: HashMap<Hash, Known>,
    /// In the order in which they were first claimed.
    order: VecDeque<(Hash, Instant)>,
}

struct Known {
    body: Hash,
    is_in_flight: bool,
}

/// An exchange has a key, until this is dropped.
pub(super) struct Claim {
    keys: Keys,
    key: Hash,
}

impl Keys {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claim a key for a request with that body.
    pub(super) fn claim(&self, key: &str, body: &[u8], now: Instant) -> Result<Claim, KeyConflict> {
        let (key, body): (Hash, Hash) = (Sha256::digest(key).into(), Sha256::digest(body).into());
        let mut table = self.table();
        table.forget(now);
        match table.known.entry(key) {
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                if known.body != body {
                    return Err(KeyConflict::OtherBody);
                }
                if known.is_in_flight {
                    return Err(KeyConflict::InFlight);
                }
                known.is_in_flight = true;
            }
            Entry::Vacant(entry) => {
                entry.insert(Known { body, is_in_flight: true });
                table.order.push_back((key, now));
            }
        }
        drop(table);
        Ok(Claim { keys: self.clone(), key })
    }
}

impl Table {
    /// Forget those that are old, and the oldest of too many, but none that is in flight.
    fn forget(&mut self, now: Instant) {
        for _ in 0..self.order.len() {
            let Some(&(key, since)) = self.order.front() else { return };
            if self.order.len() < MOST && now.saturating_duration_since(since) < LIFETIME {
                return;
            }
            self.order.pop_front();
            if self.known.get(&key).is_some_and(|known| known.is_in_flight) {
                self.order.push_back((key, now));
            } else {
                self.known.remove(&key);
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(known) = self.keys.table().known.get_mut(&self.key) {
            known.is_in_flight = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflict(claimed: Result<Claim, KeyConflict>) -> Option<KeyConflict> {
        claimed.err()
    }

    #[test]
    fn a_key_is_in_one_exchange_at_a_time_and_of_one_body() {
        let (keys, now) = (Keys::default(), Instant::now());
        let claim = keys.claim("a", b"1", now).ok();
        assert!(claim.is_some());
        assert!(matches!(conflict(keys.claim("a", b"1", now)), Some(KeyConflict::InFlight)));
        assert!(matches!(conflict(keys.claim("a", b"2", now)), Some(KeyConflict::OtherBody)));
        assert!(keys.claim("b", b"2", now).is_ok());
        drop(claim);
        assert!(keys.claim("a", b"1", now).is_ok());
        assert!(matches!(conflict(keys.claim("a", b"2", now)), Some(KeyConflict::OtherBody)));
    }

    #[test]
    fn a_key_is_forgotten_after_a_day_unless_it_is_in_flight() {
        let (keys, now) = (Keys::default(), Instant::now());
        drop(keys.claim("a", b"1", now));
        let later = now + LIFETIME;
        let claim = keys.claim("a", b"2", later).ok();
        assert!(claim.is_some());
        assert!(matches!(conflict(keys.claim("a", b"2", later + LIFETIME)), Some(KeyConflict::InFlight)));
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let (keys, now) = (Keys::default(), Instant::now());
        let first = keys.claim("in flight", b"", now).ok();
        for number in 0..2 * MOST {
            drop(keys.claim(&number.to_string(), b"", now));
        }
        assert!(first.is_some());
        assert!(matches!(conflict(keys.claim("in flight", b"", now)), Some(KeyConflict::InFlight)));
        let table = keys.table();
        assert!(table.known.len() <= MOST, "{}", table.known.len());
        assert_eq!(table.known.len(), table.order.len());
    }
}
