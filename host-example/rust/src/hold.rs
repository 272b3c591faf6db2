//! The guard of a call in flight: what it may use is held, until the guard says what it used or is dropped.

use crate::calls::{Operation, Release, SetHold, Settle, SettleLost};
use crate::error::CallError;
use crate::lost::Slices;
use crate::registry::Registry;
use crate::types::{Consumed, Held};
use std::borrow::Cow;
use std::fmt;
use std::mem;

/// Tokens held for an LLM call in flight; every check counts them as taken.
///
/// It ends with [`Hold::settle`]. Dropped before [`Hold::sent`] it is released: nothing was used. Dropped
/// after, it is settled as the registry's [`LostCalls`](crate::LostCalls) say. So a cancelled future or an
/// early return leaks nothing, and frees nothing that a provider may have billed. Dropping never waits.
///
/// The hold itself is data in the registry, named by its thread and request. It outlives a reset or cleanup
/// of its thread: it moves to the nearest ancestor that is left, and counts there.
///
/// ```
/// # pollster::block_on(async {
/// let registry = thread_budget_host::Registry::builder().tokens_per_thread(1_000).build()?;
/// let mut hold = registry.hold("agent-7", 300, 500, 100).await?;
/// assert!(registry.check_budget("agent-7", 201).await.is_err());
/// hold.sent();
/// hold.settle(310, 140).await?; // after the LLM call
/// assert!(registry.check_budget("agent-7", 550).await.is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[must_use = "dropping it ends the hold"]
pub struct Hold {
    guard: Guard,
    held: Held,
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold")
            .field("thread_id", &self.guard.thread_id)
            .field("request_id", &self.guard.request_id)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl Hold {
    /// Hold for the first time. Whoever stops waiting for it leaves nothing held.
    pub(crate) async fn new(
        registry: Registry,
        thread_id: &str,
        request_id: String,
        remember: bool,
        tokens: Tokens,
    ) -> Result<Self, CallError> {
        registry.meter().holds(1.0);
        let slices = Slices::new(tokens.prompt, 0);
        let thread_id = thread_id.into();
        let mut guard = Guard { registry, thread_id, request_id, remember, slices, end: End::Release };
        let held = guard.set(tokens).await.inspect_err(|error| {
            if !matches!(error, CallError::Storage(_) | CallError::Store(_)) {
                guard.end = End::Over;
            }
        })?;
        Ok(Self { guard, held })
    }

    /// The thread it was made for.
    #[must_use]
    pub fn thread_id(&self) -> &str {
        &self.guard.thread_id
    }

    /// The request that names it.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.guard.request_id
    }

    /// What was granted last, and where the thread stood then.
    #[must_use]
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// The request is on its way to a provider: from now on it may be billed.
    pub fn sent(&mut self) {
        if let End::Release = self.guard.end {
            self.guard.end = End::Lost;
        }
    }

    /// Hold other numbers of tokens instead: a stream goes on, or less is needed. No more than before always
    /// fits. What does not fit of more completion is cut down, not below `least_completion_tokens` and not
    /// below what was held. When it is refused the hold stays as it is.
    ///
    /// # Errors
    /// As [`Registry::hold`].
    pub async fn set(
        &mut self,
        prompt_tokens: u64,
        completion_tokens: u64,
        least_completion_tokens: u64,
    ) -> Result<&Held, CallError> {
        let tokens =
            Tokens { prompt: prompt_tokens, completion: completion_tokens, least: least_completion_tokens };
        self.held = self.guard.set(tokens).await?;
        Ok(&self.held)
    }

