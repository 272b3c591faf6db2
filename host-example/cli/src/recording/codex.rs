//! Sessions of Codex, its rollouts: a file for each agent, which says after each answer what it used.

use super::json::{field, fields, has_escaped_letters, hash, moment, name, not_json, text};
use super::time::Moment;
use super::{Fields, Identity, ReadValue, Record};
use memchr::memmem::Finder;
use std::collections::VecDeque;
use std::sync::LazyLock;
use thread_budget_router_core::usage::{Report, Tokens};

/// An agent's file, as far as it was read.
#[derive(Default)]
pub(super) struct Session {
    /// Of the first line; a copied history has others.
    thread: Option<Thread>,
    model: String,
    /// What all answers used so far.
    total: Option<Tokens>,
}

struct Thread {
    id: String,
    parent: Option<String>,
    project: Option<String>,
    /// The thread whose history the file begins with.
    fork_of: Option<String>,
    /// The first of its own lines, where it says so.
    begins: Option<u64>,
}

/// What of a file's first line says where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The thread.
    pub id: String,
    /// The thread that it is below.
    pub parent: Option<String>,
}

impl ReadValue for Session {
    fn may_matter(&self, line: &[u8]) -> bool {
        static NAMES: LazyLock<[Finder<'_>; 3]> =
            LazyLock::new(|| ["token_count", "session_meta", "turn_context"].map(Finder::new));
        NAMES.iter().any(|name| name.find(line).is_some()) || has_escaped_letters(line)
    }

    fn read(&mut self, value: &str, found: &mut VecDeque<Fields>) -> Result<(), String> {
        let (mut kind, mut at, mut ordinal, mut payload) = (None, None, None, None);
        fields(value, &mut |field, value| match field {
            "type" => kind = text(value),
            "timestamp" => at = moment(value),
            "ordinal" => ordinal = value.parse().ok(),
            "payload" => payload = Some(value),
            _ => {}
        })
        .map_err(|error| not_json(&error))?;
        let Some(payload) = payload else { return Ok(()) };
        match kind.as_deref() {
            Some("session_meta") if self.thread.is_none() => self.thread = Some(Thread::read(payload)?),
            Some("turn_context") => {
                self.model = field(payload, "model").and_then(name).unwrap_or_default();
            }
            Some("event_msg") if field(payload, "type").and_then(text).as_deref() == Some("token_count") => {
                found.extend(self.count(payload, at, ordinal)?);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Session {
    fn count(
        &mut self,
        payload: &str,
        at: Option<Moment>,
        ordinal: Option<u64>,
    ) -> Result<Option<Fields>, String> {
        let thread =
            self.thread.as_ref().ok_or("a token_count before the session_meta, expected one first")?;
        let info = field(payload, "info").unwrap_or("null");
        let tokens = |name| field(info, name).filter(|usage| usage.starts_with('{')).map(used);
        let (last, total) = (tokens("last_token_usage"), tokens("total_token_usage"));
        if let Some(total) = total {
            let before = self.total.replace(total);
            // It was said again, beside news about something else.
            if before == Some(total) {
                return Ok(None);
            }
            if last.is_none() {
                return Ok(self.record(
                    thread_of(thread),
                    minus(total, before.unwrap_or_default()),
                    at,
                    total,
                ));
            }
        }
        if thread.begins.is_some_and(|begins| ordinal.is_some_and(|ordinal| ordinal < begins)) {
            return Ok(None);
        }
        let Some(last) = last else { return Ok(None) };
        Ok(self.record(thread_of(thread), last, at, total.unwrap_or(last)))
    }

    fn record(
        &self,
        mut record: Record,
        tokens: Tokens,
        at: Option<Moment>,
        total: Tokens,
    ) -> Option<Fields> {
        if tokens == Tokens::default() {
            return None;
        }
        let thread = self.thread.as_ref()?;
        // A history is copied with its numbers, at other times.
        let numbers = [tokens, total].map(|tokens| {
            [tokens.input, tokens.cached_input, tokens.cache_write, tokens.output, tokens.reasoning]
        });
        let original = thread.fork_of.as_ref().filter(|_| thread.begins.is_none());
        record.identity = Identity {
            names: [hash((&thread.id, numbers)), 0],
            copy_of: [original.map_or(0, |original| hash((original, numbers))), 0],
        };
        record.tokens = tokens;
        record.at = at;
        record.model.clone_from(&self.model);
        Some(Fields { thread_id: Some(thread.id.clone()), or_else: None, record })
    }
}

fn thread_of(thread: &Thread) -> Record {
    Record { parent: thread.parent.clone(), project: thread.project.clone(), ..Record::default() }
}

impl Thread {
    fn read(payload: &str) -> Result<Self, String> {
        let Head { id, parent } = head_of(payload)?;
        Ok(Self {
            id,
            parent,
            project: field(payload, "cwd").and_then(name),
            fork_of: field(payload, "forked_from_id").and_then(name),
            begins: field(payload, "subagent_history_start_ordinal").and_then(|number| number.parse().ok()),
        })
    }
}

fn head_of(payload: &str) -> Result<Head, String> {
    let id = field(payload, "id").and_then(name).ok_or("session_meta has no id, expected a string")?;
    // Where it says so depends on the version.
    let spawned = || {
        let agent = field(field(payload, "source")?, "subagent")?;
        field(field(agent, "thread_spawn")?, "parent_thread_id").and_then(name)
    };
    let parent =
        field(payload, "parent_thread_id").and_then(name).or_else(spawned).filter(|parent| *parent != id);
    Ok(Head { id, parent })
}

/// What the first line of a file says; none when it is no session's.
#[must_use]
pub fn head(line: &str) -> Option<Head> {
    if field(line, "type").and_then(text).as_deref() != Some("session_meta") {
        return None;
    }
    head_of(field(line, "payload")?).ok()
}

fn used(usage: &str) -> Tokens {
    let mut report = Report::default();
    report.read_usage(usage);
    report.tokens()
}

fn minus(total: Tokens, before: Tokens) -> Tokens {
    let minus = u64::saturating_sub;
    Tokens {
        input: minus(total.input, before.input),
        cached_input: minus(total.cached_input, before.cached_input),
        cache_write: minus(total.cache_write, before.cache_write),
        output: minus(total.output, before.output),
        reasoning: minus(total.reasoning, before.reasoning),
    }
}
