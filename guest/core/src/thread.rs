//! One thread: its budget, its place in a tree of threads, and the handle on both.

use crate::answer::{Consumed, Held, ThresholdCrossed};
use crate::budget::{Budget, Usage};
use crate::cell::CloneCell;
use crate::crossings::Crossings;
use crate::error::BudgetExhausted;
use crate::index::{Index, Named};
use crate::percent::round_to_tenth;
use crate::request::{List, Request};
use crate::request_window::RequestWindow;
use crate::same::is_same;
use crate::threshold::{PercentSet, Severity, Threshold, Thresholds};
use crate::tokens::Tokens;
use crate::warning::BudgetWarning;
use alloc::boxed::Box;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, OnceCell, Ref, RefCell, RefMut};

/// A live view of one thread's budget. Clones share it; it outlives its place in the registry and
/// then goes on counting, detached.
#[derive(Clone, Debug)]
pub struct ThreadBudget(Rc<Thread>);

/// The same, without keeping it alive. The default is none.
#[derive(Clone, Debug, Default)]
pub(crate) struct WeakThread(Weak<Thread>);

/// 120 bytes on WebAssembly: eight more would cost sixteen.
#[derive(Debug)]
struct Thread {
    id: Box<str>,
    /// Tells it from other threads of that id.
    birth: Cell<u64>,
    budget: Cell<Budget>,
    crossings: Cell<Crossings>,
    /// What is held of it and of those below it.
    held_tokens: Cell<u64>,
    /// The requests that were made for it.
    own: List,
    extras: OnceCell<Box<Extras>>,
    standing: Cell<Standing>,
    /// Counted already in what a batch may report.
    counted: Cell<bool>,
}

/// Whether a registry counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Counted,
    /// And that it has changed is noted.
    Noted,
    Detached,
}

/// What few threads have; the others pay a pointer for it.
#[derive(Debug, Default)]
struct Extras {
    /// Given a limit or a parent of its own, which it keeps over a reset.
    opened: Cell<bool>,
    parent: CloneCell<WeakThread>,
    children: RefCell<Index<ThreadBudget, 1>>,
    /// The requests that it remembers.
    remembered: RefCell<RequestWindow>,
    /// Requests of threads below it that are gone: without a mark, and with one.
    moved_holds: List,
    moved_marks: List,
}

/// A thread that has a parent is listed by that.
impl Named<1> for ThreadBudget {
    fn name(&self) -> [&str; 1] {
        [self.thread_id()]
    }

    fn is_listed(&self) -> bool {
        self.parent().is_none()
    }
}

impl WeakThread {
    pub(crate) fn upgrade(&self) -> Option<ThreadBudget> {
        self.0.upgrade().map(ThreadBudget)
    }
}

impl ThreadBudget {
    pub(crate) fn new(id: &str, birth: u64, budget: Budget, crossings: Crossings) -> Self {
        Self(Rc::new(Thread {
            id: id.into(),
            birth: Cell::new(birth),
            budget: Cell::new(budget),
            crossings: Cell::new(crossings),
            held_tokens: Cell::new(0),
            own: List::new(),
            extras: OnceCell::new(),
            standing: Cell::new(Standing::Counted),
            counted: Cell::new(false),
        }))
    }

