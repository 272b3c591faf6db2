//! A request that the registry still has to hear about: what is held for it, or was charged for it by
//! somebody else.

use crate::index::Named;
use crate::thread::ThreadBudget;
use crate::tokens::Tokens;
use alloc::boxed::Box;
use alloc::rc::{Rc, Weak};
use alloc::string::String;
use core::cell::{Cell, RefCell};

/// Tokens held for a request in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) tokens: Tokens,
    /// Who made it, and until when that answers for it. Nothing here reads them.
    pub(crate) holder: u64,
    pub(crate) deadline: u64,
}

/// It has a hold, a mark, or both. Whatever becomes of it allocates nothing, so that neither the end of a
/// hold nor the end of a thread can fail.
#[derive(Debug)]
pub(crate) struct Request {
    /// The id of the thread that it was made for, and its own.
    ids: Box<str>,
    thread_id_len: usize,
    /// When it was first held or, where it has a mark, when that was left: a number that grows.
    since: Cell<u64>,
    hold: Cell<Option<Hold>>,
    /// The mark: what was charged already.
    charged: Cell<Option<Tokens>>,
    /// Where it counts.
    at: RefCell<ThreadBudget>,
    /// Whether that is an ancestor of the thread that it was made for.
    moved: Cell<bool>,
    /// Its neighbours among those that moved to the same thread.
    next: RefCell<Weak<Self>>,
    previous: RefCell<Weak<Self>>,
}

impl Named<2> for Rc<Request> {
    fn name(&self) -> [&str; 2] {
        [self.thread_id(), self.request_id()]
    }
}

impl Request {
    /// A request of that thread, with neither hold nor mark yet.
    pub(crate) fn new(thread: &ThreadBudget, request_id: &str, since: u64) -> Rc<Self> {
        Self::made_for(thread.thread_id(), request_id, since, thread, false)
    }

    /// A request of a thread of that id that is gone.
    pub(crate) fn moved(thread_id: &str, request_id: &str, since: u64, at: &ThreadBudget) -> Rc<Self> {
        let request = Self::made_for(thread_id, request_id, since, at, true);
        at.moved_here(false).push(&request);
        request
    }

    fn made_for(thread_id: &str, request_id: &str, since: u64, at: &ThreadBudget, moved: bool) -> Rc<Self> {
        let mut ids = String::with_capacity(thread_id.len() + request_id.len());
        ids.push_str(thread_id);
        ids.push_str(request_id);
        Rc::new(Self {
            ids: ids.into(),
            thread_id_len: thread_id.len(),
            since: Cell::new(since),
            hold: Cell::new(None),
            charged: Cell::new(None),
            at: RefCell::new(at.clone()),
            moved: Cell::new(moved),
            next: RefCell::default(),
            previous: RefCell::default(),
        })
    }

    pub(crate) fn thread_id(&self) -> &str {
        &self.ids[..self.thread_id_len]
    }

    pub(crate) fn request_id(&self) -> &str {
        &self.ids[self.thread_id_len..]
    }

    pub(crate) fn since(&self) -> u64 {
        self.since.get()
    }

    pub(crate) fn at(&self) -> ThreadBudget {
        self.at.borrow().clone()
    }

    pub(crate) fn is_at(&self, thread: &ThreadBudget) -> bool {
        self.at.borrow().is(thread)
    }

    /// Whether the thread that it was made for is gone, and it counts in an ancestor.
    pub(crate) fn is_moved(&self) -> bool {
        self.moved.get()
    }

    pub(crate) fn hold(&self) -> Option<Hold> {
        self.hold.get()
    }

    /// What its hold counts for; 0 without one.
    pub(crate) fn held_tokens(&self) -> u64 {
        self.hold().map_or(0, |hold| hold.tokens.total())
    }

    pub(crate) fn charged(&self) -> Option<Tokens> {
        self.charged.get()
    }

    /// Hold this instead of what was held. Nothing else changes what a thread and its ancestors hold, but
    /// for the end of a thread.
    pub(crate) fn set_hold(&self, hold: Option<Hold>) {
        let (had, before) = (self.hold().is_some(), self.held_tokens());
        self.hold.set(hold);
        let at = self.at.borrow();
        at.replace_held(before, self.held_tokens());
        if !self.is_moved() {
            at.count_own_hold(had, hold.is_some());
        }
    }

    /// Leave a mark, with another charge than it has, or take it away.
    pub(crate) fn set_charged(self: &Rc<Self>, charged: Option<Tokens>) {
        if self.is_moved() {
            self.at.borrow().moved_here(self.charged().is_some()).remove(self);
            self.at.borrow().moved_here(charged.is_some()).push(self);
        }
        self.charged.set(charged);
    }

    /// Leave a mark where there was none.
    pub(crate) fn mark(self: &Rc<Self>, charged: Tokens, since: u64) {
        self.set_charged(Some(charged));
        self.since.set(since);
    }

    /// Count in an ancestor of the thread that has counted it until now and is about to go.
    pub(crate) fn move_to(self: &Rc<Self>, ancestor: &ThreadBudget) {
        let marked = self.charged().is_some();
        self.leave();
        ancestor.moved_here(marked).push(self);
        self.moved.set(true);
        self.at.replace(ancestor.clone());
    }

    /// Count no longer in the thread itself, which is about to go, but still in its ancestors.
    pub(crate) fn leave(&self) {
        let at = self.at.borrow();
        if self.is_moved() {
            at.moved_here(self.charged().is_some()).remove(self);
        } else {
            at.count_own_hold(self.hold().is_some(), false);
        }
        at.hand_over_held(self.held_tokens());
    }
}

/// Requests that moved to one thread, in no order. It keeps none of them alive.
#[derive(Debug, Default)]
pub(crate) struct Moved(RefCell<Weak<Request>>);

impl Moved {
    fn push(&self, request: &Rc<Request>) {
        let next = self.0.replace(Rc::downgrade(request));
        if let Some(next) = next.upgrade() {
            next.previous.replace(Rc::downgrade(request));
        }
        request.next.replace(next);
    }

    fn remove(&self, request: &Request) {
        let (next, previous) = (request.next.take(), request.previous.take());
        if let Some(next) = next.upgrade() {
            next.previous.replace(previous.clone());
        }
        match previous.upgrade() {
            Some(previous) => previous.next.replace(next),
            None => self.0.replace(next),
        };
    }

    pub(crate) fn first(&self) -> Option<Rc<Request>> {
        self.0.borrow().upgrade()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Rc<Request>> {
        core::iter::successors(self.first(), |request| request.next.borrow().upgrade())
    }
}
