//! The contract, as it reads: lists, and a look at all of them for every question.

use thread_budget_core::{
    BudgetExhausted, BudgetWarning, Consumed, FinalBudget, Held, HoldState, LostState, RegistryError,
    Severity, ThreadState, Threshold, ThresholdCrossed, Usage, Wanted, percent_of, round_to_tenth,
};

#[derive(Clone)]
struct Thread {
    id: String,
    birth: u64,
    parent: Option<String>,
    opened: bool,
    limit: u64,
    prompt: u64,
    completion: u64,
    count: u64,
    average: u64,
    /// Percent, severity, whether pending.
    crossed: Vec<(u32, Severity, bool)>,
    remembered: Vec<String>,
}

/// What is held for a request of `owner`, or was charged for it.
#[derive(Clone)]
struct Entry<T> {
    owner: String,
    request: String,
    /// The thread where it counts.
    at: String,
    moved: bool,
    what: T,
}

#[derive(Clone, Copy)]
struct Hold {
    prompt: u64,
    completion: u64,
    holder: u64,
    deadline: u64,
}

impl Thread {
    fn total(&self) -> u64 {
        self.prompt + self.completion
    }

    fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt,
            completion_tokens: self.completion,
            total_tokens: self.total(),
            remaining: self.limit.saturating_sub(self.total()),
            max_tokens: self.limit,
            request_count: self.count,
        }
    }

    fn reaches(&self, percent: u32) -> bool {
        self.limit > 0 && self.total() * 100 >= u64::from(percent) * self.limit
    }

    fn severity(&self) -> Option<Severity> {
        self.crossed.iter().map(|(_, severity, _)| *severity).max()
    }
}

pub(crate) struct Model {
    limit: u64,
    max_threads: u32,
    next_birth: u64,
    thresholds: Vec<Threshold>,
    threads: Vec<Thread>,
    /// In the order in which they were first held.
    holds: Vec<Entry<Hold>>,
    /// Oldest first.
    marks: Vec<Entry<(u64, u64)>>,
}

impl Model {
    pub(crate) fn new() -> Self {
        let thresholds = [(75, Severity::Warning), (90, Severity::Critical), (95, Severity::Final)];
        Self {
            limit: 100_000,
            max_threads: u32::MAX,
            next_birth: 1,
            thresholds: thresholds.map(|(percent, severity)| Threshold { percent, severity }).to_vec(),
            threads: Vec::new(),
            holds: Vec::new(),
            marks: Vec::new(),
        }
    }

    pub(crate) fn configure(&mut self, limit: u64) {
        self.limit = limit;
    }

    pub(crate) fn set_max_threads(&mut self, max_threads: u32) {
        self.max_threads = max_threads;
    }

    pub(crate) fn max_threads(&self) -> u32 {
        self.max_threads
    }

    pub(crate) fn set_thresholds(&mut self, thresholds: &[Threshold]) {
        self.thresholds = thresholds.to_vec();
    }

    fn find(&self, id: &str) -> Option<&Thread> {
        self.threads.iter().find(|thread| thread.id == id)
    }

    fn the(&self, id: &str) -> &Thread {
        self.find(id).expect("it exists")
    }

    fn the_mut(&mut self, id: &str) -> &mut Thread {
        self.threads.iter_mut().find(|thread| thread.id == id).expect("it exists")
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.find(id).is_some()
    }

    pub(crate) fn limit_of(&self, id: &str) -> u64 {
        self.find(id).map_or(0, |thread| thread.limit)
    }

    /// The thread, its parent, and so on.
    fn line(&self, id: &str) -> Vec<String> {
        let mut line = vec![id.to_owned()];
        while let Some(parent) = &self.the(&line[line.len() - 1]).parent {
            line.push(parent.clone());
        }
        line
    }

    fn below(&self, id: &str) -> Vec<String> {
        let all = self.threads.iter().map(|thread| thread.id.clone());
        all.filter(|other| self.line(other).iter().any(|ancestor| ancestor == id)).collect()
    }

    pub(crate) fn held(&self, id: &str) -> u64 {
        let counts = |at: &str| self.line(at).iter().any(|ancestor| ancestor == id);
        self.holds
            .iter()
            .filter(|hold| counts(&hold.at))
            .map(|hold| hold.what.prompt + hold.what.completion)
            .sum()
    }

