//! Threads as data, and back.

use super::holds::check_request_id;
use super::{Registry, check_id};
use crate::MAX_PAGE;
use crate::error::{InvalidRequestId, InvalidThreadId, RegistryError};
use crate::memory::has_room;
use crate::request::Request;
use crate::state::ThreadState;
use crate::thread::ThreadBudget;
use alloc::rc::Rc;
use alloc::vec::Vec;

impl Registry {
    /// The states of up to `limit` threads after the one of that id, in an order in which parents come
    /// before their children. Fewer when memory or [`MAX_PAGE`] want it so, none when there are no more.
    /// `row_bytes` is what a caller who copies a state takes beside its lists.
    #[must_use]
    pub fn snapshot(&self, after: Option<&str>, limit: u32, row_bytes: usize) -> Vec<ThreadState> {
        let limit = (limit as usize).min(MAX_PAGE);
        let mut page: Vec<_> = self.threads.iter_after(after).take(limit).collect();
        // What the states take here, and again in a copy.
        let bytes = |page: &[ThreadBudget]| -> usize {
            page.iter().map(|thread| 2 * ThreadState::bytes_of(thread, &self.requests) + row_bytes).sum()
        };
        while page.len() > 1 && !has_room(bytes(&page)) {
            page.truncate(page.len() / 2);
        }
        page.iter().map(|thread| ThreadState::of(thread, &self.requests)).collect()
    }

    /// Bring threads back, all or none. None of them may exist; a parent must, or come earlier in
    /// the list. Pages are restored in the order in which they were taken.
    ///
    /// # Errors
    /// [`RegistryError::InvalidState`] and everything that creating threads can meet.
    pub fn restore(&mut self, states: &[ThreadState]) -> Result<(), RegistryError> {
        let next_birth = self.next_birth;
        for (at, state) in states.iter().enumerate() {
            if let Err(error) = self.restore_one(state) {
                // Children come after their parents, so that each is alone when its turn comes.
                for restored in states.iter().take(at).rev() {
                    if let Some(thread) = self.threads.get(&restored.thread_id).cloned() {
                        self.take_back(&thread);
                    }
                }
                self.next_birth = next_birth;
                return Err(error);
            }
        }
        Ok(())
    }

    fn restore_one(&mut self, state: &ThreadState) -> Result<(), RegistryError> {
        check_id(&state.thread_id)?;
        if self.has_budget(&state.thread_id) {
            return Err(state.invalid("it exists already"));
        }
        if state.parent.is_some() && !state.opened {
            return Err(state.invalid("a thread with a parent was opened"));
        }
        let budget = state.check().map_err(|why| state.invalid(why))?;
        let parent = state.parent.as_deref();
        let parent = parent.map(|parent| self.parent_for(&state.thread_id, parent)).transpose()?;
        let thread = self.create(&state.thread_id, state.birth, budget, state.opened, parent.as_ref())?;
        let requests = self.restore_requests(state, &thread);
        if requests.is_err() {
            self.take_back(&thread);
        }
        requests
    }

    fn restore_requests(&mut self, state: &ThreadState, thread: &ThreadBudget) -> Result<(), RegistryError> {
        for request_id in &state.request_ids {
            check_request_id(request_id).map_err(|_| state.invalid(InvalidRequestId::TEXT))?;
            let known =
                thread.remembers(request_id) || self.requests.get(&state.thread_id, request_id).is_some();
            if known {
                return Err(state.invalid("it remembers a request that is also something else"));
            }
            self.room_to_grow()?;
            thread.remember(request_id);
        }
        for hold in &state.holds {
            let request = self.request_of(state, thread, hold.made_for.as_deref(), &hold.request_id)?;
            let fits =
                |thread: ThreadBudget| thread.held_tokens().checked_add(hold.hold().tokens.total()).is_some();
            if request.hold().is_some() {
                return Err(state.invalid("a request has one hold"));
            }
            if !thread.line().all(fits) {
                return Err(state.invalid("what is held passes 2^64-1 tokens"));
            }
            self.requests.hold(&request, hold.hold());
        }
        for lost in &state.lost {
            let request = self.request_of(state, thread, lost.made_for.as_deref(), &lost.request_id)?;
            if request.charged().is_some() {
                return Err(state.invalid("a request has one mark"));
            }
            self.requests.mark(&request, lost.charged());
        }
        Ok(())
    }

    /// The request of a hold or a mark that is to be restored.
    fn request_of(
        &mut self,
        state: &ThreadState,
        thread: &ThreadBudget,
        made_for: Option<&str>,
        request_id: &str,
    ) -> Result<Rc<Request>, RegistryError> {
        check_request_id(request_id).map_err(|_| state.invalid(InvalidRequestId::TEXT))?;
        let owner = made_for.unwrap_or(&state.thread_id);
        if made_for.is_some() {
            check_id(owner).map_err(|_| state.invalid(InvalidThreadId::TEXT))?;
            if thread.line().any(|thread| thread.thread_id() == owner) {
                return Err(state.invalid("what moves here comes from below"));
            }
        }
        if self.remembering(owner, request_id).is_some() {
            return Err(state.invalid("a request with a hold or a mark is remembered, too"));
        }
        match self.requests.get(owner, request_id) {
            Some(request) if request.is_at(thread) => Ok(request.clone()),
            Some(_) => Err(state.invalid("a request with a hold or a mark has one elsewhere, too")),
            None => {
                self.room_for_a_request()?;
                Ok(self.requests.add(thread, made_for, request_id))
            }
        }
    }

    /// Undo the restoring of a thread that has no children yet.
    fn take_back(&mut self, thread: &ThreadBudget) {
        self.requests.held_at(thread).iter().for_each(|request| self.requests.end(request));
        self.requests.marked_at(thread).iter().for_each(|request| self.requests.end(request));
        self.forget(thread, None);
    }
}
