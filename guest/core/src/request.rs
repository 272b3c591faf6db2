//! A request that the registry still has to hear about: what is held for it, or was charged for it by
//! somebody else.

use crate::cell::CloneCell;
use crate::index::Named;
use crate::thread::{ThreadBudget, WeakThread};
use crate::tokens::Tokens;
use alloc::boxed::Box;
use alloc::rc::{Rc, Weak};
use core::cell::{Cell, OnceCell};

/// Tokens held for a request in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) tokens: Tokens,
    /// Who made it, and until when that answers for it. Nothing here reads them.
    pub(crate) holder: u64,
    pub(crate) deadline: u64,
}

/// It has a hold, a mark, or both. What becomes of it allocates nothing, so that a hold's end cannot fail.
#[derive(Debug)]
pub(crate) struct Request {
    id: Box<str>,
    pub(crate) hold: Cell<Option<Hold>>,
    /// The mark: what was charged already.
    pub(crate) charged: Cell<Option<Tokens>>,
    /// When each was made: numbers that grow.
    pub(crate) held_since: Cell<u64>,
    pub(crate) marked_since: Cell<u64>,
    /// The thread that it was made for, when that is gone.
    made_for: OnceCell<ThreadBudget>,
    /// The ancestor where it counts then.
    at: CloneCell<WeakThread>,
    /// Its neighbours in a list.
    next: CloneCell<Option<Rc<Self>>>,
    previous: CloneCell<Weak<Self>>,
}

/// The name of one whose thread is gone. Others are found in their thread.
impl Named<2> for Rc<Request> {
    fn name(&self) -> [&str; 2] {
        [self.made_for().unwrap_or_default(), self.id()]
    }
}

impl Request {
    pub(crate) fn new(id: &str) -> Rc<Self> {
        Rc::new(Self {
            id: id.into(),
            hold: Cell::new(None),
            charged: Cell::new(None),
            held_since: Cell::new(0),
            marked_since: Cell::new(0),
            made_for: OnceCell::new(),
            at: CloneCell::default(),
            next: CloneCell::default(),
            previous: CloneCell::default(),
        })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The id of the thread that it was made for, when that is gone.
    pub(crate) fn made_for(&self) -> Option<&str> {
        self.made_for.get().map(ThreadBudget::thread_id)
    }

    pub(crate) fn is_moved(&self) -> bool {
        self.made_for.get().is_some()
    }

    /// The ancestor where it counts, when its thread is gone.
    pub(crate) fn at(&self) -> Option<ThreadBudget> {
        self.at.get().upgrade()
    }

    /// Count in an ancestor from now on, since the thread that it was made for is gone.
    pub(crate) fn move_to(&self, ancestor: &ThreadBudget, made_for: &ThreadBudget) {
        self.made_for.get_or_init(|| made_for.clone());
        self.at.replace(ancestor.downgrade());
    }

    /// What its hold counts for; 0 without one.
    pub(crate) fn held_tokens(&self) -> u64 {
        self.hold.get().map_or(0, |hold| hold.tokens.total())
    }

    pub(crate) fn held_since(&self) -> Option<u64> {
        self.hold.get().map(|_| self.held_since.get())
    }

    pub(crate) fn marked_since(&self) -> Option<u64> {
        self.charged.get().map(|_| self.marked_since.get())
    }
}

/// Requests, in no order.
#[derive(Debug, Default)]
pub(crate) struct List(CloneCell<Option<Rc<Request>>>);

impl List {
    pub(crate) const fn new() -> Self {
        Self(CloneCell::new(None))
    }

    pub(crate) fn push(&self, request: &Rc<Request>) {
        let next = self.0.replace(Some(request.clone()));
        if let Some(next) = &next {
            next.previous.replace(Rc::downgrade(request));
        }
        request.next.replace(next);
    }

    /// Take out one that is in this list.
    pub(crate) fn remove(&self, request: &Request) {
        let (next, previous) = (request.next.take(), request.previous.take());
        if let Some(next) = &next {
            next.previous.replace(previous.clone());
        }
        match previous.upgrade() {
            Some(previous) => previous.next.replace(next),
            None => self.0.replace(next),
        };
    }

    pub(crate) fn first(&self) -> Option<Rc<Request>> {
        self.0.get()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Rc<Request>> {
        core::iter::successors(self.first(), |request| request.next.get())
    }
}

/// One by one: each would drop the next, and the stack is small.
impl Drop for List {
    fn drop(&mut self) {
        let mut next = self.0.take();
        while let Some(request) = next {
            next = request.next.take();
        }
    }
}