    fn room(&self, id: &str) -> u64 {
        let room = |id: &String| {
            let thread = self.the(id);
            thread.limit.saturating_sub(thread.total() + self.held(id))
        };
        self.line(id).iter().map(room).min().expect("a line has a thread")
    }

    fn make(&mut self, id: &str) -> Result<(), RegistryError> {
        if self.has(id) {
            return Ok(());
        }
        self.create(id, self.limit, None, false)
    }

    fn create(
        &mut self,
        id: &str,
        limit: u64,
        parent: Option<&str>,
        opened: bool,
    ) -> Result<(), RegistryError> {
        if self.threads.len() >= self.max_threads as usize {
            return Err(RegistryError::TooManyThreads(self.max_threads));
        }
        let fresh = self.fresh(id, limit, parent, opened);
        self.threads.push(fresh);
        Ok(())
    }

    fn fresh(&mut self, id: &str, limit: u64, parent: Option<&str>, opened: bool) -> Thread {
        self.next_birth += 1;
        Thread {
            id: id.into(),
            birth: self.next_birth - 1,
            parent: parent.map(Into::into),
            opened,
            limit,
            prompt: 0,
            completion: 0,
            count: 0,
            average: 0,
            crossed: Vec::new(),
            remembered: Vec::new(),
        }
    }

    fn refusal(&self, line: &[String], requested: u64, apart: u64) -> Option<RegistryError> {
        line.iter().find_map(|id| {
            let thread = self.the(id);
            let held = self.held(id) - apart;
            let taken = thread.total() + held;
            let refused = taken >= thread.limit || taken + requested > thread.limit;
            refused.then(|| {
                BudgetExhausted {
                    thread_id: id.clone(),
                    used: thread.total(),
                    held,
                    max_tokens: thread.limit,
                    requested,
                }
                .into()
            })
        })
    }

    pub(crate) fn check_budget(&mut self, id: &str, estimate: u64) -> Result<(), RegistryError> {
        self.make(id)?;
        self.refusal(&self.line(id), estimate, 0).map_or(Ok(()), Err)
    }

    pub(crate) fn consume(
        &mut self,
        id: &str,
        prompt: u64,
        completion: u64,
    ) -> Result<Consumed, RegistryError> {
        self.make(id)?;
        Ok(self.charge(id, prompt, completion, true))
    }

    fn charge(&mut self, id: &str, prompt: u64, completion: u64, is_request: bool) -> Consumed {
        let line = self.line(id);
        for id in &line {
            let thread = self.the_mut(id);
            thread.prompt += prompt;
            thread.completion += completion;
            if is_request {
                let tokens = prompt + completion;
                let moved = (3 * thread.average + tokens).div_ceil(4);
                thread.average = if thread.count == 0 { tokens } else { moved };
                thread.count += 1;
            }
        }
        let mut crossed = Vec::new();
        for id in &line {
            let thresholds = self.thresholds.clone();
            let thread = self.the_mut(id);
            for threshold in thresholds {
                let known = thread.crossed.iter().any(|(percent, ..)| *percent == threshold.percent);
                if !known && thread.reaches(threshold.percent) {
                    thread.crossed.push((threshold.percent, threshold.severity, true));
                    crossed.push((id.clone(), threshold.percent, threshold.severity));
                }
            }
            thread.crossed.sort_by_key(|(percent, ..)| *percent);
        }
        let crossed =
            crossed.iter().map(|(id, percent, severity)| self.report(id, *percent, *severity)).collect();
        Consumed { crossed, repeated: false, ..self.repeated(id) }
    }

    fn report(&self, id: &str, percent: u32, severity: Severity) -> ThresholdCrossed {
        let thread = self.the(id);
        ThresholdCrossed {
            thread_id: id.into(),
            threshold_percent: percent,
            severity,
            percent_used: round_to_tenth(percent_of(thread.total(), thread.limit)),
            tokens_used: thread.total(),
            tokens_remaining: thread.usage().remaining,
            max_tokens: thread.limit,
            runway: (thread.average > 0).then(|| self.room(id) / thread.average),
        }
    }

    fn repeated(&self, id: &str) -> Consumed {
        let thread = self.the(id);
        Consumed {
            usage: thread.usage(),
            room: self.room(id),
            severity: thread.severity(),
            crossed: Vec::new(),
            repeated: true,
        }
    }

