//! All requests with a hold or a mark, by the thread that they were made for and their own id.
//!
//! A name leads to its request wherever that counts by now: in its thread or, when that is gone, in an
//! ancestor.

use crate::index::{Index, Named};
use crate::request::{Hold, Request};
use crate::request_window::WINDOW;
use crate::sorted::{ByKey, sorted};
use crate::thread::ThreadBudget;
use crate::tokens::Tokens;
use alloc::collections::TryReserveError;
use alloc::rc::Rc;
use alloc::vec::Vec;

/// How many marks a thread keeps, the latest.
pub(crate) const MOST_MARKS: usize = WINDOW;

#[derive(Debug, Default)]
pub(crate) struct Requests {
    by_name: Index<Rc<Request>, 2>,
    /// Counts the holds and marks that were made, to keep them in order.
    made: u64,
}

impl Requests {
    pub(crate) const fn new() -> Self {
        Self { by_name: Index::new(), made: 0 }
    }

    pub(crate) fn get(&self, thread_id: &str, request_id: &str) -> Option<&Rc<Request>> {
        self.by_name.get([thread_id, request_id])
    }

    /// Make room for one more, but for what is small.
    pub(crate) fn reserve(&mut self) -> Result<(), TryReserveError> {
        self.by_name.reserve()
    }

    /// A request of the thread or, where `made_for` names one that is gone, of that. It is here to be given
    /// a hold or a mark.
    pub(crate) fn add(&mut self, at: &ThreadBudget, made_for: Option<&str>, request_id: &str) -> Rc<Request> {
        let request = Request::new(at, made_for, request_id);
        self.by_name.insert(request.clone());
        request
    }

    /// Hold this for the request instead of what was held.
    pub(crate) fn hold(&mut self, request: &Request, hold: Hold) {
        request.hold_since(hold, self.now());
    }

    /// Let go of what is held.
    pub(crate) fn release(&mut self, request: &Rc<Request>) {
        request.release();
        if request.charged().is_none() {
            self.end(request);
        }
    }

    /// Let go of hold and mark.
    pub(crate) fn end(&mut self, request: &Rc<Request>) {
        request.release();
        request.leave();
        self.forget(request);
    }

    /// Leave a mark. It never says less than before.
    pub(crate) fn mark(&mut self, request: &Rc<Request>, charged: Tokens) {
        match request.charged() {
            Some(before) => request.set_charged(Some(before.max(charged))),
            None => {
                request.mark_since(charged, self.now());
                self.keep_latest_marks(&request.at());
            }
        }
    }

    /// Those with a hold that counts in the thread, its own and what moved to it, in the order in which they
    /// were first held.
    pub(crate) fn held_at(&self, thread: &ThreadBudget) -> Vec<Rc<Request>> {
        self.by_age(thread, &[false, true], Request::held_since)
    }

    /// Those with a mark of what the thread was charged, oldest first.
    pub(crate) fn marked_at(&self, thread: &ThreadBudget) -> Vec<Rc<Request>> {
        self.by_age(thread, &[true], Request::marked_since)
    }

    /// Those of the thread's own, and of those that moved to it without or with a mark, that have an age.
    fn by_age(
        &self,
        thread: &ThreadBudget,
        moved: &[bool],
        age: fn(&Request) -> Option<u64>,
    ) -> Vec<Rc<Request>> {
        let mut found = Vec::new();
        let mut find = |request: &Rc<Request>| {
            found.extend(age(request).map(|age| ByKey(age, request.clone())));
        };
        let mut last = [thread.thread_id(), ""];
        while let Some(request) = self.by_name.after(Some(last))
            && request.thread_id() == thread.thread_id()
        {
            last = request.name();
            if !request.is_moved() {
                find(request);
            }
        }
        moved.iter().for_each(|marked| thread.for_each_moved(*marked, &mut find));
        sorted(found).collect()
    }

    /// Move those that count in the thread, which is about to go, to an ancestor. Without one they end.
    pub(crate) fn move_all(&mut self, thread: &ThreadBudget, ancestor: Option<&ThreadBudget>) {
        self.held_at(thread).iter().for_each(|request| self.move_one(request, ancestor));
        self.marked_at(thread).iter().for_each(|request| self.move_one(request, ancestor));
    }

    fn move_one(&mut self, request: &Rc<Request>, ancestor: Option<&ThreadBudget>) {
        request.leave();
        match ancestor {
            None => self.forget(request),
            Some(ancestor) => {
                request.move_to(ancestor);
                if request.charged().is_some() {
                    self.keep_latest_marks(ancestor);
                }
            }
        }
    }

    /// Of the marks of what the thread was charged.
    fn keep_latest_marks(&mut self, thread: &ThreadBudget) {
        let marks = self.marked_at(thread);
        let excess = marks.len().saturating_sub(MOST_MARKS);
        marks.iter().take(excess).for_each(|request| self.unmark(request));
    }

    fn unmark(&mut self, request: &Rc<Request>) {
        request.set_charged(None);
        if request.hold().is_none() {
            self.end(request);
        }
    }

    fn forget(&mut self, request: &Request) {
        self.by_name.remove([request.thread_id(), request.request_id()]);
    }

    fn now(&mut self) -> u64 {
        self.made = self.made.saturating_add(1);
        self.made
    }
}