    /// Replace the hold by what was really used, more or less; an overshoot is recorded. Who stops waiting
    /// for it, or finds it failing, need do nothing: the guard tries once more when it is dropped.
    ///
    /// # Errors
    /// [`CallError::UnknownHold`] when the thread and all ancestors of that time are gone; nothing is counted
    /// then. For a request that the thread is to remember, also [`CallError::OutOfMemory`].
    pub async fn settle(mut self, prompt_tokens: u64, completion_tokens: u64) -> Result<Consumed, CallError> {
        let guard = &mut self.guard;
        guard.end = End::Settle(prompt_tokens, completion_tokens);
        let call = Settle {
            thread_id: Cow::Borrowed(&guard.thread_id),
            request_id: Cow::Borrowed(&guard.request_id),
            prompt_tokens,
            completion_tokens,
            remember: guard.remember,
        };
        let consumed = guard.registry.run(&call).await?;
        guard.end = End::Over;
        guard.registry.meter().consumed(&consumed, prompt_tokens, completion_tokens);
        Ok(consumed)
    }

    /// Let go of it: nothing was used, for sure.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn release(mut self) -> Result<(), CallError> {
        let guard = &mut self.guard;
        guard.end = End::Release;
        let call = Release {
            thread_id: Cow::Borrowed(&guard.thread_id),
            request_id: Cow::Borrowed(&guard.request_id),
        };
        guard.registry.run(&call).await?;
        guard.end = End::Over;
        Ok(())
    }
}

/// What a hold asks for.
#[derive(Clone, Copy)]
pub(crate) struct Tokens {
    pub(crate) prompt: u64,
    pub(crate) completion: u64,
    /// Of the completion.
    pub(crate) least: u64,
}

/// Ends the hold when it is dropped.
struct Guard {
    registry: Registry,
    thread_id: String,
    request_id: String,
    /// Whether the thread is to remember the request.
    remember: bool,
    slices: Slices,
    end: End,
}

/// How a hold ends. Each can be told twice, and counts once.
#[derive(Clone, Copy)]
enum End {
    Release,
    /// It was sent.
    Lost,
    /// At this much prompt and completion.
    Settle(u64, u64),
    /// It has ended.
    Over,
}

impl Guard {
    async fn set(&mut self, Tokens { prompt, completion, least }: Tokens) -> Result<Held, CallError> {
        // Who wants more has used what there was, also when the answer is no, or does not arrive.
        self.slices.ask(completion);
        let call = SetHold {
            thread_id: Cow::Borrowed(&self.thread_id),
            request_id: Cow::Borrowed(&self.request_id),
            prompt_tokens: prompt,
            completion_tokens: completion,
            least_completion_tokens: least,
            holder: self.registry.holder(),
            deadline: self.registry.deadline(),
        };
        let held = self.registry.run(&call).await?;
        self.slices.set(prompt, held.completion_tokens);
        Ok(held)
    }

    /// What is left to be done.
    fn operation(&mut self) -> Option<Operation<'static>> {
        let (lost, used) = match self.end {
            End::Over => return None,
            End::Release => (false, None),
            End::Lost => (true, self.slices.charge(self.registry.lost_calls())),
            End::Settle(prompt_tokens, completion_tokens) => {
                (false, Some((prompt_tokens, completion_tokens)))
            }
        };
        let thread_id = Cow::Owned(mem::take(&mut self.thread_id));
        let request_id = Cow::Owned(mem::take(&mut self.request_id));
        Some(match (used, self.remember) {
            (None, _) => Operation::Release(Release { thread_id, request_id }),
            // Whoever made up the id may say later what it used.
            (Some((prompt_tokens, completion_tokens)), true) if lost => {
                Operation::SettleLost(SettleLost { thread_id, request_id, prompt_tokens, completion_tokens })
            }
            (Some((prompt_tokens, completion_tokens)), remember) => Operation::Settle(Settle {
                thread_id,
                request_id,
                prompt_tokens,
                completion_tokens,
                remember,
            }),
        })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let meter = self.registry.meter();
        meter.holds(-1.0);
        if let Some(operation) = self.operation() {
            if let Operation::Settle(Settle { prompt_tokens, completion_tokens, .. })
            | Operation::SettleLost(SettleLost { prompt_tokens, completion_tokens, .. }) = &operation
            {
                meter.tokens(*prompt_tokens, *completion_tokens);
            }
            self.registry.leave(operation);
        }
    }
}
