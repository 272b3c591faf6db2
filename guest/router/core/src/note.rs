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
    /// told once is in nobody's history. `last` is whether it has tools, of the last request that fits, which
    /// says so and where it stands whatever was crossed.
    pub(crate) fn of(config: &Config, ask: &Ask, held: &Held, has_parent: bool, last: Option<bool>) -> Self {
        let mut lines: Vec<String> = held.pending.iter().map(|warning| warning.message.clone()).collect();
        let runway = if last.is_some() { None } else { runway(config, held) };
        if !lines.is_empty() {
            lines.extend(runway.map(|runway| format!("That is {runway}.")));
        } else if last.is_some() || is_near_the_limit(config, ask, held, has_parent) {
            let left = left(ask, held);
            let percent = percent_of(held.usage.total_tokens, held.usage.max_tokens);
            let runway = runway.map(|runway| format!(", {runway}")).unwrap_or_default();
            lines.push(format!("Token budget: {percent}% used, {} tokens left{runway}.", Grouped(left)));
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

/// Whether the thread has crossed a threshold, or its ancestors leave it as little as if it had.
fn is_near_the_limit(config: &Config, ask: &Ask, held: &Held, has_parent: bool) -> bool {
    let max = held.usage.max_tokens;
    let gone = max.saturating_sub(left(ask, held));
    held.severity.is_some() || has_parent && severity_at(&config.thresholds, gone, max).is_some()
}

/// What the request may use of its thread's budget and those of the ancestors, and what is left beside.
fn left(ask: &Ask, held: &Held) -> u64 {
    held.room.saturating_add(held.completion_tokens).saturating_add(ask.prompt)
}

/// How many requests like the latest fit beside this one; none where nobody knows. Of more than a slice of output
/// most is not used, so that where so much is held nobody can say that none fits.
fn runway(config: &Config, held: &Held) -> Option<String> {
    Some(match held.runway? {
        0 if held.completion_tokens > config.completion_slice => return None,
        0 => "not enough for another request like the latest".into(),
        1 => "enough for about one more request like the latest".into(),
        requests => format!("enough for about {} more requests like the latest", Grouped(requests)),
    })
}
