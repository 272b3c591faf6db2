//! OpenCode's database of sessions.

use rusqlite::{Connection, OpenFlags, Row};
use std::path::Path;
use std::time::Duration;
use thread_budget_cli::recording::time::Moment;
use thread_budget_cli::recording::{Record, opencode};

/// A session that is below none.
pub(super) struct Session {
    pub(super) id: String,
    pub(super) begun: Moment,
    pub(super) changed: Moment,
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    Ok(connection)
}

/// The sessions that are below none, or below one that is gone.
pub(super) fn sessions(path: &Path) -> rusqlite::Result<Vec<Session>> {
    let read = |row: &Row<'_>| {
        let moment = |at| row.get(at).map(Moment::from_milliseconds);
        Ok(Session { id: row.get(0)?, begun: moment(1)?, changed: moment(2)? })
    };
    let connection = open(path)?;
    let mut query = connection.prepare(
        "SELECT id, time_created, time_updated FROM session
         WHERE parent_id IS NULL OR parent_id NOT IN (SELECT id FROM session) ORDER BY time_created",
    )?;
    query.query_map([], read)?.collect()
}

/// What the answers in a session used, and in those below it.
pub(super) fn records(path: &Path, root: &str) -> rusqlite::Result<Vec<Record>> {
    let connection = open(path)?;
    // UNION, so that whoever is said to be below itself is no loop.
    let mut query = connection.prepare(
        "WITH RECURSIVE tree(id, parent) AS (
             SELECT id, NULL FROM session WHERE id = ?1
             UNION SELECT session.id, session.parent_id FROM session JOIN tree ON session.parent_id = tree.id
         )
         SELECT message.id, message.session_id, tree.parent, message.data
         FROM message JOIN tree ON message.session_id = tree.id ORDER BY message.time_created",
    )?;
    let mut rows = query.query([root])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, session): (String, String) = (row.get(0)?, row.get(1)?);
        let (parent, data): (Option<String>, String) = (row.get(2)?, row.get(3)?);
        records.extend(opencode::answer(&id, &session, parent.as_deref(), &data));
    }
    Ok(records)
}
