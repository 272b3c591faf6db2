//! What the client gets instead of an answer: the status, the reason in words, what it is called.

use crate::api::{self, Api};
use crate::config::Config;
use crate::registry::{BudgetExhausted, RegistryError};
use crate::standing::{Grouped, Standing};
use crate::turn::{Header, KeyConflict, Response, ResponseBody};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What an error is called in the body of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The thread's budget is used up, or what is asked for does not fit.
    BudgetExhausted,
    /// The request cannot be understood or served.
    InvalidRequest,
    /// There is nothing at this path.
    NotFound,
    /// No provider answered.
    Upstream,
    /// The router or its registry has no room, or failed.
    Overloaded,
}

impl ErrorKind {
    /// As it stands in a body.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::BudgetExhausted => "budget_exhausted",
            Self::InvalidRequest => "invalid_request_error",
            Self::NotFound => "not_found_error",
            Self::Upstream => "upstream_error",
            Self::Overloaded => "router_overloaded",
        }
    }
}

/// The body of a response that is an error, in the form of the API that a request's path belongs to, or else of
/// OpenAI's: for a host that answers a request itself.
#[must_use]
pub fn error_body(target: &str, kind: ErrorKind, message: &str) -> String {
    let path = target.split('?').next().unwrap_or_default();
    let api = api::of(path).unwrap_or_else(|| api::of_client(path.starts_with("/v1/messages")));
    api.error(kind, message)
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    pub(crate) headers: Vec<Header>,
}

/// When a client may try again that was refused for what others hold.
const RETRY_AFTER_SECONDS: u32 = 5;

/// When a client may try again where the router or its registry has no room.
const OVERLOADED_RETRY_AFTER_SECONDS: u32 = 1;

/// Whether a request would fit but for what requests under way hold.
pub(crate) fn is_transient(exhausted: &BudgetExhausted) -> bool {
    exhausted.used.saturating_add(exhausted.requested) <= exhausted.max_tokens
}

/// A header that this router makes.
pub(crate) fn header(name: &str, value: impl ToString) -> Header {
    Header { name: name.into(), value: value.to_string() }
}

impl Refusal {
    pub(crate) fn new(status: u16, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), headers: Vec::new() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, ErrorKind::InvalidRequest, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, ErrorKind::NotFound, message)
    }

    /// The registry does not hold what the request needs.
    pub(crate) fn of_registry(config: &Config, error: RegistryError) -> Self {
        match error {
            RegistryError::Exhausted(exhausted) => Self::exhausted(config, &exhausted),
            RegistryError::InvalidThreadId(why) => Self::invalid(format!("the thread's id: {why}")),
            RegistryError::UnknownParent(parent) => {
                Self::invalid(format!("the parent thread {parent} does not exist"))
            }
            RegistryError::ParentCycle(parent) => {
                Self::invalid(format!("the parent thread {parent} is the thread itself, or below it"))
            }
            RegistryError::TooDeep(most) => {
                Self::invalid(format!("a line of threads, each the parent of the next, has at most {most}"))
            }
            RegistryError::OptionsDiffer(_) => {
                Self::invalid("the thread was opened with another limit or parent just now")
            }
            RegistryError::TooManyThreads(most) => {
                Self::overloaded(format!("there are already {most} threads, the most there may be"))
            }
            RegistryError::TooManyHolds(most) => {
                Self::overloaded(format!("the thread has {most} requests under way, the most it may have"))
            }
            RegistryError::UnknownHold => Self::overloaded("the registry does not know the request"),
            RegistryError::Other(why) => {
                Self::overloaded(format!("the registry cannot take the request: {why}"))
            }
        }
    }

    /// The budget is used up; or what others hold leaves no room, and that passes.
    fn exhausted(config: &Config, exhausted: &BudgetExhausted) -> Self {
        let &BudgetExhausted { ref thread_id, used, held, max_tokens, requested } = exhausted;
        let room = max_tokens.saturating_sub(used).saturating_sub(held);
        let numbers = format!(
            "thread {thread_id} has used {} of {} tokens, requests under way hold {}, and {} are left; this \
             request needs {} at least",
            Grouped(used),
            Grouped(max_tokens),
            Grouped(held),
            Grouped(room),
            Grouped(requested)
        );
        let (status, what_to_do) = if is_transient(exhausted) {
            (429, "it fits once they are done: try again")
        } else {
            (config.refusal_status, "ask for less, go on in another thread, or have the limit raised")
        };
        let mut refusal =
            Self::new(status, ErrorKind::BudgetExhausted, format!("token budget: {numbers}; {what_to_do}"));
        refusal.headers = Standing::exhausted(config, exhausted).headers();
        refusal.headers.push(if is_transient(exhausted) {
            header("retry-after", RETRY_AFTER_SECONDS)
        } else {
            header("x-should-retry", "false")
        });
        refusal
    }

    /// An idempotency key says that a request is one that it is not, or one that is under way.
    pub(crate) fn of_key(conflict: KeyConflict) -> Self {
        let (status, why) = match conflict {
            KeyConflict::InFlight => (409, "a request with this idempotency key is under way"),
            KeyConflict::OtherBody => (422, "this idempotency key was used for a request with another body"),
        };
        Self::new(status, ErrorKind::InvalidRequest, why)
    }

    /// No provider has answered.
    pub(crate) fn no_answer(is_slow: bool, reason: &str) -> Self {
        let status = if is_slow { 504 } else { 502 };
        Self::new(status, ErrorKind::Upstream, format!("no upstream answered: {reason}"))
    }

    pub(crate) fn overloaded(message: impl Into<String>) -> Self {
        let mut refusal = Self::new(503, ErrorKind::Overloaded, message);
        refusal.headers.push(header("retry-after", OVERLOADED_RETRY_AFTER_SECONDS));
        refusal
    }

    /// What the client gets, as its API has it.
    pub(crate) fn into_response(mut self, api: &dyn Api) -> Response {
        self.headers.push(header("content-type", "application/json"));
        Response {
            status: self.status,
            passed: false,
            remove: Vec::new(),
            set: self.headers,
            body: ResponseBody::Whole(api.error(self.kind, &self.message).into_bytes()),
        }
    }
}
