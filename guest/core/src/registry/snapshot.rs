//! Threads as data, and back.

use super::holds::{REMEMBERED_BYTES, REQUEST_BYTES, check_request_id};
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
            page.iter().map(|thread| 2 * ThreadState::bytes_of(thread) + row_bytes).sum()
        };
        while page.len() > 1 && !has_room(bytes(&page)) {
            page.truncate(page.len() / 2);
        }
        page.iter().map(ThreadState::of).collect()
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
        let (budget, crossings) = state.check().map_err(|why| state.invalid(why))?;
        let parent = state.parent.as_deref();
        let parent = parent.map(|parent| self.parent_for(&state.thread_id, parent)).transpose()?;
        let thread =
            self.create(&state.thread_id, state.birth, budget, crossings, state.opened, parent.as_ref())?;
        let requests = self.restore_requests(state, &thread);
        if requests.is_err() {
            self.take_back(&thread);
        }
        requests
    }

    fn restore_requests(&mut self, state: &ThreadState, thread: &ThreadBudget) -> Result<(), RegistryError> {
        for request_id in &state.request_ids {
            check_request_id(request_id).map_err(|_| state.invalid(InvalidRequestId::TEXT))?;
            let is_open = self.requests.moved(&state.thread_id, request_id).is_some();
            if is_open || thread.remembers(request_id) {
                return Err(state.invalid("it remembers a request twice, or one with a hold or a mark"));
            }
            self.room_to_grow(REMEMBERED_BYTES + request_id.len())?;
            thread.remember(request_id);
        }
        for hold in &state.holds {
            let request = self.request_of(state, thread, hold.made_for.as_deref(), &hold.request_id)?;
            let tokens = hold.hold().tokens.total();
            let fits = |thread: ThreadBudget| thread.held_tokens().checked_add(tokens).is_some();
            if request.hold.get().is_some() {
                return Err(state.invalid("a request has one hold"));
            }
            if !thread.line().all(fits) {
                return Err(state.invalid("what is held passes 2^64-1 tokens"));
            }
            self.requests.hold(thread, &request, hold.hold());
        }
        for lost in &state.lost {
            let request = self.request_of(state, thread, lost.made_for.as_deref(), &lost.request_id)?;
            if request.charged.get().is_some() {
                return Err(state.invalid("a request has one mark"));
            }
            self.requests.mark(thread, &request, lost.charged());
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
        check_id(owner).map_err(|_| state.invalid(InvalidThreadId::TEXT))?;
        if made_for.is_some() && thread.line().any(|thread| thread.thread_id() == owner) {
            return Err(state.invalid("what moved to it was made for a thread below it"));
        }
        match self.look_up(owner, request_id) {
            (Some(at), Some(request)) if at.is(thread) => Ok(request),
            (_, Some(_)) => Err(state.invalid("a request with a hold or a mark has one elsewhere, too")),
            (Some(owner), None) if owner.remembers(request_id) => {
                Err(state.invalid("a request with a hold or a mark is remembered, too"))
            }
            (_, None) => {
                self.room_to_grow(REQUEST_BYTES + owner.len() + request_id.len())?;
                self.requests.reserve().map_err(|_| RegistryError::OutOfMemory)?;
                Ok(match made_for {
                    None => self.requests.add(thread, request_id),
                    Some(_) => self.requests.add_moved(thread, owner, request_id),
                })
            }
        }
    }

    /// Undo the restoring of a thread that has no children yet.
    fn take_back(&mut self, thread: &ThreadBudget) {
        while let Some(request) = thread.a_request() {
            self.requests.end(thread, &request);
        }
        self.forget(thread, None);
    }
}
