//! One request's hold on its thread's budget.

use crate::bindings::thread_budget::registry::registry;
use crate::bindings::thread_budget::registry::types::{
    Acknowledgement, BudgetWarning, Held, RegistryError, Severity as Urgency, ThreadOptions, Usage as ThreadUsage,
};
use crate::reply::{Headers, Problem, header};
use std::hash::{BuildHasher, RandomState};
use thread_budget_router_http_core::{Config, ErrorType, Estimate, Severity, Usage};

/// How many completion tokens more a stream holds when it needs more.
const SLICE: u64 = 256;

/// What a request says of the thread it belongs to.
pub(crate) struct Thread {
    pub(crate) id: String,
    /// What it is opened with when it is new; none without a say in that.
    pub(crate) options: Option<ThreadOptions>,
    /// What makes the accounting of a repeated request count once.
    pub(crate) request_id: Option<String>,
}

/// A hold. Dropping it releases it: nothing was used.
pub(crate) struct Hold {
    thread_id: String,
    request_id: String,
    /// Whether the request may come again.
    remember: bool,
    pub(crate) estimate: Estimate,
    /// What is held.
    held: Usage,
    pending: Vec<BudgetWarning>,
    standing: Standing,
    is_settled: bool,
}

/// Where a thread stands.
#[derive(Clone, Copy)]
struct Standing {
    usage: ThreadUsage,
    severity: Option<Severity>,
}

impl Standing {
    fn new(usage: ThreadUsage, urgency: Option<Urgency>) -> Self {
        Self { usage, severity: urgency.map(severity) }
    }
}

impl Hold {
    /// Hold the estimate, or say why not.
    pub(crate) fn new(config: &Config, thread: Thread, estimate: Estimate) -> Result<Self, Problem> {
        let Thread { id: thread_id, options, request_id } = thread;
        if let Some(mut options) = options {
            if registry::has_budget(&thread_id) {
                // An operator may have given it another limit since; another parent it cannot have.
                options.max_tokens = None;
            }
            registry::open_thread(&thread_id, &options)
                .map_err(|error| problem(config, &thread_id, error))?;
        }
        let remember = request_id.is_some();
        let request_id =
            request_id.unwrap_or_else(|| format!("{:016x}", RandomState::new().hash_one(&thread_id)));
        let Estimate { prompt, completion } = estimate;
        let granted = hold(&thread_id, &request_id, prompt, completion, completion)
            .map_err(|error| problem(config, &thread_id, error))?;
        Ok(Self {
            thread_id,
            request_id,
            remember,
            estimate,
            held: Usage { prompt, completion },
            pending: granted.pending,
            standing: Standing::new(granted.usage, granted.severity),
            is_settled: false,
        })
    }

    /// The thread's id.
    pub(crate) fn thread_id(&self) -> &str {
        &self.thread_id
    }

    /// The messages of warnings that the agent has not had, the most urgent last.
    pub(crate) fn warnings(&self) -> Vec<String> {
        messages(&self.pending)
    }

    /// The agent has them.
    pub(crate) fn acknowledge(&self) {
        acknowledge(&self.thread_id, &self.pending);
    }

    /// Whether so much is held, or can be, beside what all others hold. More is held by the slice.
    pub(crate) fn fits(&mut self, used: Usage) -> bool {
        let total = |usage: Usage| usage.prompt.saturating_add(usage.completion);
        if total(used) <= total(self.held) {
            return true;
        }
        let Usage { prompt, completion } = used;
        let wanted = completion.saturating_add(SLICE);
        match hold(&self.thread_id, &self.request_id, prompt, wanted, completion) {
            Ok(granted) => {
                self.held = Usage { prompt, completion: granted.completion_tokens };
                true
            }
            Err(_) => false,
        }
    }

    /// Headers that say where the thread stands.
    pub(crate) fn headers(&self) -> Headers {
        headers(self.standing)
    }

    /// Count what the request used, and say where the thread stands then.
    pub(crate) fn settle(mut self, used: Usage) -> Settled {
        let Usage { prompt, completion } = used;
        let settle = |remember| {
            registry::settle(&self.thread_id, &self.request_id, prompt, completion, remember)
        };
        let settled = match settle(self.remember) {
            // What was used counts, known again or not.
            Err(RegistryError::OutOfMemory) => settle(false),
            settled => settled,
        };
        self.is_settled = true;
        match settled {
            Ok(consumed) => {
                self.standing = Standing::new(consumed.usage, consumed.severity);
            }
            Err(error) => {
                let tokens = prompt.saturating_add(completion);
                eprintln!("thread {:?}: {tokens} tokens are not counted: {error:?}", self.thread_id);
            }
        }
        Settled { thread_id: std::mem::take(&mut self.thread_id), standing: self.standing }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.is_settled {
            registry::release(&self.thread_id, &self.request_id);
        }
    }
}

