//! Requests in flight: what is held for them, and how that ends.

use super::{Registry, check_id};
use crate::answer::{Consumed, Held};
use crate::budget::Budget;
use crate::error::{HoldError, InvalidRequestId, SettleError};
use crate::request::{Hold, Request};
use crate::requests::Requests;
use crate::thread::ThreadBudget;
use crate::tokens::Tokens;
use crate::{MAX_HOLDS, MAX_REQUEST_ID_BYTES};
use alloc::boxed::Box;
use alloc::rc::Rc;

/// What a request with a hold or a mark takes at most beside its id.
pub(super) const REQUEST_BYTES: usize = 512;

/// What a request that is remembered takes at most beside its id.
pub(super) const REMEMBERED_BYTES: usize = 512;

/// What a hold is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Prompt tokens.
    pub prompt_tokens: u64,
    /// Completion tokens, as many as may be.
    pub completion_tokens: u64,
    /// Completion tokens, no fewer than this or all.
    pub least_completion_tokens: u64,
    /// Who holds; only handed back.
    pub holder: u64,
    /// Until when the holder answers for it; only handed back.
    pub deadline: u64,
}

impl Wanted {
    fn least(&self) -> u64 {
        self.least_completion_tokens.min(self.completion_tokens)
    }

    /// All of them.
    fn most_tokens(&self) -> u128 {
        u128::from(self.prompt_tokens) + u128::from(self.completion_tokens)
    }

    /// Fewer do not do.
    fn least_tokens(&self) -> u128 {
        u128::from(self.prompt_tokens) + u128::from(self.least())
    }

    fn hold(&self, completion_tokens: u64) -> Hold {
        let Self { prompt_tokens, holder, deadline, .. } = *self;
        Hold { tokens: Tokens::new(prompt_tokens, completion_tokens), completion_before: 0, holder, deadline }
    }

    /// What may be held in that room, which has the least, and not less than before.
    fn cut_down(&self, room: u64, before: u64) -> Hold {
        let fits = room.max(before).saturating_sub(self.prompt_tokens);
        self.hold(self.completion_tokens.min(fits).max(self.least()))
    }
}

impl Registry {
    /// Check, and hold the tokens until [`Registry::settle`] or [`Registry::release`]; creates the thread
    /// when it does not exist. What does not fit of the completion is cut down, not below the least. The
    /// same request again sets its hold: no more than before always fits, more is checked without the old
    /// one. A request that the thread remembers is `repeated`, and nothing is held.
    ///
    /// # Errors
    /// [`HoldError::Exhausted`] leaves an old hold as it was and no new thread behind. The thread has as many
    /// holds as it may, or is new and was not created, or there is no memory for the hold.
    pub fn hold(
        &mut self,
        thread_id: &str,
        request_id: impl Into<Box<str>>,
        wanted: Wanted,
    ) -> Result<Held, HoldError> {
        let request_id = request_id.into();
        check_id(thread_id)?;
        check_request_id(&request_id)?;
        let (thread, request) = self.look_up(thread_id, &request_id);
        if let Some((thread, request)) = thread.as_ref().zip(request) {
            let hold = changed(thread, &request, wanted)?;
            self.requests.hold(thread, &request, hold);
            self.noted.change(thread);
            return Ok(thread.held(hold.tokens.completion, false));
        }
        let room = match &thread {
            Some(thread) if thread.remembers(&request_id) => return Ok(thread.held(0, true)),
            Some(thread) => {
                may_hold_another(thread)?;
                thread.admit(wanted.least_tokens(), 0)?
            }
            None => {
                self.room_for_a_thread()?;
                let budget = Budget::new(self.max_tokens_per_thread);
                budget.admit(thread_id, 0, wanted.least_tokens(), 0)?
            }
        };
        self.room_to_grow(REQUEST_BYTES + request_id.len())?;
        let thread = thread.map_or_else(|| self.get_or_create(thread_id), Ok)?;
        let hold = wanted.cut_down(room, 0);
        let request = self.requests.add(&thread, request_id);
        self.requests.hold(&thread, &request, hold);
        self.noted.change(&thread);
        Ok(thread.held(hold.tokens.completion, false))
    }

    /// Replace the request's hold by what was used, or add to its mark what was used beyond that. With
    /// `remember` the thread keeps the request id among its latest
    /// [`REQUEST_WINDOW`](crate::REQUEST_WINDOW) or, where it is gone, the ancestor that is charged keeps
    /// a mark.
    ///
    /// Without hold or mark nothing is counted where the thread remembers the request. Otherwise it is
    /// counted as [`Registry::consume`] does, if it is to be remembered.
    ///
    /// # Errors
    /// As [`Registry::consume`], and [`SettleError::UnknownHold`]; with `remember` there may also be no memory
    /// for that.
    pub fn settle(
        &mut self,
        thread_id: &str,
        request_id: impl Into<Box<str>>,
        prompt_tokens: u64,
        completion_tokens: u64,
        remember: bool,
    ) -> Result<Consumed, SettleError> {
        let request_id = request_id.into();
        check_id(thread_id)?;
        check_request_id(&request_id)?;
        let used = Tokens::new(prompt_tokens, completion_tokens);
        let (thread, request) = self.look_up(thread_id, &request_id);
        let Some((thread, request)) = thread.as_ref().zip(request) else {
            return match thread {
                Some(thread) if thread.remembers(&request_id) => Ok(thread.repeated()),
                _ if !remember => Err(SettleError::UnknownHold),
                _ => {
                    self.room_to_grow(REMEMBERED_BYTES + request_id.len())?;
                    let thread = self.get_or_create(thread_id)?;
                    thread.remember(request_id);
                    Ok(self.charge(&thread, used, None))
                }
            };
        };
        let charged = request.charged.get();
        if !remember {
            self.requests.end(thread, &request);
        } else if request.is_moved() {
            self.requests.mark(thread, &request, used);
            self.requests.release(thread, &request);
        } else {
            self.room_to_grow(REMEMBERED_BYTES + request_id.len())?;
            self.requests.end(thread, &request);
            thread.remember(request_id);
        }
        Ok(self.charge(thread, used, charged))
    }

