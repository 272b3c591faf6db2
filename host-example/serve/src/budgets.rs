//! The registry, as an exchange uses it: what is held, what it cost, and who hears of it.

use super::debts::{Debt, Debts, End, may_pass};
use super::events::{Event, Events};
use super::forget::Uses;
use super::kept::Stays;
use super::policy::contract;
use super::refusal::refusal;
use std::mem;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use thread_budget_host::{
    BudgetWarning, CallError, Consumed, Held, HoldTerms, LostCalls, Note, Registry, ThreadOptions,
};

/// The registry, and who hears of what is done to it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Budgets {
    pub(super) registry: Registry,
    pub(super) events: Events,
    pub(super) debts: Debts,
    /// Holds of responses in the background.
    pub(super) stays: Stays,
    /// When threads were used.
    pub(super) uses: Uses,
    /// What is charged for a request whose exchange broke after it was sent.
    pub(super) lost_calls: LostCalls,
    /// How long a request may take.
    pub(super) longest: Duration,
}

impl Budgets {
    /// For an exchange.
    pub(super) fn account(&self) -> Account {
        Account { budgets: self.clone(), hold: None, recalled: None, pending: Vec::new() }
    }

    /// Until when this process answers for a hold that is set now and takes no longer than that, in milliseconds
    /// since 1970.
    fn deadline(&self, longest: Duration) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.saturating_add(longest).as_millis()).unwrap_or(u64::MAX)
    }

    /// Open a thread, unless it exists. One that exists below another parent is not the one that is meant; its
    /// limit may be another one since somebody has set it.
    async fn open(&self, opening: contract::Opening) -> Result<(), CallError> {
        let contract::Opening { thread_id, options } = opening;
        if !self.registry.has_budget(&thread_id).await? {
            match self.registry.open_thread(&thread_id, &options).await {
                // Somebody else has opened it just now.
                Err(CallError::OptionsDiffer { .. }) => {}
                opened => return opened.map(|_| self.changed(&thread_id)),
            }
        }
        if options.parent.is_none() {
            return Ok(());
        }
        let place = ThreadOptions { max_tokens: None, ..options };
        self.registry.open_thread(&thread_id, &place).await.map(drop)
    }

    /// End a hold. The error is one that may pass.
    pub(super) async fn end(&self, debt: &Debt) -> Result<(), CallError> {
        let Debt { thread_id, request_id, end } = debt;
        let told = match *end {
            End::Settle { prompt_tokens, completion_tokens, remember } => {
                let settled = self
                    .registry
                    .settle(thread_id, request_id, prompt_tokens, completion_tokens, remember)
                    .await;
                match settled {
                    Ok(consumed) => {
                        self.consumed(thread_id, &consumed).await;
                        Ok(true)
                    }
                    Err(error) => Err(error),
                }
            }
            End::Release => {
                self.registry.release(thread_id, request_id).await.inspect(|_| self.changed(thread_id))
            }
        };
        match told {
            Ok(true) => Ok(()),
            Err(error) if may_pass(&error) => Err(error),
            // It was told the time before, as it turns out. Perhaps the store does not have it yet.
            Ok(false) | Err(CallError::UnknownHold) => self.confirm().await,
            Err(error) => {
                tracing::error!(%error, "NOT counted: {debt}");
                Ok(())
            }
        }
    }

    /// Wait until the registry's store has all that it was told.
    pub(super) async fn confirm(&self) -> Result<(), CallError> {
        // It is written behind everything else.
        let note = Note { key: "serve".into(), value: Vec::new() };
        self.registry.consume_batch_noting(&[], |_| Some(note)).await.map(drop).map_err(|failed| failed.error)
    }

    fn changed(&self, thread_id: &str) {
        self.uses.used(thread_id);
        self.events.changed(thread_id);
    }

    async fn consumed(&self, thread_id: &str, consumed: &Consumed) {
        self.changed(thread_id);
        for crossed in &consumed.crossed {
            if let Ok(warning) = self.registry.budget_warning(crossed).await {
                self.events.announce(Event::Crossed(warning));
            }
        }
    }
}

/// What an exchange has with the registry: at most one hold at a time, for its attempt at a provider.
pub(super) struct Account {
    budgets: Budgets,
    hold: Option<Hold>,
    /// Another exchange's, which this one may end.
    recalled: Option<contract::Kept>,
    /// The warnings that the agent may be told of.
    pending: Vec<BudgetWarning>,
}

