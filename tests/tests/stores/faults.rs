//! A store that is out of reach, or says less than it knows.

use super::{build, builder, memory, registry, terms, used};
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};
use thread_budget_host::CallError;
use thread_budget_host::blocking::Registry;
use thread_budget_host::store::{
    Commit, Committed, Confirmed, Cursor, Page, Settings, SettingsSet, Store, StoreError, Tree, Version,
    Wrote,
};

/// What becomes of a commit on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Way {
    /// It arrives, and so does the answer.
    Fine,
    /// It is lost.
    Lost,
    /// It arrives, and the answer is lost.
    Unanswered,
    /// The same, and the client says that it did not arrive.
    TakenForLost,
    /// It is written whatever version the tree has.
    Unchecked,
}

/// A store behind a bad line.
pub(super) struct Line {
    store: Arc<dyn Store>,
    is_cut: AtomicBool,
    is_deaf: AtomicBool,
    way: Mutex<Box<dyn FnMut() -> Way + Send>>,
}

impl Line {
    pub(super) fn new(way: impl FnMut() -> Way + Send + 'static) -> Arc<Self> {
        let way: Mutex<Box<dyn FnMut() -> Way + Send>> = Mutex::new(Box::new(way));
        Arc::new(Self { store: memory(), is_cut: false.into(), is_deaf: false.into(), way })
    }

    fn error(wrote: Wrote) -> StoreError {
        StoreError::Unavailable { store: "line".into(), reason: "it is cut".into(), wrote }
    }

    fn pass(&self) -> Result<&dyn Store, StoreError> {
        if self.is_cut.load(SeqCst) { Err(Self::error(Wrote::Nothing)) } else { Ok(&*self.store) }
    }
}

#[async_trait]
impl Store for Line {
    async fn load(&self, thread_id: &str) -> Result<Option<Tree>, StoreError> {
        self.pass()?.load(thread_id).await
    }

    async fn commit(&self, mut commit: Commit) -> Result<Committed, StoreError> {
        let store = self.pass()?;
        let way = (self.way.lock().expect("no panic"))();
        match way {
            Way::Fine => store.commit(commit).await,
            Way::Lost => Err(Self::error(Wrote::Perhaps)),
            Way::Unanswered => store.commit(commit).await.and(Err(Self::error(Wrote::Perhaps))),
            Way::TakenForLost => store.commit(commit).await.and(Err(Self::error(Wrote::Nothing))),
            Way::Unchecked => {
                commit.expected = store.load(&commit.root).await?.map(|tree| tree.version);
                store.commit(commit).await
            }
        }
    }

    async fn confirm(&self, root: &str, version: Option<Version>) -> Result<Confirmed, StoreError> {
        self.pass()?.confirm(root, version).await
    }

    async fn page(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        self.pass()?.page(after, limit).await
    }

    async fn settings(&self) -> Result<Option<Settings>, StoreError> {
        self.pass()?.settings().await
    }

    async fn set_settings(&self, expected: Option<u64>, bytes: Vec<u8>) -> Result<SettingsSet, StoreError> {
        self.pass()?.set_settings(expected, bytes).await
    }

    async fn join(&self, incarnation: u64, ttl: Duration) -> Result<(), StoreError> {
        self.pass()?.join(incarnation, ttl).await
    }

    async fn refresh(&self, incarnation: u64, ttl: Duration) -> Result<bool, StoreError> {
        if self.is_deaf.load(SeqCst) {
            return Err(Self::error(Wrote::Nothing));
        }
        self.pass()?.refresh(incarnation, ttl).await
    }

    async fn alive(&self, incarnations: &[u64]) -> Result<Vec<bool>, StoreError> {
        self.pass()?.alive(incarnations).await
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        self.pass()?.sweep().await
    }
}

fn fine() -> Arc<Line> {
    Line::new(|| Way::Fine)
}

fn at(line: &Arc<Line>) -> Arc<dyn Store> {
    line.clone()
}

fn is_temporary(result: Result<(), CallError>) -> bool {
    matches!(result, Err(CallError::Store(error)) if error.is_temporary())
}

/// Ask until it is so.
fn soon(is_so: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        if is_so() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

#[test]
fn out_of_reach_and_back() {
    let line = fine();
    let a = registry(&at(&line));
    a.consume("t", 1, 0).expect("it is recorded");
    line.is_cut.store(true, SeqCst);
    let started = Instant::now();
    assert!(is_temporary(a.consume("t", 1, 0).map(drop)));
    assert!(is_temporary(a.set_hold("t", "r", &terms(&a, 1, 1)).map(drop)));
    assert!(is_temporary(a.get_usage("t").map(drop)), "what is cached is not an answer");
    assert!(is_temporary(a.answers()));
    assert!(started.elapsed() < Duration::from_secs(2));
    line.is_cut.store(false, SeqCst);
    a.consume("t", 1, 0).expect("it is recorded");
    assert_eq!(used(&a, "t"), (2, 0));
}

#[test]
fn what_a_guard_could_not_say_is_said_later_and_meanwhile_nothing_is_let_in() {
    let line = fine();
    let a = registry(&at(&line));
    let mut hold = a.hold("t", 100, 200, 200).expect("it fits");
    hold.sent();
    line.is_cut.store(true, SeqCst);
    assert!(is_temporary(hold.settle(90, 50).map(drop)), "the guard goes, and leaves it to be done");
    thread::sleep(Duration::from_millis(50));
    line.is_cut.store(false, SeqCst);
    assert!(is_temporary(a.check_budget("t", 1)), "it has yet to be told what was used");
    a.consume("other", 1, 0).expect("what was used is always recorded");
    assert!(soon(|| a.check_budget("t", 1).is_ok()));
    assert_eq!((used(&a, "t"), a.held_tokens("t")), ((90, 50), Ok(0)));
}

#[test]
fn a_host_of_which_nobody_hears_lets_nothing_in() {
    let line = fine();
    let store = at(&line);
    let a = build(builder(&store).time_to_live(Duration::from_millis(150)));
    let holder = a.holder();
    a.check_budget("t", 1).expect("it fits");
    line.is_deaf.store(true, SeqCst);
    assert!(soon(|| is_temporary(a.check_budget("t", 1))));
    a.consume("t", 1, 0).expect("what was used is recorded");
    line.is_deaf.store(false, SeqCst);
    assert!(soon(|| a.check_budget("t", 1).is_ok()));
    assert_ne!(a.holder(), holder, "the store took it for dead");
}

/// Every other commit goes that way.
fn every_other(way: Way) -> Registry {
    let mut count = 0;
    let line = Line::new(move || {
        count += 1;
        if count % 2 == 0 { way } else { Way::Fine }
    });
    registry(&at(&line))
}

#[test]
fn an_unknown_outcome_is_found_out() {
    for way in [Way::Lost, Way::Unanswered] {
        let a = every_other(way);
        for n in 1..=10 {
            assert_eq!(a.consume("t", 1, 0).map(|consumed| consumed.usage.total_tokens), Ok(n), "{way:?}");
        }
        assert_eq!(used(&a, "t"), (10, 0));
    }
}