    /// Replace the hold of somebody who is gone by what may have been used. The mark that it leaves, of which
    /// a thread keeps the latest [`REQUEST_WINDOW`](crate::REQUEST_WINDOW), lets a late
    /// [`Registry::settle`] add what is more. Nothing is counted where nothing is held and the thread
    /// remembers the request or has its mark.
    ///
    /// # Errors
    /// [`SettleError::UnknownHold`], or an id is invalid.
    pub fn settle_lost(
        &mut self,
        thread_id: &str,
        request_id: &str,
        prompt_tokens: u64,
        completion_tokens: u64,
    ) -> Result<Consumed, SettleError> {
        check_id(thread_id)?;
        check_request_id(request_id)?;
        match self.look_up(thread_id, request_id) {
            (Some(thread), Some(request)) if request.hold.get().is_some() => {
                let used = Tokens::new(prompt_tokens, completion_tokens);
                let charged = request.charged.get();
                self.requests.mark(&thread, &request, used);
                self.requests.release(&thread, &request);
                Ok(self.charge(&thread, used, charged))
            }
            (Some(thread), Some(_)) => Ok(thread.repeated()),
            (Some(thread), None) if thread.remembers(request_id) => Ok(thread.repeated()),
            _ => Err(SettleError::UnknownHold),
        }
    }

    /// Move the requests of a thread that is about to go to an ancestor, or end them. Of the holds that have
    /// moved there, no more stay than a thread has of its own: the oldest are charged at what they hold.
    pub(super) fn move_requests(&mut self, thread: &ThreadBudget, ancestor: Option<&ThreadBudget>) {
        if thread.a_request().is_none() {
            return;
        }
        self.requests.move_all(thread, ancestor);
        let Some(ancestor) = ancestor else { return };
        self.noted.change(ancestor);
        let moved = Requests::moved_to(ancestor);
        for request in moved.iter().take(moved.len().saturating_sub(MAX_HOLDS)) {
            let (tokens, charged) = (request.hold.get().map(|hold| hold.tokens), request.charged.get());
            let Some(tokens) = tokens else { continue };
            if charged.is_some() {
                self.requests.mark(ancestor, request, tokens);
            }
            self.requests.release(ancestor, request);
            self.charge(ancestor, tokens, charged);
        }
    }

    /// Let go of the request's hold: nothing was sent. Says whether there was one.
    pub fn release(&mut self, thread_id: &str, request_id: &str) -> bool {
        match self.look_up(thread_id, request_id) {
            (Some(thread), Some(request)) if request.hold.get().is_some() => {
                self.requests.release(&thread, &request);
                self.noted.change(&thread);
                true
            }
            _ => false,
        }
    }

    /// The request, if it has a hold or a mark, and the thread where it counts or would count: the one of
    /// that id or, if it was made for one that is gone, an ancestor of that.
    pub(super) fn look_up(
        &self,
        thread_id: &str,
        request_id: &str,
    ) -> (Option<ThreadBudget>, Option<Rc<Request>>) {
        if let Some((ancestor, request)) = self.requests.moved(thread_id, request_id) {
            return (Some(ancestor), Some(request));
        }
        let thread = self.threads.get(thread_id);
        (thread.cloned(), thread.and_then(|thread| thread.own_request(request_id)))
    }

    /// Count what a request used or, where it was charged before, what is more.
    fn charge(&mut self, thread: &ThreadBudget, used: Tokens, charged: Option<Tokens>) -> Consumed {
        self.noted.change_line(thread);
        let more = charged.map_or(used, |charged| used.beyond(charged));
        thread.charge(more, charged.is_none(), &self.thresholds)
    }
}

/// The hold that a request gets which has one, or a mark.
fn changed(thread: &ThreadBudget, request: &Request, wanted: Wanted) -> Result<Hold, HoldError> {
    let Some(old) = request.hold.get() else {
        if request.is_moved() {
            may_hold_another_moved(thread)?
        } else {
            may_hold_another(thread)?
        }
        return Ok(wanted.cut_down(thread.admit(wanted.least_tokens(), 0)?, 0));
    };
    let before = old.tokens.total();
    let all = wanted.hold(wanted.completion_tokens);
    let hold = if wanted.most_tokens() <= u128::from(before) {
        all
    } else {
        wanted.cut_down(thread.admit(wanted.least_tokens(), before)?, before)
    };
    Ok(hold.in_place_of(old))
}

fn may_hold_another_moved(thread: &ThreadBudget) -> Result<(), HoldError> {
    if Requests::moved_to(thread).len() < MAX_HOLDS {
        Ok(())
    } else {
        Err(HoldError::TooManyHolds(MAX_HOLDS as u32))
    }
}

fn may_hold_another(thread: &ThreadBudget) -> Result<(), HoldError> {
    if thread.own_holds() < MAX_HOLDS { Ok(()) } else { Err(HoldError::TooManyHolds(MAX_HOLDS as u32)) }
}

/// Whether it can be the id of a request.
pub(super) fn check_request_id(request_id: &str) -> Result<(), InvalidRequestId> {
    if (1..=MAX_REQUEST_ID_BYTES).contains(&request_id.len()) { Ok(()) } else { Err(InvalidRequestId) }
}
