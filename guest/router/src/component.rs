//! The exports, each a translation of one call.

extern crate alloc;

use crate::runtime::InstanceState;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bindings::exports::thread_budget::registry::types;
use bindings::exports::thread_budget::router::policy;
use thread_budget_router_core as core;

mod bindings {
    #![allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]
    use super::Component;
    wit_bindgen::generate!({
        path: ["../../wit", "../../wit/router"],
        world: "thread-budget:router/router",
        disable_run_ctors_once_workaround: true,
        generate_all,
    });
    export!(Component);
}

/// The exchange of this instance, once it is configured.
static EXCHANGE: InstanceState<Option<core::Exchange>> = InstanceState::new(None);

struct Component;

impl policy::Guest for Component {
    fn compile(configuration: String) -> Result<Vec<u8>, String> {
        let compiled = core::Config::from_json(&configuration).and_then(|config| config.compiled());
        compiled.map_err(|error| error.to_string())
    }

    fn configure(compiled: Vec<u8>) -> Result<(), String> {
        let config = core::Config::from_compiled(&compiled).map_err(|error| error.to_string())?;
        EXCHANGE.with(|exchange| *exchange = Some(core::Exchange::new(config)));
        Ok(())
    }

    fn step(now_ms: u64, event: policy::Event) -> policy::Turn {
        EXCHANGE.with(|exchange| match exchange {
            Some(exchange) => exchange.step(now_ms, event.into()).into(),
            None => {
                let text = "the exchange is not configured".into();
                let entry = policy::LogEntry { level: policy::Level::Error, text };
                policy::Turn { actions: [policy::Action::Log(entry)].into(), next: policy::Next::Done }
            }
        })
    }
}

/// Translate a record field by field; a field that is added or renamed stops compiling.
macro_rules! translate {
    ($from:path => $to:path { $($field:ident),* $(,)? }) => {
        impl From<$from> for $to {
            fn from($from { $($field),* }: $from) -> Self {
                Self { $($field: $field.into()),* }
            }
        }
    };
}

/// Translate only those fields of a record that are needed.
macro_rules! translate_some {
    ($from:path => $to:path { $($field:ident),* $(,)? }) => {
        impl From<$from> for $to {
            fn from(from: $from) -> Self {
                Self { $($field: from.$field.into()),* }
            }
        }
    };
}

/// Translate an enum or a variant, case by case.
macro_rules! translate_cases {
    ($from:path => $to:path { $($case:ident $(($value:ident))?),* $(,)? }) => {
        impl From<$from> for $to {
            fn from(from: $from) -> Self {
                use $from as From_;
                match from {
                    $(From_::$case $(($value))? => Self::$case $(($value.into()))?,)*
                }
            }
        }
    };
}

/// Where a field is a list of records, each is translated.
fn each<T, U: From<T>>(list: Vec<T>) -> Vec<U> {
    list.into_iter().map(Into::into).collect()
}

// -- what goes in

impl From<policy::Event> for core::Event {
    fn from(event: policy::Event) -> Self {
        match event {
            policy::Event::Request(request) => Self::Request(request.into()),
            policy::Event::Recalled(kept) => Self::Recalled(kept.map(Into::into)),
            policy::Event::Claimed => Self::Claimed,
            policy::Event::NotClaimed(conflict) => Self::NotClaimed(conflict.into()),
            policy::Event::Held(held) => Self::Held(held.into()),
            policy::Event::NotHeld(error) => Self::NotHeld(error.into()),
            policy::Event::Settled(consumed) => Self::Settled(consumed.into()),
            policy::Event::NotSettled(error) => Self::NotSettled(error.into()),
            policy::Event::Unavailable(why) => Self::Unavailable(why),
            policy::Event::Answer(answer) => Self::Answer(answer.into()),
            policy::Event::Piece(piece) => Self::Piece(piece),
            policy::Event::Ended => Self::Ended,
            policy::Event::Failed(failure) => Self::Failed(failure.into()),
            policy::Event::Woke => Self::Woke,
            policy::Event::Left => Self::Left,
            policy::Event::Stopping => Self::Stopping,
        }
    }
}

translate!(policy::HoldName => core::HoldName { thread_id, request_id });
translate!(policy::Kept => core::Kept { name, hold, upstream, model, prompt_tokens, completion_tokens, for_ms });
translate_cases!(policy::KeyConflict => core::KeyConflict { InFlight, OtherBody });
translate!(policy::Request => core::Request { id, chance, date, method, target, headers, body });
translate_cases!(policy::RequestBody => core::RequestBody { Whole(body), TooLong, TooSlow, Broken });
translate!(policy::Answer => core::Answer { status, headers, body });
translate!(policy::Failure => core::Failure { kind, received_bytes, reason });
translate_cases!(policy::FailureKind => core::FailureKind { Unsent, Lost, Slow, TooLong });

translate!(types::Usage => core::Usage {
    prompt_tokens, completion_tokens, total_tokens, remaining, max_tokens, request_count
});
translate_cases!(types::Severity => core::Severity { Warning, Critical, Final });
translate_some!(types::BudgetWarning => core::BudgetWarning { threshold_percent, max_tokens, message });
translate!(types::BudgetExhausted => core::BudgetExhausted { thread_id, used, held, max_tokens, requested });