    pub(crate) fn downgrade(&self) -> WeakThread {
        WeakThread(Rc::downgrade(&self.0))
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// The thread this budget was created for.
    #[must_use]
    pub fn thread_id(&self) -> &str {
        &self.0.id
    }

    /// Tells it from other threads that had its id before or have it after.
    #[must_use]
    pub fn birth(&self) -> u64 {
        self.0.birth.get()
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

    /// The thresholds crossed so far, with the severity they were crossed with, ascending by percent.
    pub fn triggered(&self) -> impl Iterator<Item = Threshold> {
        self.0.crossings.get().iter()
    }

    /// Those of them that nobody has acknowledged.
    pub fn pending(&self) -> impl Iterator<Item = Threshold> {
        self.0.crossings.get().pending()
    }

    /// Tokens held for requests in flight, of this thread and of those below it.
    #[must_use]
    pub fn held_tokens(&self) -> u64 {
        self.0.held_tokens.get()
    }

    /// Whether the registry has forgotten this budget, or replaced it by a fresh one.
    #[must_use]
    pub fn is_detached(&self) -> bool {
        self.0.standing.get() == Standing::Detached
    }

    /// Note that it has changed, for a registry that counts it. Says whether that is news.
    pub(crate) fn note(&self) -> bool {
        let news = self.0.standing.get() == Standing::Counted;
        if news {
            self.0.standing.set(Standing::Noted);
        }
        news
    }

    pub(crate) fn is_noted(&self) -> bool {
        self.0.standing.get() == Standing::Noted
    }

    /// What was noted is told.
    pub(crate) fn tell(&self) {
        if self.is_noted() {
            self.0.standing.set(Standing::Counted);
        }
    }

    /// What is left beside what is used and held, here or in the ancestor where that is least.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.line().fold(u64::MAX, |room, thread| room.min(thread.budget().room(thread.held_tokens())))
    }

    /// Whether total + held + estimate stays within the limit, here and in every ancestor.
    #[must_use]
    pub fn can_consume(&self, estimated_tokens: u64) -> bool {
        self.line().all(|thread| thread.budget().can_consume(thread.held_tokens(), estimated_tokens))
    }

    /// Record what one request used, here and in every ancestor, and report what it crossed.
    pub(crate) fn consume(
        &self,
        prompt_tokens: u64,
        completion_tokens: u64,
        thresholds: &Thresholds,
    ) -> Consumed {
        self.charge(Tokens::new(prompt_tokens, completion_tokens), true, thresholds)
    }

    /// Count tokens here and in every ancestor: those of a request or, for one that was counted before, what
    /// is more.
    pub(crate) fn charge(&self, tokens: Tokens, is_request: bool, thresholds: &Thresholds) -> Consumed {
        let (mut room, mut crosses) = (u64::MAX, false);
        for thread in self.line() {
            let mut budget = thread.budget();
            budget.record(tokens, is_request);
            thread.0.budget.set(budget);
            room = room.min(budget.room(thread.held_tokens()));
            crosses |= !thread.newly_reached(thresholds).is_empty();
        }
        let mut crossed = Vec::new();
        if crosses {
            // When all have counted, since a report says what is left in the ancestors too.
            self.line().for_each(|thread| thread.cross(thresholds, &mut crossed));
        }
        Consumed { usage: self.usage(), room, severity: self.severity(), crossed, repeated: false }
    }

    /// Where it stands, when nothing was counted because it knows the request.
    pub(crate) fn repeated(&self) -> Consumed {
        Consumed {
            usage: self.usage(),
            room: self.room(),
            severity: self.severity(),
            crossed: Vec::new(),
            repeated: true,
        }
    }

    /// Where it stands when that many completion tokens are held.
    pub(crate) fn held(&self, completion_tokens: u64, repeated: bool) -> Held {
        let room = self.room();
        Held {
            completion_tokens,
            usage: self.usage(),
            room,
            severity: self.severity(),
            runway: self.runway_in(room),
            pending: self.pending_warnings(),
            repeated,
        }
    }

    fn severity(&self) -> Option<Severity> {
        self.0.crossings.get().severity()
    }

    /// How many requests of the average size fit in that room; none while that is 0.
    fn runway_in(&self, room: u64) -> Option<u64> {
        room.checked_div(self.budget().average_tokens())
    }

    fn newly_reached(&self, thresholds: &Thresholds) -> PercentSet {
        self.0.crossings.get().new_of(thresholds, &self.budget())
    }

    /// Report, and mark, the thresholds that are reached and were not reported before.
    pub(crate) fn check_thresholds(&self, thresholds: &Thresholds) -> Vec<ThresholdCrossed> {
        let mut crossed = Vec::new();
        self.cross(thresholds, &mut crossed);
        crossed
    }

    fn cross(&self, thresholds: &Thresholds, report: &mut Vec<ThresholdCrossed>) {
        let mut crossings = self.0.crossings.get();
        let reached = self.newly_reached(thresholds);
        report.reserve_exact(reached.len());
        for threshold in reached.iter().map(|percent| thresholds.get(percent)) {
            crossings.insert(threshold);
            report.push(self.report(threshold));
        }
        self.0.crossings.set(crossings);
    }

    /// What there is to say of a threshold that was crossed, with the numbers of now.
    fn report(&self, Threshold { percent, severity }: Threshold) -> ThresholdCrossed {
        let budget = self.budget();
        let usage = budget.usage();
        ThresholdCrossed {
            thread_id: self.thread_id().into(),
            threshold_percent: percent,
            severity,
            percent_used: round_to_tenth(budget.percent_used()),
            tokens_used: usage.total_tokens,
            tokens_remaining: usage.remaining,
            max_tokens: usage.max_tokens,
            runway: self.runway_in(self.room()),
        }
    }

    /// The warnings that nobody has acknowledged, ascending by percent.
    #[must_use]
    pub fn pending_warnings(&self) -> Vec<BudgetWarning> {
        if self.0.crossings.get().is_empty() {
            return Vec::new();
        }
        self.pending().map(|threshold| self.report(threshold).into()).collect()
    }

    /// The agent has these: percent and limit of each. Says whether that changed something.
    pub(crate) fn acknowledge_warnings(&self, acknowledgements: impl Iterator<Item = (u32, u64)>) -> bool {
        let mut crossings = self.0.crossings.get();
        let limit = self.usage().max_tokens;
        acknowledgements
            .filter(|(percent, max_tokens)| PercentSet::RANGE.contains(percent) && *max_tokens == limit)
            .for_each(|(percent, _)| crossings.acknowledge(percent));
        self.0.crossings.replace(crossings) != crossings
    }

    /// Another limit, which it keeps over a reset.
    pub(crate) fn set_limit(&self, max_tokens: u64) -> Usage {
        let (mut budget, mut crossings) = (self.budget(), self.0.crossings.get());
        budget.set_limit(max_tokens);
        crossings.keep_reached(&budget);
        self.0.budget.set(budget);
        self.0.crossings.set(crossings);
        self.set_opened();
        budget.usage()
    }

    /// What a check asks, here and in every ancestor: the room there is, if the tokens fit in it. A hold that
    /// is to be changed does not count in what is held, and fits as it was.
    pub(crate) fn admit(&self, requested: u128, before: u64) -> Result<u64, BudgetExhausted> {
        self.line().try_fold(u64::MAX, |room, thread| {
            let held_tokens = thread.held_tokens().saturating_sub(before);
            Ok(room.min(thread.budget().admit(thread.thread_id(), held_tokens, requested, before)?))
        })
    }

    /// Hold other tokens than before, here and in every ancestor. The sums cannot overflow: a hold is
    /// admitted beside all others.
    pub(crate) fn replace_held(&self, before: u64, after: u64) {
        self.line().for_each(|thread| {
            thread.0.held_tokens.set(thread.held_tokens().saturating_sub(before).saturating_add(after));
        });
    }

    /// Tokens that its ancestors go on holding, and it does not.
    pub(crate) fn hand_over_held(&self, tokens: u64) {
        self.0.held_tokens.set(self.held_tokens().saturating_sub(tokens));
    }

    /// The request of that id that was made for it.
    pub(crate) fn own_request(&self, request_id: &str) -> Option<Rc<Request>> {
        self.0.own.find(|request| is_same([request.id()], [request_id]))
    }

    /// How many holds were made for it.
    pub(crate) fn own_holds(&self) -> usize {
        let mut holds = 0;
        self.0.own.for_each(&mut |request| holds += usize::from(request.hold.get().is_some()));
        holds
    }

    /// The requests with a mark that count here, and others if asked for, in no order.
    pub(crate) fn for_each_request(&self, with_mark_only: bool, do_it: &mut dyn FnMut(&Rc<Request>)) {
        self.0.own.for_each(do_it);
        if let Some(extras) = self.0.extras.get() {
            extras.moved_marks.for_each(do_it);
            if !with_mark_only {
                extras.moved_holds.for_each(do_it);
            }
        }
    }

    /// One of the requests that count here.
    pub(crate) fn a_request(&self) -> Option<Rc<Request>> {
        let moved = || {
            let extras = self.0.extras.get()?;
            extras.moved_holds.first().or_else(|| extras.moved_marks.first())
        };
        self.0.own.first().or_else(moved)
    }

    /// Where such a request is kept. What moves here comes from below, so that there are extras.
    pub(crate) fn list_of(&self, request: &Request) -> &List {
        if !request.is_moved() {
            &self.0.own
        } else if request.charged.get().is_some() {
            &self.extras().moved_marks
        } else {
            &self.extras().moved_holds
        }
    }

    /// The request ids that it remembers.
    pub(crate) fn remembered(&self) -> Option<Ref<'_, RequestWindow>> {
        self.0.extras.get().map(|extras| extras.remembered.borrow())
    }