/// A request that has been counted.
pub(crate) struct Settled {
    thread_id: String,
    standing: Standing,
}

impl Settled {
    /// The messages of warnings that the agent has not had, the most urgent last. Now it has them.
    pub(crate) fn take_warnings(&self) -> Vec<String> {
        let pending = registry::pending_warnings(&self.thread_id);
        acknowledge(&self.thread_id, &pending);
        messages(&pending)
    }

    /// Headers that say where the thread stands.
    pub(crate) fn headers(&self) -> Headers {
        headers(self.standing)
    }
}

/// Hold, for whoever keeps the registry: it says who that is, and until when.
fn hold(
    thread_id: &str,
    request_id: &str,
    prompt: u64,
    completion: u64,
    least: u64,
) -> Result<Held, RegistryError> {
    registry::hold(thread_id, request_id, prompt, completion, least, 0, 0)
}

fn acknowledge(thread_id: &str, warnings: &[BudgetWarning]) {
    if !warnings.is_empty() {
        let name = |warning: &BudgetWarning| Acknowledgement {
            threshold_percent: warning.threshold_percent,
            max_tokens: warning.max_tokens,
        };
        registry::acknowledge_warnings(thread_id, &warnings.iter().map(name).collect::<Vec<_>>());
    }
}

fn messages(warnings: &[BudgetWarning]) -> Vec<String> {
    let mut warnings: Vec<_> = warnings.iter().collect();
    warnings.sort_by_key(|warning| severity(warning.severity));
    warnings.into_iter().map(|warning| warning.message.clone()).collect()
}

fn severity(urgency: Urgency) -> Severity {
    match urgency {
        Urgency::Warning => Severity::Warning,
        Urgency::Critical => Severity::Critical,
        Urgency::Final => Severity::Final,
    }
}

fn headers(Standing { usage, severity }: Standing) -> Headers {
    // As the contract has it: 0 of a limit of 0.
    let percent =
        if usage.max_tokens == 0 { 0.0 } else { usage.total_tokens as f64 / usage.max_tokens as f64 * 100.0 };
    let mut headers = vec![
        header("x-ratelimit-limit-tokens", usage.max_tokens),
        header("x-ratelimit-remaining-tokens", usage.remaining),
        header("x-budget-used-percent", format_args!("{percent:.1}")),
    ];
    if let Some(severity) = severity {
        headers.push(header("x-budget-warning", severity.as_str()));
    }
    headers
}

/// Where a thread stands that was refused, if it exists.
fn standing(config: &Config, thread_id: &str) -> Option<Standing> {
    let usage = registry::get_usage(thread_id)?;
    let crossed = registry::get_budget(thread_id).ok()?.triggered_thresholds();
    let crossed = config.thresholds.iter().filter(|threshold| crossed.contains(&threshold.percent));
    Some(Standing { usage, severity: crossed.map(|threshold| threshold.severity).max() })
}

fn problem(config: &Config, thread_id: &str, error: RegistryError) -> Problem {
    let invalid = |message| Problem::new(400, ErrorType::InvalidRequest, message);
    match error {
        RegistryError::Exhausted(exhausted) => {
            let held = if exhausted.held > 0 { format!(" and {} are held", exhausted.held) } else { String::new() };
            let message = format!(
                "thread {} has used {} of {} tokens{held}, a request of {} does not fit",
                exhausted.thread_id, exhausted.used, exhausted.max_tokens, exhausted.requested
            );
            let mut problem = Problem::new(429, ErrorType::BudgetExhausted, message);
            problem.headers.push(header("x-should-retry", "false"));
            // Where the thread that was asked for stands, be it an ancestor's budget that is used up.
            if let Some(standing) = standing(config, thread_id) {
                problem.headers.extend(headers(standing));
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
        RegistryError::OptionsDiffer(_) => invalid("the thread exists with another limit or parent".into()),
        RegistryError::TooManyThreads(most) => Problem::new(
            503,
            ErrorType::Overloaded,
            format!("there are already {most} threads, the most there may be"),
        ),
        RegistryError::TooManyHolds(most) => Problem::new(
            503,
            ErrorType::Overloaded,
            format!("{most} requests of the thread are in flight, the most there may be"),
        ),
        other => Problem::new(
            503,
            ErrorType::Overloaded,
            format!("the registry cannot take the request: {other:?}"),
        ),
    }
}
