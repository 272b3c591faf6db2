//! One thread: its budget, its place in a tree of threads, and the handle on both.

use crate::budget::{Budget, Usage};
use crate::error::BudgetExhausted;
use crate::index::Index;
use crate::percent::round_to_tenth;
use crate::request_window::RequestWindow;
use crate::threshold::{Severity, Thresholds};
use crate::warning::BudgetWarning;
use alloc::boxed::Box;
use alloc::rc::{Rc, Weak};
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, OnceCell, Ref, RefCell, RefMut};

/// A threshold that a call crossed, with the numbers after that call.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ThresholdCrossed {
    /// The thread whose threshold was crossed.
    pub thread_id: String,
    /// The threshold, 1 to 100.
    pub threshold_percent: u32,
    /// The threshold's severity.
    pub severity: Severity,
    /// Percent used, rounded to one decimal.
    pub percent_used: f64,
    /// Total tokens used.
    pub tokens_used: u64,
    /// Tokens left, never below 0.
    pub tokens_remaining: u64,
    /// The thread's limit in tokens.
    pub max_tokens: u64,
}

/// What a recorded consumption led to.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Consumed {
    /// Usage after the call.
    pub usage: Usage,
    /// The thresholds this call crossed: the thread's own ascending, then its ancestors', nearest first.
    pub crossed: Vec<ThresholdCrossed>,
    /// Whether [`Registry::consume_once`](crate::Registry::consume_once) had counted this request before.
    pub repeated: bool,
}

/// A live view of one thread's budget. Clones share it; it outlives its place in the registry and
/// then goes on counting, detached.
#[derive(Clone, Debug)]
pub struct ThreadBudget(Rc<Thread>);

#[derive(Debug)]
struct Thread {
    id: Box<str>,
    budget: Cell<Budget>,
    /// No longer in a registry.
    detached: Cell<bool>,
    extras: OnceCell<Box<Extras>>,
}

/// What few threads have; the others pay a pointer for it.
#[derive(Debug, Default)]
struct Extras {
    /// Given a limit or a parent of its own, which it keeps over a reset.
    opened: Cell<bool>,
    /// Dangling when there is none.
    parent: RefCell<Weak<Thread>>,
    children: RefCell<Index>,
    held_tokens: Cell<u64>,
    requests: RefCell<RequestWindow>,
}

impl ThreadBudget {
    pub(crate) fn new(id: &str, budget: Budget) -> Self {
        Self(Rc::new(Thread {
            id: id.into(),
            budget: Cell::new(budget),
            detached: Cell::new(false),
            extras: OnceCell::new(),
        }))
    }

    /// The thread this budget was created for.
    #[must_use]
    pub fn thread_id(&self) -> &str {
        &self.0.id
    }