impl Account {
    /// Open threads and hold, or change what is held.
    pub(super) async fn hold(&mut self, asked: contract::Hold) -> contract::Event {
        if self.budgets.debts.health().trouble().is_some() {
            return unavailable();
        }
        match self.try_hold(asked).await {
            Ok(held) => contract::Event::Held(held),
            Err(error) => match refusal(error) {
                Ok(refused) => contract::Event::NotHeld(refused),
                Err(error) => self.fails(&error),
            },
        }
    }

    async fn try_hold(&mut self, asked: contract::Hold) -> Result<Held, CallError> {
        let contract::Hold {
            open,
            thread_id,
            request_id,
            prompt_tokens,
            completion_tokens,
            least_completion_tokens,
        } = asked;
        let budgets = &self.budgets;
        let _use = budgets.uses.begin().await;
        for contract::Opening { thread_id, options } in &open {
            [Some(thread_id), options.parent.as_ref()]
                .into_iter()
                .flatten()
                .for_each(|id| budgets.uses.used(id));
        }
        budgets.uses.used(&thread_id);
        for opening in open {
            budgets.open(opening).await?;
        }
        let mut hold = self.named(thread_id, request_id);
        let terms = HoldTerms {
            prompt_tokens,
            completion_tokens,
            least_completion_tokens,
            holder: hold.budgets.registry.holder(),
            deadline: hold.budgets.deadline(hold.budgets.longest),
        };
        hold.asks(completion_tokens);
        let result = hold.budgets.registry.set_hold(&hold.thread_id, &hold.request_id, &terms).await;
        match &result {
            Ok(held) => {
                hold.budgets.changed(&hold.thread_id);
                self.pending.clone_from(&held.pending);
                if held.repeated {
                    hold.over();
                } else {
                    hold.has(prompt_tokens, held);
                    self.hold = Some(hold);
                }
            }
            Err(error) => {
                if let CallError::Refused(exhausted) = error {
                    hold.budgets.events.announce(Event::Refused {
                        thread_id: hold.thread_id.as_str().into(),
                        exhausted: exhausted.clone(),
                    });
                }
                match hold.is_held {
                    true => self.hold = Some(hold),
                    // Whether it is there is unknown: it is released.
                    false if may_pass(error) => {}
                    false => hold.over(),
                }
            }
        }
        result
    }

    /// The request is on its way to a provider.
    pub(super) fn sent(&mut self) {
        if let Some(hold) = &mut self.hold {
            hold.is_sent = true;
        }
    }

    /// Count what was used in the place of what is held. Where that cannot be told it is owed.
    pub(super) async fn settle(&mut self, asked: contract::Settle) -> contract::Event {
        let contract::Settle { thread_id, request_id, prompt_tokens, completion_tokens, remember } = asked;
        let mut hold = self.ending(thread_id, request_id);
        hold.end = Some(End::Settle { prompt_tokens, completion_tokens, remember });
        let settled = self
            .budgets
            .registry
            .settle(&hold.thread_id, &hold.request_id, prompt_tokens, completion_tokens, remember)
            .await;
        match settled {
            Ok(consumed) => {
                self.budgets.consumed(&hold.thread_id, &consumed).await;
                hold.over();
                contract::Event::Settled(consumed)
            }
            Err(error) => match refusal(error) {
                Ok(refused) => {
                    hold.over();
                    contract::Event::NotSettled(refused)
                }
                Err(error) => self.fails(&error),
            },
        }
    }

    /// The registry could not be told something.
    fn fails(&self, error: &CallError) -> contract::Event {
        tracing::error!(%error, "the registry is out of reach");
        if may_pass(error) {
            self.budgets.debts.fails(error);
        }
        unavailable()
    }

    /// Let go of what is held. Where that cannot be told it is owed.
    pub(super) async fn release(&mut self, name: contract::HoldName) {
        let mut hold = self.ending(name.thread_id, name.request_id);
        hold.end = Some(End::Release);
        match self.budgets.registry.release(&hold.thread_id, &hold.request_id).await {
            Ok(_) => {
                self.budgets.changed(&hold.thread_id);
                hold.over();
            }
            Err(error) => _ = self.fails(&error),
        }
    }

    /// The hold stays, as nobody's own, until its time is over.
    pub(super) async fn keep(&mut self, kept: contract::Kept) {
        let name = kept.hold.clone();
        self.named(name.thread_id, name.request_id).over();
        let budgets = &self.budgets;
        let terms = HoldTerms {
            prompt_tokens: kept.prompt_tokens,
            completion_tokens: kept.completion_tokens,
            least_completion_tokens: kept.completion_tokens,
            holder: budgets.registry.holder(),
            deadline: budgets.deadline(Duration::from_millis(kept.for_ms)),
        };
        // It is there with these numbers, and stays with them should it not get its new deadline.
        let set = budgets.registry.set_hold(&kept.hold.thread_id, &kept.hold.request_id, &terms).await;
        if let Err(error) = set {
            tracing::error!(%error, "the registry cannot be told how long a hold stays");
        }
        budgets.stays.add(kept, Instant::now(), &budgets.debts);
    }

