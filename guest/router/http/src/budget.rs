//! One request's hold on its thread's budget.

use crate::bindings::thread_budget::registry::registry::{self, Reservation, ThreadBudget};
use crate::bindings::thread_budget::registry::types::{
    RegistryError, Severity as Urgency, ThreadOptions, Usage as ThreadUsage,
};
use crate::reply::{Headers, Problem, header};
use thread_budget_router_core::{Config, ErrorType, Estimate, Severity, Usage};

/// What a request says of the thread it belongs to.
pub(crate) struct Thread {
    pub(crate) id: String,
    /// What it is opened with when it is new; none without a say in that.
    pub(crate) options: Option<ThreadOptions>,
    /// What makes the accounting of a repeated request count once.
    pub(crate) request_id: Option<String>,
}

/// A hold. Dropping it releases it: nothing was used.
pub(crate) struct Hold<'a> {
    config: &'a Config,
    thread: Thread,
    pub(crate) estimate: Estimate,
    reservation: Reservation,
    budget: ThreadBudget,
}

impl<'a> Hold<'a> {
    /// Hold the estimate, or say why not.
    pub(crate) fn new(config: &'a Config, thread: Thread, estimate: Estimate) -> Result<Self, Problem> {
        let Thread { id, options, .. } = &thread;
        if let Some(options) = options
            && registry::get_usage(id).is_none()
        {
            registry::open_thread(id, options).map_err(|error| problem(config, id, error))?;
        }
        let reservation =
            registry::reserve(id, estimate.total()).map_err(|error| problem(config, id, error))?;
        let budget = registry::get_budget(id).map_err(|error| problem(config, id, error))?;
        Ok(Self { config, thread, estimate, reservation, budget })
    }

    /// The thread's id.
    pub(crate) fn thread_id(&self) -> &str {
        &self.thread.id
    }

    /// Whether there can be warnings: only where a threshold was crossed.
    pub(crate) fn may_have_warnings(&self) -> bool {
        !self.budget.triggered_thresholds().is_empty()
    }

    /// The messages of warnings that the agent has not had, each once, the most urgent last.
    pub(crate) fn take_warnings(&self) -> Vec<String> {
        take_warnings(&self.thread.id)
    }

    /// Whether so much fits into the budget, beside what all others hold.
    pub(crate) fn fits(&self, used: Usage) -> bool {
        let used = used.prompt.saturating_add(used.completion);
        let more = used.saturating_sub(self.estimate.total());
        more == 0 || self.budget.can_consume(more)
    }

    /// Headers that say where the thread stands.
    pub(crate) fn headers(&self) -> Headers {
        headers(self.config, &self.budget.usage(), &self.budget)
    }

    /// Count what the request used, and say where the thread stands then. To be dropped afterwards.
    pub(crate) fn settle(self, used: Usage) -> Settled<'a> {
        let Self { config, thread, reservation, budget, .. } = self;
        let Usage { prompt, completion } = used;
        let once = thread
            .request_id
            .as_deref()
            .and_then(|request_id| registry::consume_once(&thread.id, request_id, prompt, completion).ok());
        let consumed = match once {
            Some(consumed) => {
                // Counted, now or before: the hold is not needed any more.
                drop(reservation);
                consumed
            }
            None => Reservation::commit(reservation, prompt, completion),
        };
        Settled { config, thread, usage: consumed.usage, budget }
    }
}

/// A request that has been counted.
pub(crate) struct Settled<'a> {
    config: &'a Config,
    thread: Thread,
    usage: ThreadUsage,
    budget: ThreadBudget,
}

impl Settled<'_> {
    /// The messages of warnings that the agent has not had, each once, the most urgent last.
    pub(crate) fn take_warnings(&self) -> Vec<String> {
        take_warnings(&self.thread.id)
    }

    /// Headers that say where the thread stands.
    pub(crate) fn headers(&self) -> Headers {
        headers(self.config, &self.usage, &self.budget)
    }
}

fn take_warnings(thread_id: &str) -> Vec<String> {
    let mut warnings = registry::take_warnings(thread_id);
    warnings.sort_by_key(|warning| match warning.severity {
        Urgency::Warning => Severity::Warning,
        Urgency::Critical => Severity::Critical,
        Urgency::Final => Severity::Final,
    });
    warnings.into_iter().map(|warning| warning.message).collect()
}

fn headers(config: &Config, usage: &ThreadUsage, budget: &ThreadBudget) -> Headers {
    // As the contract has it: 0 of a limit of 0.
    let percent =
        if usage.max_tokens == 0 { 0.0 } else { usage.total_tokens as f64 / usage.max_tokens as f64 * 100.0 };
    let mut headers = vec![
        header("x-ratelimit-limit-tokens", usage.max_tokens),
        header("x-ratelimit-remaining-tokens", usage.remaining),
        header("x-budget-used-percent", format_args!("{percent:.1}")),
    ];
    let crossed = budget.triggered_thresholds();
    let severities = config.thresholds.iter().filter(|threshold| crossed.contains(&threshold.percent));
    if let Some(severity) = severities.map(|threshold| threshold.severity).max() {
        headers.push(header("x-budget-warning", severity.as_str()));
    }
    headers
}

fn problem(config: &Config, thread_id: &str, error: RegistryError) -> Problem {
    let invalid = |message| Problem::new(400, ErrorType::InvalidRequest, message);
    match error {
        RegistryError::Exhausted(exhausted) => {
            let message = format!(
                "thread {} has used {} of {} tokens, a request of {} does not fit",
                exhausted.thread_id, exhausted.used, exhausted.max_tokens, exhausted.requested
            );
            let mut problem = Problem::new(429, ErrorType::BudgetExhausted, message);
            problem.headers.push(header("x-should-retry", "false"));
            // Where the thread that was asked for stands, be it an ancestor's budget that is used up.
            if let (Some(usage), Ok(budget)) =
                (registry::get_usage(thread_id), registry::get_budget(thread_id))
            {
                problem.headers.extend(headers(config, &usage, &budget));
            }
            problem
        }
        RegistryError::InvalidThreadId(reason) => invalid(format!("the thread's id: {reason}")),
        RegistryError::UnknownParent(parent) => invalid(format!("the parent thread {parent} does not exist")),
        RegistryError::ParentCycle(parent) => {
            invalid(format!("the parent thread {parent} is the thread itself, or below it"))
        }
        RegistryError::TooDeep(most) => {
            invalid(format!("a line of threads, each the parent of the next, has at most {most}"))
        }
        RegistryError::OptionsDiffer(_) => {
            invalid("the thread was opened with another limit or parent just now".into())
        }
        RegistryError::TooManyThreads(most) => Problem::new(
            503,
            ErrorType::Overloaded,
            format!("there are already {most} threads, the most there may be"),
        ),
        other => Problem::new(
            503,
            ErrorType::Overloaded,
            format!("the registry cannot take the request: {other:?}"),
        ),
    }
}
