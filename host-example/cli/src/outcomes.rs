//! What would have become of each thread: when it would have been warned, and when refused.

use indicatif::HumanCount;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use thread_budget_cli::recording::Record;
use thread_budget_cli::recording::time::Moment;
use thread_budget_host::blocking::Registry;
use thread_budget_host::{CallError, Severity, ThresholdCrossed};

/// How far up a request is counted.
const MOST_LEVELS: usize = 64;

/// One thread's.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Outcome {
    /// Its requests, and those of the threads below it.
    pub(super) requests: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warned: Vec<Warned>,
    /// The first request that did not fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<Request>,
    /// The folder that its agent worked in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) project: Option<String>,
    #[serde(skip)]
    parent: Option<String>,
}

/// A threshold that it crossed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Warned {
    pub(super) percent: u32,
    pub(super) severity: Severity,
    #[serde(flatten)]
    pub(super) at: Request,
}

/// A request of a thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Request {
    /// Its number, from 1.
    pub(super) request: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) time: Option<String>,
}

/// By thread.
#[derive(Default)]
pub(super) struct Outcomes {
    threads: HashMap<String, Outcome>,
}

impl Outcomes {
    pub(super) fn of(&self, thread_id: &str) -> Option<&Outcome> {
        self.threads.get(thread_id)
    }

    /// Count a request of a thread and of those above it. See who of them would refuse so many tokens, where that is
    /// not known yet, and say whether the thread does, if `asks`.
    pub(super) fn request(
        &mut self,
        registry: &Registry,
        record: &Record,
        tokens: u64,
        asks: bool,
    ) -> Result<bool, CallError> {
        let mut refuses = false;
        let mut id = Cow::Borrowed(&*record.thread_id);
        // Trees are not that deep; whoever is said to be below itself is no loop.
        for level in 0..MOST_LEVELS {
            if !self.threads.contains_key(&*id) {
                self.threads.insert(id.clone().into_owned(), Outcome::default());
            }
            let Some(thread) = self.threads.get_mut(&*id) else { break };
            thread.requests += 1;
            if thread.project.is_none() {
                thread.project.clone_from(&record.project);
            }
            if level == 0 && thread.parent.is_none() {
                thread.parent.clone_from(&record.parent);
            }
            if thread.refused.is_none() || asks && level == 0 {
                match registry.check_budget(&id, tokens) {
                    Err(CallError::Refused(_)) => {
                        refuses |= level == 0;
                        thread.refused.get_or_insert(Request::of(thread.requests, record.at));
                    }
                    allowed => allowed?,
                }
            }
            let Some(parent) = thread.parent.clone() else { break };
            id = Cow::Owned(parent);
        }
        Ok(refuses)
    }

    /// Take note of the thresholds that the latest request crossed.
    pub(super) fn crossed(&mut self, crossed: &[ThresholdCrossed], at: Option<Moment>) {
        for crossed in crossed {
            let thread = self.threads.entry(crossed.thread_id.clone()).or_default();
            let at = Request::of(thread.requests, at);
            thread.warned.push(Warned { percent: crossed.threshold_percent, severity: crossed.severity, at });
        }
    }
}

impl Outcome {
    /// What became of it, in words.
    pub(super) fn text(&self) -> String {
        let requests = counted(self.requests, "request");
        let warned = self.warned.chunk_by(|a, b| a.at == b.at).map(|same| {
            let percents: Vec<String> = same.iter().map(|warned| warned.percent.to_string()).collect();
            format!("warned of {} % at {}", percents.join(", "), same[0].at)
        });
        let refused = self.refused.iter().map(|request| format!("refused at {request}"));
        let events: Vec<String> = warned.chain(refused).collect();
        if events.is_empty() { requests } else { format!("{requests}; {}", events.join("; ")) }
    }
}

/// A number of things.
pub(super) fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", HumanCount(number), if number == 1 { "" } else { "s" })
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {}", HumanCount(self.request))?;
        self.time.iter().try_for_each(|time| write!(f, " ({time})"))
    }
}

impl Request {
    fn of(request: u64, at: Option<Moment>) -> Self {
        Self { request, time: at.map(|at| at.to_string()) }
    }
}