    /// What was kept by that name.
    pub(super) fn recall(&mut self, name: &str) -> Option<contract::Kept> {
        self.recalled = self.budgets.stays.find(name);
        self.recalled.clone()
    }

    /// The agent has these warnings. Where that cannot be told it gets them again.
    pub(super) async fn acknowledge(&self, told: contract::Acknowledged) {
        let contract::Acknowledged { thread_id, warnings: told } = told;
        if let Err(error) = self.budgets.registry.acknowledge_warnings(&thread_id, &told).await {
            tracing::error!(%error, "the registry cannot be told");
        }
        let told = |pending: &&BudgetWarning| told.contains(&pending.acknowledgement());
        let warnings: Vec<_> = self.pending.iter().filter(told).cloned().collect();
        if !warnings.is_empty() {
            let thread_id = thread_id.as_str().into();
            self.budgets.events.announce(Event::Delivered { thread_id, warnings });
        }
        self.budgets.changed(&thread_id);
    }

    /// The hold of that name, whose end is decided.
    fn ending(&mut self, thread_id: String, request_id: String) -> Hold {
        let is_meant = |kept: &mut contract::Kept| {
            kept.hold.thread_id == thread_id && kept.hold.request_id == request_id
        };
        if let Some(kept) = self.recalled.take_if(is_meant) {
            self.budgets.stays.remove(&kept);
        }
        self.named(thread_id, request_id)
    }

    /// The hold of that name, until it is put back or ends.
    fn named(&mut self, thread_id: String, request_id: String) -> Hold {
        let is_same = |hold: &mut Hold| hold.thread_id == thread_id && hold.request_id == request_id;
        let current = self.hold.take_if(is_same);
        current.unwrap_or_else(|| Hold::new(self.budgets.clone(), thread_id, request_id))
    }
}

/// Agents need not know why.
fn unavailable() -> contract::Event {
    contract::Event::Unavailable("what requests use cannot be recorded at the moment".into())
}

/// What the registry keeps for an attempt at a provider. Dropped before its end was told, that is owed: what was
/// decided, or else its release, or a lost call if the request was sent.
struct Hold {
    budgets: Budgets,
    thread_id: String,
    request_id: String,
    prompt_tokens: u64,
    completion_tokens: u64,
    /// The completion tokens before the latest increase, which are used for sure.
    completion_before: u64,
    is_held: bool,
    /// Whether the request may have been sent.
    is_sent: bool,
    /// What was decided.
    end: Option<End>,
    is_over: bool,
}

impl Hold {
    fn new(budgets: Budgets, thread_id: String, request_id: String) -> Self {
        Self {
            budgets,
            thread_id,
            request_id,
            prompt_tokens: 0,
            completion_tokens: 0,
            completion_before: 0,
            is_held: false,
            is_sent: false,
            end: None,
            is_over: false,
        }
    }

    /// Whoever asks for more has used what there was.
    fn asks(&mut self, completion_tokens: u64) {
        if completion_tokens > self.completion_tokens {
            self.completion_before = self.completion_tokens;
        }
    }

    fn has(&mut self, prompt_tokens: u64, held: &Held) {
        self.is_held = true;
        self.prompt_tokens = prompt_tokens;
        self.completion_tokens = held.completion_tokens;
        self.completion_before = self.completion_before.min(held.completion_tokens);
    }

    /// Its end was told.
    fn over(mut self) {
        self.is_over = true;
    }

    /// What a call is charged whose end nobody knows.
    fn lost(&self) -> End {
        let completion_tokens = match self.budgets.lost_calls {
            _ if !self.is_sent => return End::Release,
            LostCalls::Nothing => return End::Release,
            LostCalls::Prompt => self.completion_before,
            LostCalls::All => self.completion_tokens,
        };
        End::Settle { prompt_tokens: self.prompt_tokens, completion_tokens, remember: false }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.is_over {
            let end = self.end.unwrap_or_else(|| self.lost());
            let (thread_id, request_id) = (mem::take(&mut self.thread_id), mem::take(&mut self.request_id));
            self.budgets.debts.add(Debt { thread_id, request_id, end });
        }
    }
}
