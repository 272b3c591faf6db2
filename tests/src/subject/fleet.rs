//! Registries of several hosts that share a store and take turns.

use super::{Library, Subject};
use crate::call::{Call, Outcome};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use thread_budget_host::Registry;
use thread_budget_host::store::Store;

/// Registries that share a store.
pub struct Fleet {
    hosts: Vec<Library>,
    next: usize,
    /// Which of them made a handle.
    makers: HashMap<String, usize>,
}

impl Fleet {
    /// So many, with the settings that a registry has of itself.
    ///
    /// # Panics
    /// When one does not load.
    #[must_use]
    pub fn new(store: &Arc<dyn Store>, hosts: usize) -> Self {
        let host = |_| Library::of(Registry::builder().store_at(store.clone()));
        Self { hosts: (0..hosts).map(host).collect(), next: 0, makers: HashMap::new() }
    }

    /// Whether a registry with a store has the call: states are not restored into it.
    #[must_use]
    pub fn has(call: &Call) -> bool {
        Library::has(call) && call.name != "restore"
    }
}

impl Subject for Fleet {
    fn call(&mut self, call: &Call) -> Outcome {
        let host = match call.value("on").as_str() {
            Some(handle) => self.makers[handle],
            None => self.next,
        };
        if let Some(handle) = call.value("as").as_str() {
            self.makers.insert(handle.into(), host);
        }
        self.next = (self.next + 1) % self.hosts.len();
        let outcome = match &*call.name {
            // No host is the holder of the call, and none that would be dead by then.
            "hold" => self.hosts[host].call(&call.with("deadline", u64::MAX.into())),
            _ => self.hosts[host].call(call),
        };
        if ["configure", "set-thresholds", "set-max-threads"].contains(&&*call.name) {
            // The others would hear of it in a while; who asks hears of it now.
            for host in &mut self.hosts {
                let _ = host.call(&Call::new("thresholds", json!({})));
            }
        }
        outcome
    }
}
