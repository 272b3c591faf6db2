//! What a request is allowed, and what it used.

use super::{Place, Registry};
use crate::calls::{Call, Consume, ConsumeBatch, Release, SetHold, Settle, SettleLost};
use crate::error::{BatchError, CallError};
use crate::file::Note;
use crate::hold::{Hold, Tokens};
use crate::types::{Consumed, Held, HoldTerms, ThresholdCrossed, UsageEntry};

impl Registry {
    /// Check as [`Registry::check_budget`] does, and hold the tokens of a request until its guard settles them
    /// or is dropped, so that concurrent calls cannot pass the same check together. What does not fit of the
    /// completion is cut down, but not below `least_completion_tokens`; [`Hold::held`] says to what. The thread
    /// is created when it does not exist, unless the hold is refused.
    ///
    /// # Errors
    /// [`CallError::Refused`] when all is used or held or prompt and least completion do not fit, in the thread
    /// or in an ancestor; [`CallError::TooManyHolds`]; otherwise as [`Registry::get_budget`], and
    /// [`CallError::OutOfMemory`] also for a thread that exists.
    pub async fn hold(
        &self,
        thread_id: &str,
        prompt_tokens: u64,
        completion_tokens: u64,
        least_completion_tokens: u64,
    ) -> Result<Hold, CallError> {
        let tokens =
            Tokens { prompt: prompt_tokens, completion: completion_tokens, least: least_completion_tokens };
        Hold::new(self.clone(), thread_id, self.name_request(), false, tokens).await
    }

    /// The same for a request that has an id of its own and may come twice. The thread remembers the latest
    /// 64 that were settled: one that comes again is counted once, [`Held::repeated`] says so, and its guard
    /// holds nothing.
    ///
    /// # Errors
    /// [`InvalidInput::RequestId`](crate::InvalidInput::RequestId); otherwise as [`Registry::hold`].
    pub async fn hold_once(
        &self,
        thread_id: &str,
        request_id: &str,
        prompt_tokens: u64,
        completion_tokens: u64,
        least_completion_tokens: u64,
    ) -> Result<Hold, CallError> {
        let tokens =
            Tokens { prompt: prompt_tokens, completion: completion_tokens, least: least_completion_tokens };
        Hold::new(self.clone(), thread_id, request_id.into(), true, tokens).await
    }

    /// Hold the tokens of a request without a guard: whoever knows the thread and the request may set the hold
    /// again, settle it or release it. The same request again sets its hold to the new terms; no more than
    /// before always fits, and a refusal leaves the old hold as it is.
    ///
    /// In a database whose process ends, the hold is settled as [`LostCalls`](crate::LostCalls) say when the
    /// file is opened next.
    ///
    /// # Errors
    /// As [`Registry::hold_once`].
    pub async fn set_hold(
        &self,
        thread_id: &str,
        request_id: &str,
        terms: &HoldTerms,
    ) -> Result<Held, CallError> {
        let &HoldTerms { prompt_tokens, completion_tokens, least_completion_tokens, holder, deadline } =
            terms;
        let call = SetHold {
            thread_id: thread_id.into(),
            request_id: request_id.into(),
            prompt_tokens,
            completion_tokens,
            least_completion_tokens,
            holder,
            deadline,
        };
        self.run(&call).await
    }

    /// Replace the request's hold by what was really used, more or less; an overshoot is recorded. `remember`
    /// it where the same usage may be reported twice: it is counted without a hold, too, and then known.
    ///
    /// # Errors
    /// [`InvalidInput::RequestId`](crate::InvalidInput::RequestId); [`CallError::UnknownHold`] without a hold
    /// and without `remember`; with it as [`Registry::get_budget`]. A hold that is settled without it is always
    /// settled.
    pub async fn settle(
        &self,
        thread_id: &str,
        request_id: &str,
        prompt_tokens: u64,
        completion_tokens: u64,
        remember: bool,
    ) -> Result<Consumed, CallError> {
        let (thread_id, request_id) = (thread_id.into(), request_id.into());
        let call = Settle { thread_id, request_id, prompt_tokens, completion_tokens, remember };
        let consumed = self.run(&call).await?;
        self.inner.meter.consumed(&consumed, prompt_tokens, completion_tokens);
        Ok(consumed)
    }