    /// The counters of now.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.0.budget.get()
    }

    /// The usage of now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.budget().usage()
    }

    /// Tokens that live reservations hold, of this thread and of those below it.
    #[must_use]
    pub fn held_tokens(&self) -> u64 {
        self.0.extras.get().map_or(0, |extras| extras.held_tokens.get())
    }

    /// Whether the registry has forgotten this budget, or replaced it by a fresh one.
    #[must_use]
    pub fn is_detached(&self) -> bool {
        self.0.detached.get()
    }

    /// Whether total + held + estimate stays within the limit, here and in every ancestor.
    #[must_use]
    pub fn can_consume(&self, estimated_tokens: u64) -> bool {
        let fits = |thread: &Self| thread.budget().can_consume(thread.held_tokens(), estimated_tokens);
        fits(self) && self.ancestors().all(|ancestor| fits(&ancestor))
    }

    /// Record what one request used, here and in every ancestor, and report what it crossed.
    pub fn consume(&self, prompt_tokens: u64, completion_tokens: u64, thresholds: &Thresholds) -> Consumed {
        let mut crossed = Vec::new();
        let usage = self.record(prompt_tokens, completion_tokens, thresholds, &mut crossed);
        for ancestor in self.ancestors() {
            ancestor.record(prompt_tokens, completion_tokens, thresholds, &mut crossed);
        }
        Consumed { usage, crossed, repeated: false }
    }

    /// Record here alone.
    pub(crate) fn record(
        &self,
        prompt_tokens: u64,
        completion_tokens: u64,
        thresholds: &Thresholds,
        crossed: &mut Vec<ThresholdCrossed>,
    ) -> Usage {
        let mut budget = self.budget();
        budget.record(prompt_tokens, completion_tokens);
        self.cross(budget, thresholds, crossed);
        budget.usage()
    }

    /// Report, and mark, the thresholds that are reached and were not reported before.
    pub fn check_thresholds(&self, thresholds: &Thresholds) -> Vec<ThresholdCrossed> {
        let mut crossed = Vec::new();
        self.cross(self.budget(), thresholds, &mut crossed);
        crossed
    }

    /// Keep the budget, with the thresholds that it crosses marked, and report those.
    fn cross(&self, mut budget: Budget, thresholds: &Thresholds, report: &mut Vec<ThresholdCrossed>) {
        let crossed = budget.cross(thresholds);
        self.0.budget.set(budget);
        if crossed.is_empty() {
            return;
        }
        let percent_used = round_to_tenth(budget.percent_used());
        let usage = budget.usage();
        report.reserve_exact(crossed.len());
        report.extend(crossed.iter().map(|percent| ThresholdCrossed {
            thread_id: self.thread_id().into(),
            threshold_percent: percent,
            severity: thresholds.severity(percent),
            percent_used,
            tokens_used: usage.total_tokens,
            tokens_remaining: usage.remaining,
            max_tokens: usage.max_tokens,
        }));
    }

    /// Those that one consumption concerns, with the most thresholds that it can cross in each.
    pub(crate) fn largest_report(&self, thresholds: &Thresholds) -> impl Iterator<Item = (Self, usize)> {
        let left = thresholds.percents();
        core::iter::once(self.clone()).chain(self.ancestors()).map(move |thread| {
            let most = left.without(thread.budget().triggered()).len();
            (thread, most)
        })
    }

    /// Another limit, which it keeps over a reset.
    pub(crate) fn set_limit(&self, max_tokens: u64) -> Usage {
        let mut budget = self.budget();
        budget.set_limit(max_tokens);
        self.0.budget.set(budget);
        self.set_opened();
        budget.usage()
    }

    pub(crate) fn take_warnings(&self) -> Vec<BudgetWarning> {
        let mut budget = self.budget();
        let undelivered = budget.take_undelivered();
        self.0.budget.set(budget);
        undelivered.iter().map(|threshold| BudgetWarning::of_now(&budget, threshold.severity)).collect()
    }

    /// What a check asks, here and in every ancestor.
    pub(crate) fn check(&self, estimated_tokens: u64) -> Result<(), BudgetExhausted> {
        let check = |thread: &Self| {
            let budget = thread.budget();
            if budget.admits(thread.held_tokens(), estimated_tokens) {
                return Ok(());
            }
            Err(BudgetExhausted {
                thread_id: thread.thread_id().into(),
                used: budget.total_tokens(),
                max_tokens: budget.usage().max_tokens,
                requested: estimated_tokens,
            })
        };
        check(self)?;
        self.ancestors().try_for_each(|ancestor| check(&ancestor))
    }

    /// Add to what is held. The sum cannot overflow: a hold was admitted beside all the others.
    pub(crate) fn hold(&self, tokens: u64) {
        let held = &self.extras().held_tokens;
        held.set(held.get().saturating_add(tokens));
    }

    /// Take back a hold.
    pub(crate) fn release(&self, tokens: u64) {
        let held = &self.extras().held_tokens;
        held.set(held.get().saturating_sub(tokens));
    }

    /// The request ids counted lately.
    pub(crate) fn requests(&self) -> Option<Ref<'_, RequestWindow>> {
        self.0.extras.get().map(|extras| extras.requests.borrow())
    }

    pub(crate) fn requests_mut(&self) -> RefMut<'_, RequestWindow> {
        self.extras().requests.borrow_mut()
    }

    pub(crate) fn parent(&self) -> Option<Self> {
        self.0.extras.get()?.parent.borrow().upgrade().map(Self)
    }

    /// The parent, its parent, and so on.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = Self> {
        core::iter::successors(self.parent(), Self::parent)
    }

    /// 1 for a thread without a parent.
    pub(crate) fn depth(&self) -> u32 {
        self.ancestors().fold(1, |depth, _| depth + 1)
    }

    pub(crate) fn children(&self) -> Option<RefMut<'_, Index>> {
        self.0.extras.get().map(|extras| extras.children.borrow_mut())
    }

    pub(crate) fn children_mut(&self) -> RefMut<'_, Index> {
        self.extras().children.borrow_mut()
    }

    pub(crate) fn is_opened(&self) -> bool {
        self.0.extras.get().is_some_and(|extras| extras.opened.get())
    }

    /// Whether a reset leaves a fresh budget in its place, because it was opened or is a parent.
    pub(crate) fn keeps_its_place(&self) -> bool {
        self.is_opened() || self.children().is_some_and(|children| children.len() > 0)
    }

    pub(crate) fn set_opened(&self) {
        self.extras().opened.set(true);
    }

    /// Make it a child. The parent's list of children must have room.
    pub(crate) fn adopt(&self, parent: &Self) {
        *self.extras().parent.borrow_mut() = Rc::downgrade(&parent.0);
        parent.children_mut().insert(self.clone());
    }

    /// Give a fresh budget its place in the tree, and leave the registry.
    pub(crate) fn replace_by(&self, fresh: &Self) {
        let parent = self.parent();
        let children = self.detach();
        children.iter().for_each(|child| *child.extras().parent.borrow_mut() = Rc::downgrade(&fresh.0));
        *fresh.children_mut() = children;
        fresh.extras().opened.set(self.is_opened());
        if let Some(parent) = parent {
            fresh.adopt(&parent);
        }
    }

    /// Leave the registry and the tree. Returns the children, who still name it as their parent.
    pub(crate) fn detach(&self) -> Index {
        self.0.detached.set(true);
        let Some(extras) = self.0.extras.get() else { return Index::new() };
        if let Some(parent) = extras.parent.take().upgrade().map(Self) {
            parent.children_mut().remove(self.thread_id());
        }
        extras.children.take()
    }

    /// Start over. Live reservations keep what they hold until they end.
    pub(crate) fn restart(&self, budget: Budget) {
        self.0.budget.set(budget);
        if let Some(extras) = self.0.extras.get() {
            extras.requests.take();
        }
    }

    fn extras(&self) -> &Extras {
        self.0.extras.get_or_init(Box::default)
    }

    /// The eight bytes of the id after a prefix of that length, in the order of the ids.
    pub(crate) fn key_after(&self, prefix: usize) -> u64 {
        let rest = self.thread_id().as_bytes().get(prefix..).unwrap_or_default();
        (0..8).fold(0, |key, at| key << 8 | u64::from(rest.get(at).copied().unwrap_or_default()))
    }
}
