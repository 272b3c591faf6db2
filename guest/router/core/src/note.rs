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
    /// told once is in nobody's history. `last` is whether it has tools, of the last request that fits.
    pub(crate) fn of(config: &Config, ask: &Ask, held: &Held, has_parent: bool, last: Option<bool>) -> Self {
        let mut lines: Vec<String> = held.pending.iter().map(|warning| warning.message.clone()).collect();
        if let Some(latest) = held.pending.last() {
            lines.extend(latest.runway.map(|requests| format!("That is {}.", enough_for(requests))));
        } else {
            lines.extend(standing(config, ask, held, has_parent));
        }
        lines.extend(last.map(|has_tools| {
            let tools = if has_tools { ", and its tools are off" } else { "" };
            format!(
                "This is the last request of this size that fits the token budget{tools}: give your answer now, \
                 or say what is done and what is left to do."
            )
        }));
        let announces = held.pending.iter().map(|warning| Acknowledgement {
            threshold_percent: warning.threshold_percent,
            max_tokens: warning.max_tokens,
        });
        Self { text: lines.join(" "), announces: announces.collect() }
    }
}

/// One line for a thread that has crossed a threshold, or whose ancestors leave it as little as if it had.
fn standing(config: &Config, ask: &Ask, held: &Held, has_parent: bool) -> Option<String> {
    let usage = held.usage;
    let left = held.room.saturating_add(held.completion_tokens).saturating_add(ask.prompt);
    let of_ancestors = || {
        let gone = usage.max_tokens.saturating_sub(left);
        severity_at(&config.thresholds, gone, usage.max_tokens).filter(|_| has_parent)
    };
    held.severity.or_else(of_ancestors)?;
    let percent = percent_of(usage.total_tokens, usage.max_tokens);
    let average = usage.total_tokens.checked_div(usage.request_count).filter(|&average| average > 0);
    let runway = average.map(|average| format!(", {}", enough_for(left / average))).unwrap_or_default();
    Some(format!("Token budget: {percent}% used, {} tokens left{runway}.", Grouped(left)))
}

fn enough_for(requests: u64) -> String {
    match requests {
        0 => "not enough for one more request like the latest".into(),
        1 => "enough for about one more request like the latest".into(),
        _ => format!("enough for about {} more requests like the latest", Grouped(requests)),
    }
}