    fn standing(&self, id: &str, completion_tokens: u64, repeated: bool) -> Held {
        let thread = self.the(id);
        Held {
            completion_tokens,
            usage: thread.usage(),
            room: self.room(id),
            severity: thread.severity(),
            pending: self.pending_warnings(id),
            repeated,
        }
    }

    pub(crate) fn pending_warnings(&self, id: &str) -> Vec<BudgetWarning> {
        let crossed = self.find(id).map_or(&[][..], |thread| &thread.crossed);
        let pending = crossed.iter().filter(|(.., pending)| *pending);
        pending.map(|(percent, severity, _)| self.report(id, *percent, *severity).into()).collect()
    }

    pub(crate) fn acknowledge_warnings(&mut self, id: &str, given: &[(u32, u64)]) {
        if !self.has(id) {
            return;
        }
        let thread = self.the_mut(id);
        for (percent, limit) in given {
            for crossed in &mut thread.crossed {
                if crossed.0 == *percent && thread.limit == *limit {
                    crossed.2 = false;
                }
            }
        }
    }

    fn hold_of(&self, owner: &str, request: &str) -> Option<usize> {
        self.holds.iter().position(|hold| hold.owner == owner && hold.request == request)
    }

    fn mark_of(&self, owner: &str, request: &str) -> Option<usize> {
        self.marks.iter().position(|mark| mark.owner == owner && mark.request == request)
    }

    fn remembers(&self, id: &str, request: &str) -> bool {
        self.find(id).is_some_and(|thread| thread.remembered.iter().any(|known| known == request))
    }

    /// Where a request counts that has a hold or a mark, and whether that is an ancestor of its thread.
    fn place_of(&self, owner: &str, request: &str) -> Option<(String, bool)> {
        let hold = self.hold_of(owner, request).map(|at| (self.holds[at].at.clone(), self.holds[at].moved));
        let mark = self.mark_of(owner, request).map(|at| (self.marks[at].at.clone(), self.marks[at].moved));
        hold.or(mark)
    }

    pub(crate) fn hold(&mut self, owner: &str, request: &str, wanted: Wanted) -> Result<Held, RegistryError> {
        let Wanted { prompt_tokens: prompt, completion_tokens: completion, holder, deadline, .. } = wanted;
        let least = wanted.least_completion_tokens.min(completion);
        let place = self.place_of(owner, request);
        if place.is_none() && self.remembers(owner, request) {
            return Ok(self.standing(owner, 0, true));
        }
        let (at, moved) = place.unwrap_or((owner.into(), false));
        let old = self.hold_of(owner, request);
        let before = old.map_or(0, |old| self.holds[old].what.prompt + self.holds[old].what.completion);
        if !self.has(&at) && self.threads.len() >= self.max_threads as usize {
            return Err(RegistryError::TooManyThreads(self.max_threads));
        }
        let own = self.holds.iter().filter(|hold| hold.at == at && !hold.moved).count();
        if old.is_none() && !moved && own == 256 {
            return Err(RegistryError::TooManyHolds(256));
        }
        let granted = if old.is_some() && prompt + completion <= before {
            completion
        } else {
            let left = if self.has(&at) {
                let line = self.line(&at);
                if let Some(refusal) = self.refusal(&line, prompt + least, before) {
                    return Err(refusal);
                }
                let left = |id: &String| self.the(id).limit - self.the(id).total() - (self.held(id) - before);
                line.iter().map(left).min().expect("a line has a thread")
            } else if self.limit == 0 || prompt + least > self.limit {
                let requested = prompt + least;
                let max_tokens = self.limit;
                return Err(BudgetExhausted { thread_id: at, used: 0, held: 0, max_tokens, requested }.into());
            } else {
                self.limit
            };
            completion.min(left - prompt).max(before.saturating_sub(prompt))
        };
        self.make(&at)?;
        let what = Hold { prompt, completion: granted, holder, deadline };
        match old {
            Some(old) => self.holds[old].what = what,
            None => self.holds.push(Entry {
                owner: owner.into(),
                request: request.into(),
                at: at.clone(),
                moved,
                what,
            }),
        }
        Ok(self.standing(&at, granted, false))
    }

