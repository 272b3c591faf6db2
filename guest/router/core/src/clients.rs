//! How clients name the session, the agent and the parent of a request: what they send of their own accord.

use crate::body::Body;
use crate::config::ClientNames;
use crate::headers::Headers;
use crate::identity::text;
use crate::json;
use crate::refusal::Refusal;
use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A row of the table: where a kind of client says what. Each is a header's name or, behind `body.`, a path of
/// fields in the body; a string there that holds JSON is looked into as well. The first that is there counts.
struct Row<'a> {
    session: &'a [&'a str],
    /// An agent of the session. The session's own agent has none, or the session's name.
    agent: &'a [&'a str],
    /// The agent that started this one or, of a client that gives agents sessions of their own, its session.
    parent: &'a [&'a str],
}

/// What clients are known to send. As seen on the wire: Claude Code 2.1, Codex 0.169, OpenCode 1.18. From their
/// documentation or code: the others.
const KNOWN: [Row<'static>; 7] = [
    // Claude Code
    Row {
        session: &["x-claude-code-session-id", "body.metadata.user_id.session_id"],
        agent: &["x-claude-code-agent-id"],
        parent: &["x-claude-code-parent-agent-id"],
    },
    // Codex
    Row {
        session: &["session-id", "body.client_metadata.session_id"],
        agent: &["thread-id", "body.client_metadata.thread_id"],
        parent: &["x-codex-parent-thread-id"],
    },
    // OpenCode
    Row { session: &["x-session-id", "x-session-affinity"], agent: &[], parent: &["x-parent-session-id"] },
    // Copilot CLI
    Row { session: &["x-client-session-id"], agent: &[], parent: &[] },
    // Copilot in VS Code
    Row { session: &["x-interaction-id"], agent: &[], parent: &[] },
    // Kilo Code
    Row { session: &["x-kilocode-taskid"], agent: &[], parent: &[] },
    // LiteLLM
    Row { session: &["x-litellm-session-id", "x-litellm-trace-id"], agent: &[], parent: &[] },
];

/// The thread of a request as its client names it, behind those that it is below, the outermost first; none when
/// it names none. What the operator knows of clients comes before what is known here.
pub(crate) fn lineage(
    clients: &[ClientNames],
    headers: &Headers,
    body: &Body,
) -> Result<Option<Vec<String>>, Refusal> {
    let request = Named { headers, body };
    for ClientNames { session, agent, parent } in clients {
        let [session, agent, parent] =
            [session, agent, parent].map(|places| places.iter().map(String::as_str).collect::<Vec<_>>());
        let row = Row { session: &session, agent: &agent, parent: &parent };
        if let Some(lineage) = request.lineage(&row)? {
            return Ok(Some(lineage));
        }
    }
    for row in &KNOWN {
        if let Some(lineage) = request.lineage(row)? {
            return Ok(Some(lineage));
        }
    }
    Ok(None)
}

/// A request that may name something.
struct Named<'r> {
    headers: &'r Headers,
    body: &'r Body,
}

impl Named<'_> {
    fn lineage(&self, row: &Row<'_>) -> Result<Option<Vec<String>>, Refusal> {
        let Some(session) = self.first(row.session)? else { return Ok(None) };
        let agent = self.first(row.agent)?.filter(|agent| *agent != session);
        let parent =
            self.first(row.parent)?.filter(|parent| *parent != session && agent.as_ref() != Some(parent));
        Ok(Some(match (agent, parent) {
            // An agent's name need not be unique among sessions.
            (Some(agent), Some(parent)) => {
                let [parent, agent] = [parent, agent].map(|agent| format!("{session}/{agent}"));
                [session, parent, agent].into()
            }
            (Some(agent), None) => {
                let agent = format!("{session}/{agent}");
                [session, agent].into()
            }
            (None, Some(parent)) => [parent, session].into(),
            (None, None) => [session].into(),
        }))
    }

    /// What the first of these places says that says anything.
    fn first(&self, places: &[&str]) -> Result<Option<String>, Refusal> {
        for place in places {
            let found = match place.strip_prefix("body.") {
                Some(path) => self.in_body(path),
                None => text(self.headers, place)?.map(str::to_owned),
            };
            if let Some(found) = found.filter(|found| !found.is_empty()) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn in_body(&self, path: &str) -> Option<String> {
        let mut steps = path.split('.');
        let first = steps.next()?;
        let known = self.body.fields().get(first);
        let mut value = known.or_else(|| json::field(self.body.text(), first))?.to_owned();
        for step in steps {
            let object = json::text(&value).unwrap_or(Cow::Borrowed(&value));
            value = json::field(&object, step)?.to_owned();
        }
        json::text(&value).map(|text| text.into_owned())
    }
}
