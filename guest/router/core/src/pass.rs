//! A request that no budget applies to: it is passed on, and so is the answer.

use crate::attempts::{Attempts, Then};
use crate::client::{Client, What};
use crate::exchange::Context;
use crate::headers::Headers;
use crate::refusal::{ErrorKind, Refusal};
use crate::retry;
use crate::turn::{Action, Event, FailureKind, Next, Response, ResponseBody};
use alloc::format;
use alloc::vec::Vec;

/// Where such an exchange is.
#[derive(Debug)]
enum State {
    /// A provider has the request.
    Sending,
    /// It waits before it is sent again.
    Pausing,
}

/// An exchange without a budget.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) client: Client,
    pub(crate) attempts: Attempts,
    state: State,
    /// Whether it is only for want of a thread that no budget applies.
    is_unidentified: bool,
}

impl Pass {
    pub(crate) fn new(client: Client, attempts: Attempts) -> Self {
        Self { client, attempts, state: State::Sending, is_unidentified: false }
    }

    /// One that would cost a budget, if it named a thread.
    pub(crate) fn unidentified(self) -> Self {
        Self { is_unidentified: true, ..self }
    }

    pub(crate) fn begin(&mut self, context: &mut Context<'_>) -> Next {
        if self.is_unidentified {
            let client = self.client.headers.first("user-agent").unwrap_or_default();
            context.actions.push(Action::Unidentified(client.into()));
        }
        self.send(context)
    }

    /// Send the request to the provider whose turn it is.
    pub(crate) fn send(&mut self, context: &mut Context<'_>) -> Next {
        self.state = State::Sending;
        let what = What { body: None, is_whole: false, is_metered: false };
        match self.client.send(context.config, &self.attempts, context.now, what) {
            Some(send) => Next::Send(send),
            None => self.refuse(context, Refusal::new(502, ErrorKind::Upstream, "there is no upstream")),
        }
    }

    pub(crate) fn step(&mut self, context: &mut Context<'_>, event: Event) -> Next {
        match (&self.state, event) {
            (State::Sending, Event::Answer(answer)) => {
                let may_pass = retry::may_pass(answer.status);
                if may_pass {
                    let wait = retry::asked_for(&Headers::new(answer.headers));
                    if let Some(next) = self.again(context, true, wait, &format!("status {}", answer.status))
                    {
                        return next;
                    }
                }
                context.actions.push(Action::Respond(Response {
                    status: answer.status,
                    passed: true,
                    remove: Vec::new(),
                    set: Vec::new(),
                    body: ResponseBody::Received,
                }));
                Next::Done
            }
            (State::Sending, Event::Failed(failure)) => {
                // Asked again it would take as long again.
                let is_slow = failure.kind == FailureKind::Slow;
                match self.again(context, !is_slow, None, &failure.reason) {
                    Some(next) => next,
                    None => self.refuse(context, Refusal::no_answer(is_slow, &failure.reason)),
                }
            }
            (State::Pausing, Event::Woke) => self.send(context),
            (_, Event::Left) => Next::Done,
            (_, Event::Stopping) => self.refuse(context, Refusal::overloaded("the router is shutting down")),
            (_, event) => context.out_of_turn(&event),
        }
    }

    /// Ask again, or somebody else; none where that is over.
    fn again(
        &mut self,
        context: &mut Context<'_>,
        may_pass: bool,
        wait: Option<u64>,
        why: &str,
    ) -> Option<Next> {
        context.log_failure(&self.attempts, why);
        let left = self.client.deadline.saturating_sub(context.now);
        match self.attempts.after(context.config, may_pass, wait, self.client.chance, left) {
            Then::Again(pause) => {
                self.state = State::Pausing;
                Some(Next::Wait(pause))
            }
            Then::Next => Some(self.send(context)),
            Then::GiveUp => None,
        }
    }

    fn refuse(&self, context: &mut Context<'_>, refusal: Refusal) -> Next {
        context.refuse(crate::api::of_client(self.client.is_anthropic()), refusal)
    }
}
