//! Holds that stay when their exchange is over, since their provider goes on with the response in the background:
//! another exchange may settle one, or else it is charged as it is when its time is over.

use super::debts::{Debt, Debts, End};
use super::policy::contract::Kept;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most that stay at a time, and the longest name of one, in bytes. One more is charged at once.
const MOST: usize = 1 << 14;
const LONGEST_NAME: usize = 256;

/// How often those are looked for whose time is over.
const PACE: Duration = Duration::from_secs(1);

/// All of them, by the provider's names of the responses. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Stays(Arc<Mutex<HashMap<String, Stay>>>);

struct Stay {
    kept: Kept,
    until: Instant,
}

impl Stay {
    /// The charge of what is held.
    fn debt(self) -> Debt {
        let Kept { hold, prompt_tokens, completion_tokens, .. } = self.kept;
        let end = End::Settle { prompt_tokens, completion_tokens, remember: false };
        Debt { thread_id: hold.thread_id, request_id: hold.request_id, end }
    }
}

impl Stays {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Stay>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more. Where it cannot stay, or another of its name cannot, that is owed.
    pub(super) fn add(&self, kept: Kept, now: Instant, debts: &Debts) {
        let until = now.checked_add(Duration::from_millis(kept.for_ms));
        let name = kept.name.clone();
        let stay = Stay { kept, until: until.unwrap_or(now) };
        let mut all = self.all();
        let has_room = name.len() <= LONGEST_NAME && (all.len() < MOST || all.contains_key(&name));
        let owed = if has_room { all.insert(name, stay) } else { Some(stay) };
        drop(all);
        owed.into_iter().for_each(|stay| debts.add(stay.debt()));
    }

    pub(super) fn find(&self, name: &str) -> Option<Kept> {
        self.all().get(name).map(|stay| stay.kept.clone())
    }

    /// Another exchange has ended that hold.
    pub(super) fn remove(&self, kept: &Kept) {
        let mut all = self.all();
        if all.get(&kept.name).is_some_and(|stay| stay.kept.hold.request_id == kept.hold.request_id) {
            all.remove(&kept.name);
        }
    }

    /// Charge each when its time is over.
    pub(super) async fn watch(self, debts: Debts) {
        loop {
            tokio::time::sleep(PACE).await;
            self.charge(&debts, |until| until <= Instant::now());
        }
    }

    /// Charge all: nobody can settle them any more.
    pub(super) fn charge_all(&self, debts: &Debts) {
        self.charge(debts, |_| true);
    }

    fn charge(&self, debts: &Debts, is_over: impl Fn(Instant) -> bool) {
        let over: Vec<Stay> =
            self.all().extract_if(|_, stay| is_over(stay.until)).map(|(_, stay)| stay).collect();
        over.into_iter().for_each(|stay| debts.add(stay.debt()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::contract::HoldName;
    use super::*;

    fn kept(name: &str, request_id: &str) -> Kept {
        Kept {
            name: name.into(),
            hold: HoldName { thread_id: "t".into(), request_id: request_id.into() },
            upstream: 0,
            model: "m".into(),
            prompt_tokens: 10,
            completion_tokens: 20,
            for_ms: 1_000,
        }
    }

    #[test]
    fn a_hold_is_charged_once_its_time_is_over_unless_it_was_settled() {
        let (stays, debts, now) = (Stays::default(), Debts::default(), Instant::now());
        for name in ["a", "b"] {
            stays.add(kept(name, name), now, &debts);
        }
        let known = stays.find("a");
        assert!(known.is_some());
        known.iter().for_each(|kept| stays.remove(kept));
        assert!(stays.find("a").is_none());
        stays.charge(&debts, |until| until <= now);
        assert_eq!(debts.all(), []);
        stays.charge(&debts, |until| until <= now + Duration::from_secs(1));
        let end = End::Settle { prompt_tokens: 10, completion_tokens: 20, remember: false };
        assert_eq!(debts.all(), [Debt { thread_id: "t".into(), request_id: "b".into(), end }]);
    }

    #[test]
    fn what_cannot_stay_is_charged() {
        let (stays, debts, now) = (Stays::default(), Debts::default(), Instant::now());
        stays.add(kept("a", "first"), now, &debts);
        stays.add(kept("a", "second"), now, &debts);
        stays.add(kept(&"n".repeat(LONGEST_NAME + 1), "long"), now, &debts);
        for number in 0..MOST {
            stays.add(kept(&number.to_string(), &number.to_string()), now, &debts);
        }
        let owed: Vec<_> = debts.all().into_iter().map(|debt| debt.request_id).collect();
        assert_eq!(owed, ["first", "long", &(MOST - 1).to_string()]);
        // The first of that name was not the one that an exchange has settled.
        stays.remove(&kept("a", "first"));
        assert!(stays.find("a").is_some());
    }
}