    pub(crate) fn remembers(&self, request_id: &str) -> bool {
        self.remembered().is_some_and(|remembered| remembered.contains(request_id))
    }

    /// Remember a request that it does not know yet.
    pub(crate) fn remember(&self, request_id: Box<str>) {
        self.extras().remembered.borrow_mut().push(request_id);
    }

    #[inline]
    pub(crate) fn parent(&self) -> Option<Self> {
        self.0.extras.get()?.parent.get().upgrade()
    }

    /// The thread, its parent, its parent's parent, and so on.
    pub(crate) fn line(&self) -> impl Iterator<Item = Self> {
        core::iter::successors(Some(self.clone()), Self::parent)
    }

    /// 1 for a thread without a parent.
    pub(crate) fn depth(&self) -> u32 {
        self.line().fold(0, |depth, _| depth + 1)
    }

    pub(crate) fn children(&self) -> Option<RefMut<'_, Index<Self, 1>>> {
        self.0.extras.get().map(|extras| extras.children.borrow_mut())
    }

    /// Its first child, or the first after the one of that id.
    pub(crate) fn child_after(&self, id: Option<&str>) -> Option<Self> {
        self.children()?.after(id.map(|id| [id])).cloned()
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
        self.extras().parent.replace(parent.downgrade());
        parent.extras().children.borrow_mut().insert(self.clone());
    }

    /// Give a fresh budget its place in the tree, and leave the registry. Its requests must have left.
    pub(crate) fn replace_by(&self, fresh: &Self) {
        let (parent, held_tokens) = (self.parent(), self.held_tokens());
        let children = self.detach();
        for child in children.iter() {
            child.extras().parent.replace(fresh.downgrade());
        }
        fresh.extras().children.replace(children);
        fresh.extras().opened.set(self.is_opened());
        fresh.0.held_tokens.set(held_tokens);
        if let Some(parent) = parent {
            fresh.adopt(&parent);
        }
    }

    /// Leave the registry and the tree. Returns the children, who still name it as their parent.
    pub(crate) fn detach(&self) -> Index<Self, 1> {
        self.0.standing.set(Standing::Detached);
        self.0.held_tokens.set(0);
        let Some(extras) = self.0.extras.get() else { return Index::new() };
        if let Some(mut siblings) = extras.parent.take().upgrade().as_ref().and_then(Self::children) {
            siblings.remove([self.thread_id()]);
        }
        extras.children.take()
    }

    /// Start over. What its children hold stays.
    pub(crate) fn restart(&self, birth: u64, budget: Budget) {
        self.0.birth.set(birth);
        self.0.budget.set(budget);
        self.0.crossings.set(Crossings::NONE);
        if let Some(extras) = self.0.extras.get() {
            extras.remembered.take();
        }
    }

    /// Those of the thread and its ancestors that were not counted yet, with the thresholds that one or
    /// more consumptions may cross in each. They count as counted until [`ThreadBudget::count_again`].
    pub(crate) fn count_once(&self, thresholds: &Thresholds) -> impl Iterator<Item = (Self, usize)> {
        self.line().take_while(|thread| !thread.0.counted.replace(true)).map(|thread| {
            let most = thread.0.crossings.get().most_new_of(thresholds);
            (thread, most)
        })
    }

    pub(crate) fn count_again(&self) {
        self.line().take_while(|thread| thread.0.counted.replace(false)).for_each(drop);
    }

    fn extras(&self) -> &Extras {
        self.0.extras.get_or_init(Box::default)
    }
}
