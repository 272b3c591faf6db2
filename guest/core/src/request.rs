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
    hold: Cell<Option<Hold>>,
    /// The mark: what was charged already.
    charged: Cell<Option<Tokens>>,
    /// When each was made: numbers that grow.
    held_since: Cell<u64>,
    marked_since: Cell<u64>,
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
    /// A request of that thread or, where `made_for` names one that is gone, of that. It has neither hold
    /// nor mark yet.
    pub(crate) fn new(at: &ThreadBudget, made_for: Option<&str>, request_id: &str) -> Rc<Self> {
        let thread_id = made_for.unwrap_or(at.thread_id());
        let mut ids = String::with_capacity(thread_id.len() + request_id.len());
        ids.push_str(thread_id);
        ids.push_str(request_id);
        let request = Rc::new(Self {
            ids: ids.into(),
            thread_id_len: thread_id.len(),
            hold: Cell::new(None),
            charged: Cell::new(None),
            held_since: Cell::new(0),
            marked_since: Cell::new(0),
            at: RefCell::new(at.clone()),
            moved: Cell::new(made_for.is_some()),
            next: RefCell::default(),
            previous: RefCell::default(),
        });
        if request.is_moved() {
            at.moved_here(false).push(&request);
        }
        request
    }

    pub(crate) fn thread_id(&self) -> &str {
        self.ids.get(..self.thread_id_len).unwrap_or_default()
    }

    pub(crate) fn request_id(&self) -> &str {
        self.ids.get(self.thread_id_len..).unwrap_or_default()
    }

    pub(crate) fn held_since(&self) -> Option<u64> {
        self.hold().map(|_| self.held_since.get())
    }

    pub(crate) fn marked_since(&self) -> Option<u64> {
        self.charged().map(|_| self.marked_since.get())
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

    /// Hold this, for the first time now, or instead of what was held.
    pub(crate) fn hold_since(&self, hold: Hold, now: u64) {
        if self.hold().is_none() {
            self.held_since.set(now);
        }
        self.set_hold(Some(hold));
    }

    /// Hold nothing.
    pub(crate) fn release(&self) {
        self.set_hold(None);
    }

    /// Nothing else changes what a thread and its ancestors hold, but for the end of a thread.
    fn set_hold(&self, hold: Option<Hold>) {
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

    /// Leave a mark where there is none.
    pub(crate) fn mark_since(self: &Rc<Self>, charged: Tokens, now: u64) {
        self.set_charged(Some(charged));
        self.marked_since.set(now);
    }

    /// Count in an ancestor of the thread that it has left.
    pub(crate) fn move_to(self: &Rc<Self>, ancestor: &ThreadBudget) {
        ancestor.moved_here(self.charged().is_some()).push(self);
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

    pub(crate) fn for_each(&self, do_it: &mut dyn FnMut(&Rc<Request>)) {
        let mut next = self.0.borrow().upgrade();
        while let Some(request) = next {
            do_it(&request);
            next = request.next.borrow().upgrade();
        }
    }
}
