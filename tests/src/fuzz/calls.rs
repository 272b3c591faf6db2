//! Bytes as calls.

use super::source::{Source, link};
use crate::agreement::{self, HANDLES, Step};
use crate::call::Call;
use crate::subject::Core;
use thread_budget_host::{ThreadOptions, UsageEntry};

const RESERVATIONS: [&str; 4] = ["r0", "r1", "r2", "r3"];

/// More say nothing new, and the counts of so many calls stay below 2^53 together.
const MOST: usize = 2_000;

/// What the bytes say to do: any calls of the contract, on few threads so that they meet.
#[must_use]
pub fn steps(bytes: &[u8]) -> Vec<Step> {
    let mut source = Source::new(bytes);
    let mut steps = Vec::new();
    while !source.is_empty() && steps.len() < MOST {
        next(&mut source, &mut steps);
    }
    steps
}

pub(super) fn check(bytes: &[u8]) {
    if let Err(difference) = agreement::check(Core::default, &steps(bytes)) {
        panic!("{difference}");
    }
}

fn next(source: &mut Source<'_>, steps: &mut Vec<Step>) {
    let s = source;
    let call = match s.below(66) {
        0..=9 => {
            Call::Consume { thread_id: s.thread_id(), prompt_tokens: s.count(), completion_tokens: s.count() }
        }
        10..=13 => Call::CheckBudget { thread_id: s.thread_id(), estimated_tokens: s.any_count() },
        14..=18 => {
            Call::Reserve { thread_id: s.thread_id(), estimated_tokens: s.count(), r#as: reservation(s) }
        }
        19 => {
            Call::Reserve { thread_id: s.thread_id(), estimated_tokens: s.any_count(), r#as: reservation(s) }
        }
        20..=22 => Call::ReservationCommit {
            on: reservation(s),
            prompt_tokens: s.count(),
            completion_tokens: s.count(),
        },
        23..=24 => Call::ReservationDrop { on: reservation(s) },
        25 => Call::ReservationTokens { on: reservation(s) },
        26 => Call::ReservationChargedThread { on: reservation(s) },
        27..=29 => open(s),
        30..=31 => Call::SetLimit { thread_id: s.thread_id(), max_tokens: s.limit() },
        // A line of threads, one below the other.
        32 => {
            for n in 1..=s.below(18) {
                let options = ThreadOptions { max_tokens: None, parent: (n > 1).then(|| link(n - 1)) };
                steps.push(Step::Call(Call::OpenThread { thread_id: link(n), options, r#as: handle(s) }));
            }
            return;
        }
        33..=35 => Call::ConsumeOnce {
            thread_id: s.thread_id(),
            request_id: s.request_id(),
            prompt_tokens: s.count(),
            completion_tokens: s.count(),
        },
        // As many requests of a thread as it remembers, or somewhat fewer or more.
        36 => {
            let (thread_id, first) = (s.thread_id(), s.below(20));
            for n in 0..58 + s.below(12) {
                steps.push(Step::Call(Call::ConsumeOnce {
                    thread_id: thread_id.clone(),
                    request_id: format!("r{}", first + n),
                    prompt_tokens: 1,
                    completion_tokens: 0,
                }));
            }
            return;
        }
        37..=38 => Call::ConsumeBatch { entries: s.list(6, entry) },
        39..=40 => Call::TakeWarnings { thread_id: s.thread_id() },
        41 => Call::HeldTokens { thread_id: s.thread_id() },
        42..=43 => Call::ResetThread { thread_id: s.thread_id() },
        44..=45 => Call::CleanupThread { thread_id: s.thread_id() },
        46 => match s.below(4) {
            0 => Call::Clear {},
            page => return steps.push(Step::Restart { page: u32::from(page) }),
        },
        47 => Call::Restore { states: s.list(3, |s| s.state(Source::count)) },
        48 => Call::Configure { max_tokens_per_thread: s.limit() },
        49 => Call::MaxTokensPerThread {},
        50 => Call::SetThresholds { thresholds: s.thresholds() },
        51 => Call::Thresholds {},
        52 => Call::SetMaxThreads { max_threads: u32::from(s.below(20)) },
        53 => Call::GetBudget { thread_id: s.thread_id(), r#as: handle(s) },
        54 => Call::HasBudget { thread_id: s.thread_id() },
        55 => Call::GetUsage { thread_id: s.thread_id() },
        56 => Call::GetAllUsage {},
        57..=58 => {
            Call::BudgetConsume { on: handle(s), prompt_tokens: s.count(), completion_tokens: s.count() }
        }
        59 => Call::BudgetCheckThresholds { on: handle(s), thresholds: s.thresholds() },
        60 => Call::BudgetCanConsume { on: handle(s), estimated_tokens: s.any_count() },
        61 => Call::BudgetHeldTokens { on: handle(s) },
        62 => Call::BudgetIsDetached { on: handle(s) },
        63 => Call::BudgetTriggeredThresholds { on: handle(s) },
        64 => Call::BudgetPercentUsed { on: handle(s) },
        _ => match s.below(3) {
            0 => Call::BudgetUsage { on: handle(s) },
            1 => Call::BudgetIsExhausted { on: handle(s) },
            _ => Call::BudgetThreadId { on: handle(s) },
        },
    };
    steps.push(Step::Call(call));
}

fn open(s: &mut Source<'_>) -> Call {
    let options = ThreadOptions { max_tokens: s.maybe(Source::limit), parent: s.maybe(Source::thread_id) };
    Call::OpenThread { thread_id: s.thread_id(), options, r#as: handle(s) }
}

fn entry(s: &mut Source<'_>) -> UsageEntry {
    UsageEntry { thread_id: s.thread_id(), prompt_tokens: s.count(), completion_tokens: s.count() }
}

fn handle(s: &mut Source<'_>) -> String {
    s.pick(&HANDLES).into()
}

fn reservation(s: &mut Source<'_>) -> String {
    s.pick(&RESERVATIONS).into()
}
