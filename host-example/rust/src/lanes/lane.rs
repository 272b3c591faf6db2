//! One tree as this host has it: what of it the instance has, what of that is not in the store yet, and who waits
//! for it.

use crate::error::CallError;
use crate::outcome::Outcome;
use crate::store::{Commit, Row, Tree, Version, Writer};
use crate::types::ThreadState;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A thread's id.
pub(super) type Id = Arc<str>;

/// What becomes of a round, and of all answers that it is to confirm.
#[derive(Clone)]
pub(super) enum Told {
    /// They stand.
    Done,
    /// The tree was not as they took it to be, and nothing was written: ask again.
    Again,
    /// The store could not be asked.
    Failed(CallError),
}

pub(super) type Telling = Arc<Outcome<Told>>;

/// How long a host that won goes second, after one that lost.
const CONTENDED: Duration = Duration::from_secs(1);

/// A tree.
pub(super) struct Lane {
    /// What the store has, and the rows here are based on; none when there is no such tree.
    version: Option<Version>,
    /// When it was read, see `Cache::tick`.
    loaded: u64,
    /// When it was used last.
    pub(super) used: u64,
    /// The threads that the instance has of it.
    threads: HashMap<Id, Thread>,
    /// Ids of threads that are gone and whose requests are open in the tree: they lead here. Each has a row
    /// without a state.
    ghosts: BTreeSet<Id>,
    /// The ids that have a row in the store, what is on its way there included.
    stored: HashSet<Id>,
    /// What is to be written next.
    next: Round,
    /// What is being written.
    in_flight: Option<Telling>,
    /// Told when the tree is read anew; until then nobody goes on with it.
    pub(super) reloading: Option<Telling>,
    /// The instance no longer has it as it should be.
    pub(super) is_adrift: bool,
    /// A task sends what there is.
    pub(super) is_sending: bool,
    /// When another host was faster last.
    lost_at: Option<Instant>,
    /// The earliest deadline of a hold of others.
    overdue_at: u64,
    /// Hosts that wrote it and are no more.
    forgotten: Vec<u64>,
}

/// What is known of a thread in the instance.
struct Thread {
    birth: u64,
    has_parent: bool,
    has_holds: bool,
    /// Whose requests it took over.
    made_for: Vec<Id>,
}

/// What goes to the store together.
#[derive(Default)]
struct Round {
    /// Rows by thread; none of those that are gone.
    rows: BTreeMap<Id, Option<Vec<u8>>>,
    /// Whether somebody waits, if only to hear that the version still is what it was.
    is_wanted: bool,
    telling: Telling,
}

/// What to ask the store.
pub(super) enum Work {
    Commit(Commit),
    Confirm(Option<Version>),
}

/// Ids that lead to the tree from now on, and those that no longer do.
#[derive(Default)]
pub(super) struct Moves {
    pub(super) here: Vec<Id>,
    pub(super) away: Vec<Id>,
}

impl Lane {
    /// A tree that the store has, or none. `states` are those of its rows, `loaded` and `used` the time.
    pub(super) fn new(tree: Option<&Tree>, states: &[ThreadState], now: u64) -> Self {
        let mut lane = Self {
            version: tree.map(|tree| tree.version),
            loaded: now,
            used: now,
            threads: HashMap::new(),
            ghosts: BTreeSet::new(),
            stored: tree
                .map(|tree| tree.rows.iter().map(|row| row.thread_id.as_str().into()).collect())
                .unwrap_or_default(),
            next: Round::default(),
            in_flight: None,
            reloading: None,
            is_adrift: false,
            is_sending: false,
            lost_at: None,
            overdue_at: u64::MAX,
            forgotten: Vec::new(),
        };
        for state in states {
            lane.threads.insert(state.thread_id.as_str().into(), Thread::of(state));
        }
        lane.ghosts = lane.stored.iter().filter(|id| !lane.threads.contains_key(*id)).cloned().collect();
        lane
    }

    /// The same in the place of one that was overtaken.
    pub(super) fn reloaded(self, before: &Self) -> Self {
        Self { is_sending: before.is_sending, lost_at: before.lost_at, used: before.used, ..self }
    }

    pub(super) fn mind(&mut self, overdue_at: u64, forgotten: Vec<u64>) {
        (self.overdue_at, self.forgotten) = (overdue_at, forgotten);
    }

    /// Every id that leads here, but the root's.
    pub(super) fn ids(&self) -> impl Iterator<Item = &Id> {
        self.threads.keys().chain(&self.ghosts)
    }

    /// The threads without a parent.
    pub(super) fn roots(&self) -> impl Iterator<Item = &Id> {
        self.threads.iter().filter(|(_, thread)| !thread.has_parent).map(|(id, _)| id)
    }

    pub(super) fn birth_of(&self, thread_id: &str) -> Option<u64> {
        self.threads.get(thread_id).map(|thread| thread.birth)
    }

    pub(super) fn has_ghost(&self, thread_id: &str) -> bool {
        self.ghosts.contains(thread_id)
    }

    /// Whether there is nothing to say of it, neither here nor in the store.
    pub(super) fn is_nothing(&self) -> bool {
        self.version.is_none() && self.threads.is_empty() && self.ghosts.is_empty() && self.is_quiet()
    }

