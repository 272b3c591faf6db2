//! Clients whose requests name no thread, so that no budget applies to them: the operator is told once of each.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many are told apart, and how much of a name is told, in bytes. Others are one more.
const MOST: usize = 64;
const LONGEST_NAME: usize = 200;
const OTHERS: &str = "others";

const REQUESTS: &str = "thread_budget.unidentified_requests";

/// All of them. Cheap to clone.
#[derive(Clone, Default)]
pub struct UnidentifiedClients(Arc<Mutex<BTreeMap<String, u64>>>);

/// A client, and how many of its requests named no thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnidentifiedClient {
    /// What it calls itself in `user-agent`; `others` for those beyond the first 64.
    pub client: String,
    /// Its requests since the router has started.
    pub requests: u64,
}

impl UnidentifiedClients {
    /// None so far.
    pub(super) fn new() -> Self {
        metrics::describe_counter!(
            REQUESTS,
            metrics::Unit::Count,
            "Requests that named no thread, so that no budget applied, by client"
        );
        Self::default()
    }

    /// Count a request, and return the client's name if this is its first.
    pub fn count(&self, client: &str) -> Option<String> {
        let client = client[..client.floor_char_boundary(LONGEST_NAME)].replace(char::is_control, "\u{fffd}");
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = all.len() < MOST || all.contains_key(&client);
        let name = if has_room { client } else { OTHERS.to_owned() };
        let requests = all.entry(name.clone()).or_default();
        *requests += 1;
        let is_first = *requests == 1;
        drop(all);
        metrics::counter!(REQUESTS, "client" => name.clone()).increment(1);
        is_first.then_some(name)
    }

    /// Those so far, by name.
    pub(super) fn clients(&self) -> Vec<UnidentifiedClient> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .map(|(client, &requests)| UnidentifiedClient { client: client.clone(), requests })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_is_told_of_once_and_many_are_one() {
        let unidentified = UnidentifiedClients::default();
        assert_eq!(unidentified.count("curl\n").as_deref(), Some("curl\u{fffd}"));
        assert_eq!(unidentified.count("curl\n"), None);
        assert_eq!(unidentified.count(&"x".repeat(1_000)).map(|name| name.len()), Some(LONGEST_NAME));
        let told = (0..1_000).filter_map(|number| unidentified.count(&number.to_string()));
        assert_eq!(told.filter(|name| name == OTHERS).count(), 1);
        let clients = unidentified.clients();
        assert_eq!(clients.len(), MOST + 1);
        assert_eq!(clients.iter().map(|client| client.requests).sum::<u64>(), 1_003);
    }
}