impl From<types::Held> for core::Held {
    fn from(held: types::Held) -> Self {
        let types::Held { completion_tokens, usage, room, severity, runway, pending, repeated } = held;
        let (usage, severity) = (usage.into(), severity.map(Into::into));
        Self { completion_tokens, usage, room, severity, runway, pending: each(pending), repeated }
    }
}

impl From<types::Consumed> for core::Consumed {
    fn from(consumed: types::Consumed) -> Self {
        let types::Consumed { usage, room, severity, repeated, .. } = consumed;
        Self { usage: usage.into(), room, severity: severity.map(Into::into), repeated }
    }
}

impl From<types::RegistryError> for core::RegistryError {
    fn from(error: types::RegistryError) -> Self {
        match error {
            types::RegistryError::Exhausted(exhausted) => Self::Exhausted(exhausted.into()),
            types::RegistryError::InvalidThreadId(why) => Self::InvalidThreadId(why),
            types::RegistryError::TooManyThreads(most) => Self::TooManyThreads(most),
            types::RegistryError::UnknownParent(parent) => Self::UnknownParent(parent),
            types::RegistryError::ParentCycle(parent) => Self::ParentCycle(parent),
            types::RegistryError::TooDeep(most) => Self::TooDeep(most),
            types::RegistryError::OptionsDiffer(thread_id) => Self::OptionsDiffer(thread_id),
            types::RegistryError::TooManyHolds(most) => Self::TooManyHolds(most),
            types::RegistryError::UnknownHold => Self::UnknownHold,
            types::RegistryError::OutOfMemory => Self::Other("its memory is used up".into()),
            types::RegistryError::InvalidRequestId(why) | types::RegistryError::InvalidState(why) => {
                Self::Other(why)
            }
            types::RegistryError::InvalidThreshold(percent) => {
                Self::Other(format!("a threshold of {percent} percent"))
            }
            types::RegistryError::BatchTooLarge(most) => Self::Other(format!("a batch of more than {most}")),
        }
    }
}

// -- what comes out

impl From<core::Turn> for policy::Turn {
    fn from(core::Turn { actions, next }: core::Turn) -> Self {
        Self { actions: each(actions), next: next.into() }
    }
}

translate_cases!(core::Action => policy::Action {
    Respond(response), Bytes(bytes), Release(name), Keep(kept), Acknowledge(acknowledged), Unidentified(client),
    Log(entry),
});
translate_cases!(core::Next => policy::Next {
    Recall(name), Claim(key), Hold(hold), Settle(settle), Send(send), Read(within), Wait(pause), Resume, Done,
});
translate!(core::Kept => policy::Kept { name, hold, upstream, model, prompt_tokens, completion_tokens, for_ms });
translate!(core::HoldName => policy::HoldName { thread_id, request_id });
translate!(core::Settle => policy::Settle {
    thread_id, request_id, prompt_tokens, completion_tokens, remember
});
translate!(core::ThreadOptions => types::ThreadOptions { max_tokens, parent });
translate!(core::Opening => policy::Opening { thread_id, options });
translate!(core::Acknowledgement => types::Acknowledgement { threshold_percent, max_tokens });
translate!(core::OwnKey => policy::OwnKey { variable, header, prefix });
translate!(core::Header => policy::Header { name, value });
translate!(core::LogEntry => policy::LogEntry { level, text });
translate_cases!(core::Level => policy::Level { Info, Warn, Error });
translate_cases!(core::ResponseBody => policy::ResponseBody { Received, Whole(body), Pieces });

impl From<core::Hold> for policy::Hold {
    fn from(hold: core::Hold) -> Self {
        let core::Hold {
            open,
            thread_id,
            request_id,
            prompt_tokens,
            completion_tokens,
            least_completion_tokens,
        } = hold;
        Self {
            open: each(open),
            thread_id,
            request_id,
            prompt_tokens,
            completion_tokens,
            least_completion_tokens,
        }
    }
}

impl From<core::Acknowledged> for policy::Acknowledged {
    fn from(core::Acknowledged { thread_id, warnings }: core::Acknowledged) -> Self {
        Self { thread_id, warnings: each(warnings) }
    }
}

impl From<core::ProviderRequest> for policy::ProviderRequest {
    fn from(request: core::ProviderRequest) -> Self {
        let core::ProviderRequest {
            upstream,
            url,
            remove,
            set,
            key,
            body,
            whole,
            most_bytes,
            connect_ms,
            head_ms,
            idle_ms,
            total_ms,
        } = request;
        let (set, key) = (each(set), key.map(Into::into));
        Self {
            upstream,
            url,
            remove,
            set,
            key,
            body,
            whole,
            most_bytes,
            connect_ms,
            head_ms,
            idle_ms,
            total_ms,
        }
    }
}

impl From<core::Response> for policy::Response {
    fn from(core::Response { status, passed, remove, set, body }: core::Response) -> Self {
        Self { status, passed, remove, set: each(set), body: body.into() }
    }
}