    /// Whether all that the instance has of it is in the store, and nobody waits.
    pub(super) fn is_quiet(&self) -> bool {
        self.in_flight.is_none() && !self.next.is_wanted && self.reloading.is_none()
    }

    /// Whether it was read after that time, and is as it was read.
    pub(super) fn is_fresh(&self, since: u64) -> bool {
        self.loaded > since && self.is_quiet()
    }

    /// Whether a hold of others should have ended by now.
    pub(super) fn is_overdue(&self, now: u64) -> bool {
        self.overdue_at < now
    }

    /// Note what calls have changed.
    pub(super) fn note(&mut self, changed: Vec<(ThreadState, Vec<u8>)>, gone: Vec<String>) -> Moves {
        let mut moves = Moves::default();
        let had_ghosts = !self.ghosts.is_empty();
        // Of a thread that was reset, others have the requests already when it goes.
        let mut takes_over = !gone.is_empty();
        for id in gone {
            let id = Id::from(id);
            self.threads.remove(&id);
            self.next.rows.insert(id.clone(), None);
            moves.away.push(id);
        }
        for (state, row) in changed {
            let id = Id::from(state.thread_id.as_str());
            let thread = Thread::of(&state);
            takes_over |= !thread.made_for.is_empty();
            if self.threads.insert(id.clone(), thread).is_none() {
                moves.here.push(id.clone());
            }
            self.next.rows.insert(id, Some(row));
        }
        if had_ghosts || takes_over {
            self.note_ghosts(&mut moves);
        }
        self.next.is_wanted |= !self.next.rows.is_empty();
        moves
    }

    fn note_ghosts(&mut self, moves: &mut Moves) {
        let made_for = self.threads.values().flat_map(|thread| &thread.made_for);
        let now: BTreeSet<Id> = made_for.filter(|id| !self.threads.contains_key(*id)).cloned().collect();
        for laid in self.ghosts.difference(&now) {
            if !self.threads.contains_key(laid) {
                self.next.rows.insert(laid.clone(), None);
                moves.away.push(laid.clone());
            }
        }
        for risen in now.difference(&self.ghosts) {
            self.next.rows.insert(risen.clone(), Some(Vec::new()));
            moves.here.push(risen.clone());
        }
        moves.away.retain(|id| !now.contains(id));
        self.ghosts = now;
    }

    /// Wait for what becomes of the answers that were just given.
    pub(super) fn wait(&mut self) -> Telling {
        self.next.is_wanted = true;
        self.next.telling.clone()
    }

    /// What is told last of all that is under way.
    pub(super) fn last_telling(&self) -> Option<Telling> {
        if self.next.is_wanted { Some(self.next.telling.clone()) } else { self.in_flight.clone() }
    }

    /// Begin to send what there is.
    pub(super) fn take(&mut self, root: &str, writer: Writer) -> Option<(Work, Telling)> {
        if !self.next.is_wanted || self.in_flight.is_some() {
            return None;
        }
        let round = mem::take(&mut self.next);
        self.in_flight = Some(round.telling.clone());
        let (mut born, mut changed, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for (id, state) in round.rows {
            let is_stored = self.stored.contains(&id);
            let thread_id = id.to_string();
            match state {
                Some(state) if is_stored => changed.push(Row { thread_id, state }),
                Some(state) => {
                    self.stored.insert(id);
                    born.push(Row { thread_id, state });
                }
                None if is_stored => {
                    self.stored.remove(&id);
                    gone.push(thread_id);
                }
                // It came and went.
                None => {}
            }
        }
        if born.is_empty() && changed.is_empty() && gone.is_empty() {
            return Some((Work::Confirm(self.version), round.telling));
        }
        let commit = Commit {
            root: root.into(),
            expected: self.version,
            born,
            changed,
            gone,
            writer,
            forgotten: mem::take(&mut self.forgotten),
            keeps: self.threads.values().any(|thread| thread.has_holds),
        };
        Some((Work::Commit(commit), round.telling))
    }

    /// What was sent is in the store, under this version if it was a commit.
    pub(super) fn sent(&mut self, version: Option<Version>) {
        self.in_flight = None;
        self.version = version.or(self.version);
    }

    /// Another host was faster: nothing goes on until the tree is read anew. What is told to those who waited
    /// for the next round comes back.
    pub(super) fn overtaken(&mut self, telling: &Telling) -> Telling {
        self.lost_at = Some(Instant::now());
        self.reloading = Some(telling.clone());
        mem::take(&mut self.next).telling
    }

    /// Whether another host was faster of late, so that this one had better let others go first where it won.
    pub(super) fn is_contended(&self) -> bool {
        self.lost_at.is_some_and(|at| at.elapsed() < CONTENDED)
    }
}

impl Thread {
    fn of(state: &ThreadState) -> Self {
        let holds = state.holds.iter().filter_map(|hold| hold.made_for.as_deref());
        let marks = state.lost.iter().filter_map(|mark| mark.made_for.as_deref());
        Self {
            birth: state.birth,
            has_parent: state.parent.is_some(),
            has_holds: !state.holds.is_empty(),
            made_for: holds.chain(marks).map(Id::from).collect(),
        }
    }
}