    pub(crate) fn settle(
        &mut self,
        owner: &str,
        request: &str,
        prompt: u64,
        completion: u64,
        remember: bool,
    ) -> Result<Consumed, RegistryError> {
        let Some((at, moved)) = self.place_of(owner, request) else {
            if self.remembers(owner, request) {
                return Ok(self.repeated(owner));
            }
            if !remember {
                return Err(RegistryError::UnknownHold);
            }
            self.make(owner)?;
            self.remember(owner, request);
            return Ok(self.charge(owner, prompt, completion, true));
        };
        if let Some(hold) = self.hold_of(owner, request) {
            self.holds.remove(hold);
        }
        let consumed = self.charge_beyond_mark(owner, request, &at, prompt, completion);
        if remember && moved {
            self.leave_mark(owner, request, &at, moved, prompt, completion);
        } else {
            if let Some(mark) = self.mark_of(owner, request) {
                self.marks.remove(mark);
            }
            if remember {
                self.remember(owner, request);
            }
        }
        Ok(consumed)
    }

    pub(crate) fn settle_lost(
        &mut self,
        owner: &str,
        request: &str,
        prompt: u64,
        completion: u64,
    ) -> Result<Consumed, RegistryError> {
        let Some((at, moved)) = self.place_of(owner, request) else {
            return if self.remembers(owner, request) {
                Ok(self.repeated(owner))
            } else {
                Err(RegistryError::UnknownHold)
            };
        };
        let Some(hold) = self.hold_of(owner, request) else { return Ok(self.repeated(&at)) };
        self.holds.remove(hold);
        let consumed = self.charge_beyond_mark(owner, request, &at, prompt, completion);
        self.leave_mark(owner, request, &at, moved, prompt, completion);
        Ok(consumed)
    }

    fn charge_beyond_mark(
        &mut self,
        owner: &str,
        request: &str,
        at: &str,
        prompt: u64,
        completion: u64,
    ) -> Consumed {
        match self.mark_of(owner, request).map(|mark| self.marks[mark].what) {
            None => self.charge(at, prompt, completion, true),
            Some((charged_prompt, charged_completion)) => self.charge(
                at,
                prompt.saturating_sub(charged_prompt),
                completion.saturating_sub(charged_completion),
                false,
            ),
        }
    }

    fn leave_mark(
        &mut self,
        owner: &str,
        request: &str,
        at: &str,
        moved: bool,
        prompt: u64,
        completion: u64,
    ) {
        match self.mark_of(owner, request) {
            Some(mark) => {
                let what = &mut self.marks[mark].what;
                *what = (what.0.max(prompt), what.1.max(completion));
            }
            None => {
                self.marks.push(Entry {
                    owner: owner.into(),
                    request: request.into(),
                    at: at.into(),
                    moved,
                    what: (prompt, completion),
                });
                self.keep_latest_marks(at);
            }
        }
    }

    fn keep_latest_marks(&mut self, at: &str) {
        while self.marks.iter().filter(|mark| mark.at == at).count() > 64 {
            let oldest = self.marks.iter().position(|mark| mark.at == at).expect("there are some");
            self.marks.remove(oldest);
        }
    }

    fn remember(&mut self, id: &str, request: &str) {
        let remembered = &mut self.the_mut(id).remembered;
        remembered.push(request.into());
        if remembered.len() > 64 {
            remembered.remove(0);
        }
    }

    pub(crate) fn release(&mut self, owner: &str, request: &str) -> bool {
        self.hold_of(owner, request).map(|hold| self.holds.remove(hold)).is_some()
    }

    pub(crate) fn open_thread(
        &mut self,
        id: &str,
        limit: Option<u64>,
        parent: Option<&str>,
    ) -> Result<(), RegistryError> {
        if let Some(parent) = parent {
            let cycle = RegistryError::ParentCycle(parent.into());
            if parent == id {
                return Err(cycle);
            }
            if !self.has(parent) {
                return Err(RegistryError::UnknownParent(parent.into()));
            }
            if self.line(parent).iter().any(|ancestor| ancestor == id) {
                return Err(cycle);
            }
        }
        if let Some(thread) = self.find(id) {
            let same = limit.is_none_or(|limit| limit == thread.limit)
                && parent.is_none_or(|parent| Some(parent) == thread.parent.as_deref());
            return if same { Ok(()) } else { Err(RegistryError::OptionsDiffer(id.into())) };
        }
        self.create(id, limit.unwrap_or(self.limit), parent, limit.is_some() || parent.is_some())
    }

