//! What an agent is told of its budget, at the end of its request.

use crate::allowance::Ask;
use crate::config::Config;
use crate::registry::{Acknowledgement, Held};
use crate::standing::{Grouped, percent_of, severity_at};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A note, and the warnings that it announces.
#[derive(Debug, Default)]
pub(crate) struct Note {
    /// What to tell; empty when all is well.
    pub(crate) text: String,
    /// What the registry need not keep for this agent any longer once a provider has taken the note.
    pub(crate) announces: Vec<Acknowledgement>,
}

impl Note {
    /// What to tell with a request for which `held` was granted. A crossing is announced in full until a
    /// provider has taken it, and from then on every request of the thread says where it stands: what was
    /// told once is in nobody's history.
    pub(crate) fn of(config: &Config, ask: &Ask, held: &Held, is_last: bool) -> Self {
        let left = held.room.saturating_add(held.completion_tokens).saturating_add(ask.prompt);
        let mut lines: Vec<String> = held.pending.iter().map(|warning| warning.message.clone()).collect();
        if let Some(latest) = held.pending.last() {
            lines.extend(latest.runway.map(|requests| format!("That is {}.", enough_for(requests))));
        } else {
            lines.extend(standing(config, held, left));
        }
        if is_last {
            lines.push(
                "This is the last request that fits the token budget, and no tools can be used: give your \
                 answer now, or say what is done and what is left to do."
                    .into(),
            );
        }
        let announces = held.pending.iter().map(|warning| Acknowledgement {
            threshold_percent: warning.threshold_percent,
            max_tokens: warning.max_tokens,
        });
        Self { text: lines.join(" "), announces: announces.collect() }
    }
}

/// One line for a thread that has crossed a threshold, or whose ancestors leave it as little as if it had.
fn standing(config: &Config, held: &Held, left: u64) -> Option<String> {
    let usage = held.usage;
    // What it may use in all, and has used of that, as far as it can tell.
    let used_or_gone = usage.max_tokens.saturating_sub(left).max(usage.total_tokens);
    held.severity.or_else(|| severity_at(&config.thresholds, used_or_gone, usage.max_tokens))?;
    let percent = percent_of(usage.total_tokens, usage.max_tokens);
    let left_text = Grouped(left);
    let average = usage.total_tokens.checked_div(usage.request_count).filter(|&average| average > 0);
    let runway = average.map(|average| format!(", {}", enough_for(left / average))).unwrap_or_default();
    Some(format!("Token budget: {percent}% used, {left_text} tokens left{runway}."))
}

fn enough_for(requests: u64) -> String {
    match requests {
        0 => "not enough for one more request like the latest".into(),
        1 => "enough for about one more request like the latest".into(),
        _ => format!("enough for about {} more requests like the latest", Grouped(requests)),
    }
}
