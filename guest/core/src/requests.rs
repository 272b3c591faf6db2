//! All requests with a hold or a mark, by the thread that they were made for and their own id.
//!
//! A name leads to its request wherever that counts by now: in its thread or, when that is gone, in an
//! ancestor.

use crate::index::Index;
use crate::request::Request;
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
        let since = self.next();
        let request = match made_for {
            None => Request::new(at, request_id, since),
            Some(thread_id) => Request::moved(thread_id, request_id, since, at),
        };
        self.by_name.insert(request.clone());
        request
    }

    /// Let go of what is held.
    pub(crate) fn release(&mut self, request: &Rc<Request>) {
        request.set_hold(None);
        if request.charged().is_none() {
            self.end(request);
        }
    }

    /// Let go of hold and mark.
    pub(crate) fn end(&mut self, request: &Rc<Request>) {
        request.set_hold(None);
        request.leave();
        self.forget(request);
    }

    /// Let go of all that counts in the thread.
    pub(crate) fn end_all(&mut self, thread: &ThreadBudget) {
        while let Some(request) = self.first_at(thread) {
            self.end(&request);
        }
    }

    /// Note what a request without a hold was charged. Its mark never says less than before.
    pub(crate) fn mark(&mut self, request: &Rc<Request>, charged: Tokens) {
        match request.charged() {
            Some(before) => request.set_charged(Some(before.max(charged))),
            None => {
                request.mark(charged, self.next());
                self.keep_latest_marks(&request.at());
            }
        }
    }

    /// Those that count in the thread: its own, and those that moved to it.
    pub(crate) fn at(&self, thread: &ThreadBudget) -> impl Iterator<Item = Rc<Request>> {
        self.own(thread).cloned().chain(thread.moved_holds()).chain(thread.moved_marks())
    }

    /// Move those that count in the thread, which is about to go, to an ancestor. Without one they end.
    pub(crate) fn move_all(&mut self, thread: &ThreadBudget, ancestor: Option<&ThreadBudget>) {
        // At most as many as a thread may hold and mark of its own.
        let own: Vec<_> = self.own(thread).cloned().collect();
        own.into_iter().for_each(|request| self.move_one(request, ancestor));
        // As many as there are, so they are taken one by one.
        while let Some(request) = thread.moved_holds().chain(thread.moved_marks()).next() {
            self.move_one(request, ancestor);
        }
        if let Some(ancestor) = ancestor {
            self.keep_latest_marks(ancestor);
        }
    }

    fn first_at(&self, thread: &ThreadBudget) -> Option<Rc<Request>> {
        self.at(thread).next()
    }

    fn move_one(&mut self, request: Rc<Request>, ancestor: Option<&ThreadBudget>) {
        match ancestor {
            Some(ancestor) => request.move_to(ancestor),
            None => {
                request.leave();
                self.forget(&request);
            }
        }
    }

    fn own(&self, thread: &ThreadBudget) -> impl Iterator<Item = &Rc<Request>> {
        let of_that_id = self.by_name.iter_after(Some([thread.thread_id(), ""]));
        of_that_id
            .take_while(|request| request.thread_id() == thread.thread_id())
            .filter(|request| !request.is_moved())
    }

    fn keep_latest_marks(&mut self, thread: &ThreadBudget) {
        let own = self.own(thread).filter(|request| request.charged().is_some()).cloned();
        let marks: Vec<_> =
            own.chain(thread.moved_marks()).map(|request| ByKey(request.since(), request)).collect();
        let excess = marks.len().saturating_sub(MOST_MARKS);
        if excess > 0 {
            sorted(marks).take(excess).for_each(|request| self.unmark(&request));
        }
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

    fn next(&mut self) -> u64 {
        self.made = self.made.saturating_add(1);
        self.made
    }
}