    pub(crate) fn set_limit(&mut self, id: &str, limit: u64) -> Result<Usage, RegistryError> {
        self.make(id)?;
        let thread = self.the_mut(id);
        thread.limit = limit;
        thread.opened = true;
        let reached = thread.clone();
        thread.crossed.retain(|(percent, ..)| reached.reaches(*percent));
        Ok(thread.usage())
    }

    pub(crate) fn reset_thread(&mut self, id: &str) {
        let Some(thread) = self.find(id).cloned() else { return };
        self.move_all(&[id.to_owned()], thread.parent.as_deref());
        if thread.opened || self.below(id).len() > 1 {
            let limit = if thread.opened { thread.limit } else { self.limit };
            let fresh = self.fresh(id, limit, thread.parent.as_deref(), thread.opened);
            *self.the_mut(id) = fresh;
        } else {
            self.threads.retain(|thread| thread.id != id);
        }
    }

    pub(crate) fn cleanup_thread(&mut self, id: &str) -> Option<FinalBudget> {
        let thread = self.find(id).cloned()?;
        let gone = self.below(id);
        self.move_all(&gone, thread.parent.as_deref());
        self.threads.retain(|thread| !gone.contains(&thread.id));
        Some(FinalBudget {
            usage: thread.usage(),
            percent_used: percent_of(thread.total(), thread.limit),
            triggered_thresholds: thread.crossed.iter().map(|(percent, ..)| *percent).collect(),
        })
    }

    fn move_all(&mut self, gone: &[String], heir: Option<&str>) {
        move_entries(&mut self.holds, gone, heir);
        move_entries(&mut self.marks, gone, heir);
        if let Some(heir) = heir {
            self.keep_latest_marks(heir);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.threads.clear();
        self.holds.clear();
        self.marks.clear();
    }

    /// Everything was brought back, these threads in their order.
    pub(crate) fn restored(&mut self, order: &[String]) {
        let place = |at: &str| order.iter().position(|id| id == at);
        self.holds.sort_by_key(|hold| place(&hold.at));
        self.marks.sort_by_key(|mark| place(&mark.at));
        self.next_birth = self.threads.iter().map(|thread| thread.birth + 1).max().unwrap_or(1);
    }

    /// Ascending by id.
    pub(crate) fn states(&self) -> Vec<ThreadState> {
        let mut threads = self.threads.clone();
        threads.sort_by(|a, b| a.id.cmp(&b.id));
        threads.iter().map(|thread| self.state(thread)).collect()
    }

    fn state(&self, thread: &Thread) -> ThreadState {
        let holds = self.holds.iter().filter(|hold| hold.at == thread.id);
        let marks = self.marks.iter().filter(|mark| mark.at == thread.id);
        ThreadState {
            thread_id: thread.id.clone(),
            birth: thread.birth,
            parent: thread.parent.clone(),
            opened: thread.opened,
            max_tokens: thread.limit,
            prompt_tokens: thread.prompt,
            completion_tokens: thread.completion,
            request_count: thread.count,
            average_tokens: thread.average,
            triggered_thresholds: thread
                .crossed
                .iter()
                .map(|(percent, severity, _)| Threshold { percent: *percent, severity: *severity })
                .collect(),
            pending_thresholds: thread
                .crossed
                .iter()
                .filter(|(.., pending)| *pending)
                .map(|(percent, ..)| *percent)
                .collect(),
            request_ids: thread.remembered.clone(),
            holds: holds
                .map(|hold| HoldState {
                    made_for: hold.moved.then(|| hold.owner.clone()),
                    request_id: hold.request.clone(),
                    prompt_tokens: hold.what.prompt,
                    completion_tokens: hold.what.completion,
                    holder: hold.what.holder,
                    deadline: hold.what.deadline,
                })
                .collect(),
            lost: marks
                .map(|mark| LostState {
                    made_for: mark.moved.then(|| mark.owner.clone()),
                    request_id: mark.request.clone(),
                    prompt_tokens: mark.what.0,
                    completion_tokens: mark.what.1,
                })
                .collect(),
        }
    }
}

fn move_entries<T>(entries: &mut Vec<Entry<T>>, gone: &[String], heir: Option<&str>) {
    let leaves = |entry: &Entry<T>| gone.contains(&entry.at);
    match heir {
        None => entries.retain(|entry| !leaves(entry)),
        Some(heir) => {
            for entry in entries.iter_mut().filter(|entry| leaves(entry)) {
                entry.at = heir.into();
                entry.moved = true;
            }
        }
    }
}