    /// Settle somebody else's hold, whose holder is gone, at what it may have used. A late
    /// [`Registry::settle`] of the owner adds what is more.
    ///
    /// # Errors
    /// [`CallError::UnknownHold`], and those of the ids.
    pub async fn settle_lost(
        &self,
        thread_id: &str,
        request_id: &str,
        prompt_tokens: u64,
        completion_tokens: u64,
    ) -> Result<Consumed, CallError> {
        let (thread_id, request_id) = (thread_id.into(), request_id.into());
        let consumed =
            self.run(&SettleLost { thread_id, request_id, prompt_tokens, completion_tokens }).await?;
        self.inner.meter.consumed(&consumed, prompt_tokens, completion_tokens);
        Ok(consumed)
    }

    /// Let go of the request's hold: nothing was sent. Says whether there was one.
    ///
    /// # Errors
    /// Only those of every method, see [`Registry`].
    pub async fn release(&self, thread_id: &str, request_id: &str) -> Result<bool, CallError> {
        self.run(&Release { thread_id: thread_id.into(), request_id: request_id.into() }).await
    }

    /// Record, after an LLM call, what it used, overshoot included; the thread is created when it
    /// does not exist.
    ///
    /// # Errors
    /// As [`Registry::get_budget`].
    pub async fn consume(
        &self,
        thread_id: &str,
        prompt_tokens: u64,
        completion_tokens: u64,
    ) -> Result<Consumed, CallError> {
        let consumed =
            self.run(&Consume { thread_id: thread_id.into(), prompt_tokens, completion_tokens }).await?;
        self.inner.meter.consumed(&consumed, prompt_tokens, completion_tokens);
        Ok(consumed)
    }

    /// Record several, in their order, all or none; what they crossed comes back in their order. With
    /// several instances that holds for the entries of each, with a store for those of each tree.
    ///
    /// # Errors
    /// [`InvalidInput::BatchTooLarge`](crate::InvalidInput::BatchTooLarge) and those of [`Registry::consume`],
    /// with the entries that were not recorded.
    pub async fn consume_batch(&self, entries: &[UsageEntry]) -> Result<Vec<ThresholdCrossed>, BatchError> {
        self.consume_batch_noting(entries, |_| None).await
    }

    /// The same, and keep a note on it, made of what was crossed, in the database: both are there after
    /// a crash, or neither. With the position in a stream as the note, a stream is counted exactly once.
    /// Nothing is noted without a database, and nothing in a store.
    ///
    /// # Errors
    /// As [`Registry::consume_batch`].
    pub async fn consume_batch_noting(
        &self,
        entries: &[UsageEntry],
        note: impl FnOnce(&[ThresholdCrossed]) -> Option<Note>,
    ) -> Result<Vec<ThresholdCrossed>, BatchError> {
        let meter = self.inner.meter;
        let started = meter.start();
        let result = match &self.inner.place {
            Place::Memory(shards) => shards.consume_batch(entries),
            Place::File(file) => {
                let call = ConsumeBatch { entries: entries.into() };
                let recorded = file.run_noting(&call, |crossed| note(crossed)).await;
                recorded.map_err(|error| BatchError { error, unrecorded: (0..entries.len()).collect() })
            }
            Place::Store(lanes) => lanes.consume_batch(entries).await,
        };
        let result = result.inspect(|crossed| {
            entries.iter().for_each(|entry| meter.tokens(entry.prompt_tokens, entry.completion_tokens));
            meter.crossed(crossed);
        });
        meter.end(ConsumeBatch::NAME, started, result.as_ref().err().map(|failed| &failed.error));
        result
    }
}
