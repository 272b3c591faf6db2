//! What becomes of requests with a hold or a mark, and where those are whose thread is gone.

use crate::budget::Budget;
use crate::crossings::Crossings;
use crate::index::Index;
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
    /// Those whose thread is gone, by its id and their own. Others are in their thread.
    moved: Index<Rc<Request>, 2>,
    /// Counts the holds and marks that were made, to keep them in order.
    made: u64,
}

impl Requests {
    pub(crate) const fn new() -> Self {
        Self { moved: Index::new(), made: 0 }
    }

    /// The request of a thread that is gone, and the ancestor where it counts.
    pub(crate) fn moved(&self, thread_id: &str, request_id: &str) -> Option<(ThreadBudget, Rc<Request>)> {
        let request = self.moved.get([thread_id, request_id])?;
        Some((request.at()?, request.clone()))
    }

    /// Make room for one more whose thread is gone, but for what is small.
    pub(crate) fn reserve(&mut self) -> Result<(), TryReserveError> {
        self.moved.reserve()
    }

    /// A request of the thread. It is here to be given a hold or a mark.
    pub(crate) fn add(&mut self, thread: &ThreadBudget, request_id: &str) -> Rc<Request> {
        let request = Request::new(request_id);
        thread.list_of(&request).push(&request);
        request
    }

    /// The same for a thread of that id that is gone.
    pub(crate) fn add_moved(&mut self, at: &ThreadBudget, made_for: &str, request_id: &str) -> Rc<Request> {
        let gone = ThreadBudget::new(made_for, 0, Budget::new(0), Crossings::NONE);
        let request = Request::new(request_id);
        self.move_one(&request, &gone, at);
        request
    }

    /// Hold this for the request instead of what is held.
    pub(crate) fn hold(&mut self, thread: &ThreadBudget, request: &Request, hold: Hold) {
        if request.hold.get().is_none() {
            request.held_since.set(self.now());
        }
        thread.replace_held(request.held_tokens(), hold.tokens.total());
        request.hold.set(Some(hold));
    }

    /// Let go of what is held.
    pub(crate) fn release(&mut self, thread: &ThreadBudget, request: &Rc<Request>) {
        thread.replace_held(request.held_tokens(), 0);
        request.hold.set(None);
        self.keep_if_needed(thread, request);
    }

    /// Let go of what is held, and take the mark away.
    pub(crate) fn end(&mut self, thread: &ThreadBudget, request: &Rc<Request>) {
        set_charged(thread, request, None);
        self.release(thread, request);
    }

    /// Leave a mark. It never says less than before.
    pub(crate) fn mark(&mut self, thread: &ThreadBudget, request: &Rc<Request>, charged: Tokens) {
        match request.charged.get() {
            Some(before) => request.charged.set(Some(before.max(charged))),
            None => {
                set_charged(thread, request, Some(charged));
                request.marked_since.set(self.now());
                self.keep_latest_marks(thread);
            }
        }
    }

    /// Those with a hold that counts in the thread, in the order in which they were first held.
    pub(crate) fn held_at(thread: &ThreadBudget) -> Vec<Rc<Request>> {
        by_age(thread, Request::held_since)
    }

    /// Those with a mark of what the thread was charged, oldest first.
    pub(crate) fn marked_at(thread: &ThreadBudget) -> Vec<Rc<Request>> {
        by_age(thread, Request::marked_since)
    }

    /// Move those that count in the thread, which is about to go, to an ancestor. Without one they end.
    pub(crate) fn move_all(&mut self, thread: &ThreadBudget, ancestor: Option<&ThreadBudget>) {
        while let Some(request) = thread.a_request() {
            thread.hand_over_held(request.held_tokens());
            match ancestor {
                None => self.forget(thread, &request),
                Some(ancestor) => {
                    thread.list_of(&request).remove(&request);
                    self.move_one(&request, thread, ancestor);
                    if request.charged.get().is_some() {
                        self.keep_latest_marks(ancestor);
                    }
                }
            }
        }
    }

    fn move_one(&mut self, request: &Rc<Request>, made_for: &ThreadBudget, ancestor: &ThreadBudget) {
        let first = !request.is_moved();
        request.move_to(ancestor, made_for);
        if first {
            self.moved.insert(request.clone());
        }
        ancestor.list_of(request).push(request);
    }

    /// After a mark was left at the thread.
    fn keep_latest_marks(&mut self, thread: &ThreadBudget) {
        let (mut marks, mut oldest) = (0, None::<Rc<Request>>);
        thread.for_each_request(true, &mut |request| {
            if let Some(since) = request.marked_since() {
                marks += 1;
                if oldest.as_ref().is_none_or(|oldest| since < oldest.marked_since.get()) {
                    oldest = Some(request);
                }
            }
        });
        if marks > MOST_MARKS
            && let Some(oldest) = oldest
        {
            set_charged(thread, &oldest, None);
            self.keep_if_needed(thread, &oldest);
        }
    }

    fn keep_if_needed(&mut self, thread: &ThreadBudget, request: &Request) {
        if request.hold.get().is_none() && request.charged.get().is_none() {
            self.forget(thread, request);
        }
    }

    fn forget(&mut self, thread: &ThreadBudget, request: &Request) {
        thread.list_of(request).remove(request);
        if let Some(thread_id) = request.made_for() {
            self.moved.remove([thread_id, request.id()]);
        }
    }

    fn now(&mut self) -> u64 {
        self.made = self.made.saturating_add(1);
        self.made
    }
}

/// Give a request of the thread a mark, or take it away.
fn set_charged(thread: &ThreadBudget, request: &Rc<Request>, charged: Option<Tokens>) {
    thread.list_of(request).remove(request);
    request.charged.set(charged);
    thread.list_of(request).push(request);
}

fn by_age(thread: &ThreadBudget, age: fn(&Request) -> Option<u64>) -> Vec<Rc<Request>> {
    let mut found = Vec::new();
    thread.for_each_request(false, &mut |request| {
        found.extend(age(&request).map(|age| ByKey(age, request)));
    });
    sorted(found).collect()
}
