//! Sessions of Claude Code: a line for each part of an answer, each with the usage of the whole.

use super::json::{field, fields, has_escaped_letters, hash, moment, name, not_json};
use super::{Fields, Identity, ReadValue, Record};
use memchr::memmem::Finder;
use std::collections::{HashMap, VecDeque};
use std::sync::LazyLock;
use thread_budget_router_core::usage::Report;

/// A file's answers, in the order in which they began. One is kept back until its agent's next: more lines of it may
/// follow, the last of which knows best what it used.
#[derive(Default)]
pub(super) struct Session {
    kept: VecDeque<Kept>,
    /// How many were let go.
    gone: usize,
    /// By thread, the number of its latest answer, of those that were let go too.
    latest: HashMap<String, usize>,
}

struct Kept {
    record: Record,
    is_latest: bool,
}

/// Whoever answered here was no model.
const NO_MODEL: &str = "<synthetic>";

impl ReadValue for Session {
    fn may_matter(&self, line: &[u8]) -> bool {
        static USAGE: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\"usage\""));
        USAGE.find(line).is_some() || has_escaped_letters(line)
    }

    fn read(&mut self, value: &str, found: &mut VecDeque<Fields>) -> Result<(), String> {
        let Some(record) = read(value)? else { return Ok(()) };
        let number = self.gone + self.kept.len();
        let before = self.latest.insert(record.thread_id.clone(), number);
        let before = before.and_then(|before| before.checked_sub(self.gone));
        if let Some(at) = before
            && let Some(kept) = self.kept.get_mut(at)
        {
            if kept.record.identity == record.identity && record.identity != Identity::default() {
                if record.tokens.completion() >= kept.record.tokens.completion() {
                    kept.record.tokens = record.tokens;
                }
                self.latest.insert(record.thread_id, self.gone + at);
                return Ok(());
            }
            kept.is_latest = false;
        }
        self.kept.push_back(Kept { record, is_latest: true });
        while let Some(Kept { record, .. }) = self.kept.pop_front_if(|kept| !kept.is_latest) {
            self.gone += 1;
            found.push_back(of(record));
        }
        Ok(())
    }

    fn finish(&mut self, found: &mut VecDeque<Fields>) {
        self.gone += self.kept.len();
        found.extend(self.kept.drain(..).map(|kept| of(kept.record)));
    }
}

fn of(record: Record) -> Fields {
    Fields { thread_id: Some(record.thread_id.clone()), or_else: None, record }
}

/// The answer in a line, if there is one.
fn read(line: &str) -> Result<Option<Record>, String> {
    let mut record = Record::default();
    let (mut session, mut agent, mut is_aside) = (None, None, false);
    let (mut message, mut request_id) = (None, None);
    fields(line, &mut |field, value| match field {
        "sessionId" => session = name(value),
        "agentId" => agent = name(value),
        "isSidechain" => is_aside = value == "true",
        "requestId" => request_id = name(value),
        "timestamp" => record.at = moment(value),
        "cwd" => record.project = name(value),
        "message" => message = Some(value),
        _ => {}
    })
    .map_err(|error| not_json(&error))?;
    let Some(message) = message else { return Ok(None) };

    let (mut usage, mut id) = (None, None);
    fields(message, &mut |field, value| match field {
        "usage" => usage = Some(value),
        "id" => id = name(value),
        "model" => record.model = name(value).unwrap_or_default(),
        _ => {}
    })
    .map_err(|error| not_json(&error))?;
    let Some(usage) = usage.filter(|usage| field(usage, "output_tokens").is_some()) else { return Ok(None) };
    let mut report = Report::default();
    report.read_usage(usage);
    record.tokens = report.tokens();
    if record.model == NO_MODEL && record.tokens.prompt() == 0 && record.tokens.completion() == 0 {
        return Ok(None);
    }
    let session = session.ok_or("no sessionId, expected a string")?;
    // Older versions wrote sub-agents into the session's file, without their names.
    record.thread_id = match (agent, is_aside) {
        (Some(agent), _) => format!("{session}/{agent}"),
        (None, true) => format!("{session}/aside"),
        (None, false) => session.clone(),
    };
    record.parent = (record.thread_id != session).then_some(session);
    if let Some(id) = id {
        // What was asked aside begins with the session's history, under other requests.
        let (call, message) = (hash((&id, request_id)), hash(&id));
        record.identity = if record.parent.is_none() {
            Identity { names: [call, message], copy_of: [call, 0] }
        } else {
            Identity { names: [call, 0], copy_of: [call, message] }
        };
    }
    Ok(Some(record))
}
