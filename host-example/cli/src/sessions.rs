//! Where agents keep their sessions, and which of them belong together: a session and its sub-agents are a tree.

mod opencode;

use serde::Serialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use thread_budget_cli::recording::time::Moment;
use thread_budget_cli::recording::{Record, RecordError, Records, codex};
use thread_budget_router_core::json;

/// The longest first line that is looked at for where a session belongs.
const HEAD_BYTES: u64 = 1 << 20;

const CODEX: &str = "Codex";

/// A place that was looked at and has sessions.
#[derive(Debug, Serialize)]
pub(super) struct Place {
    /// Whose sessions, as people say.
    pub(super) agent: &'static str,
    pub(super) folder: PathBuf,
    /// Sub-agents are not counted.
    pub(super) sessions: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) places: Vec<Place>,
    /// The oldest first: what is copied comes before its copies.
    pub(super) trees: Vec<Tree>,
}

/// A session and its sub-agents.
pub(super) struct Tree {
    begun: Moment,
    source: Source,
    pub(super) bytes: u64,
}

enum Source {
    /// The session's own is first.
    Files(Vec<PathBuf>),
    /// A database of OpenCode, and a session that is below none.
    OpenCode(PathBuf, String),
}

/// What became of the files of a tree.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) records: Vec<Record>,
    pub(super) problems: Vec<RecordError>,
}

/// A file, and when it was changed.
struct Seen {
    path: PathBuf,
    changed: Moment,
    bytes: u64,
}

/// The sessions in the folders where Claude Code, Codex and OpenCode keep them. Of a folder that cannot be read
/// it says so.
///
/// # Errors
/// What the system says of a folder or a database.
pub(super) fn usual(since: Option<Moment>) -> Result<Found, String> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = env::home_dir().unwrap_or_default();
    let config = variable("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    let claude = match variable("CLAUDE_CONFIG_DIR") {
        Some(folder) => vec![folder],
        None => vec![home.join(".claude"), config.join("claude")],
    };
    let codex = variable("CODEX_HOME").unwrap_or_else(|| home.join(".codex"));
    let data = variable("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share"));

    let mut found = Found::default();
    for folder in claude {
        found.look("Claude Code", &folder.join("projects"), since)?;
    }
    for folder in ["sessions", "archived_sessions"] {
        found.look(CODEX, &codex.join(folder), since)?;
    }
    found.look_for_databases(&data.join("opencode"), since)?;
    found.trees.sort_by_key(|tree| tree.begun);
    Ok(found)
}

/// The sessions in a folder that somebody named.
///
/// # Errors
/// What the system says of it, or of a folder or a database in it.
pub(super) fn within(folder: &Path, since: Option<Moment>) -> Result<Found, String> {
    fs::read_dir(folder).map_err(|error| cannot_read(folder, &error))?;
    let mut found = Found::default();
    found.look("Sessions", folder, since)?;
    found.look_for_databases(folder, since)?;
    found.trees.sort_by_key(|tree| tree.begun);
    Ok(found)
}

fn cannot_read(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("cannot read {}: {error}", path.display())
}

impl Found {
    /// Add the sessions in the files of a folder, if there is one.
    fn look(&mut self, agent: &'static str, folder: &Path, since: Option<Moment>) -> Result<(), String> {
        let mut files = Vec::new();
        list(folder, &["jsonl", "ndjson"], &mut files)?;
        files.retain(|seen| agent != CODEX || begun_by_name(&seen.path).is_some());
        let heads: HashMap<&Path, codex::Head> =
            files.iter().filter_map(|seen| Some((&*seen.path, head(&seen.path)?))).collect();
        let parents: HashMap<&str, &str> =
            heads.values().filter_map(|head| Some((&*head.id, head.parent.as_deref()?))).collect();

        let mut groups: BTreeMap<PathBuf, Vec<&Seen>> = BTreeMap::new();
        for seen in &files {
            let root = match heads.get(&*seen.path) {
                Some(head) => folder.join(root_of(&head.id, &parents)),
                None => session_of(&seen.path),
            };
            groups.entry(root).or_default().push(seen);
        }
        let mut place = Place { agent, folder: folder.into(), sessions: 0, files: 0, bytes: 0 };
        for mut group in groups.into_values() {
            let changed = group.iter().map(|seen| seen.changed);
            if changed.clone().max() < since {
                continue;
            }
            let begun = changed.min().unwrap_or_default();
            // Codex says in a file's name when it was begun.
            let begun = group.iter().filter_map(|seen| begun_by_name(&seen.path)).min().unwrap_or(begun);
            group.sort_by_key(|seen| (seen.path.components().count(), &seen.path));
            let bytes = group.iter().map(|seen| seen.bytes).sum();
            place.sessions += 1;
            place.files += group.len() as u64;
            place.bytes += bytes;
            let files = group.into_iter().map(|seen| seen.path.clone()).collect();
            self.trees.push(Tree { begun, source: Source::Files(files), bytes });
        }
        if place.sessions > 0 {
            self.places.push(place);
        }
        Ok(())
    }

    /// Add the sessions in the databases of OpenCode in a folder, if there is one.
    fn look_for_databases(&mut self, folder: &Path, since: Option<Moment>) -> Result<(), String> {
        let mut files = Vec::new();
        list(folder, &["db"], &mut files)?;
        files.retain(|seen| {
            seen.path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("opencode"))
        });
        for Seen { path, bytes, .. } in files {
            let sessions = opencode::sessions(&path).map_err(|error| cannot_read(&path, &error))?;
            let mut place = Place { agent: "OpenCode", folder: path.clone(), sessions: 0, files: 1, bytes };
            for session in
                sessions.into_iter().filter(|session| since.is_none_or(|since| session.changed >= since))
            {
                place.sessions += 1;
                let source = Source::OpenCode(path.clone(), session.id);
                self.trees.push(Tree { begun: session.begun, source, bytes: 0 });
            }
            if place.sessions > 0 {
                self.places.push(place);
            }
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.trees.iter().map(|tree| tree.bytes).sum()
    }
}

impl Tree {
    /// Read all its records, in the order of time. `reader` goes around each file; records that name no thread are
    /// those of `thread`, or of their file.
    pub(super) fn read<'a>(
        &self,
        thread: Option<&str>,
        reader: impl Fn(File) -> Box<dyn Read + 'a>,
        is_stopped: impl Fn() -> bool,
    ) -> Contents {
        let mut read = Contents::default();
        match &self.source {
            Source::Files(files) => {
                for path in files {
                    read.file(path, thread, &reader, &is_stopped);
                }
            }
            Source::OpenCode(path, root) => match opencode::records(path, root) {
                Ok(records) => read.records = records,
                Err(error) => read.problems.push(RecordError::Io {
                    file: path.display().to_string(),
                    source: io::Error::other(error),
                }),
            },
        }
        if read.records.iter().all(|record| record.at.is_some()) {
            read.records.sort_by_key(|record| record.at);
        }
        read
    }
}

impl Contents {
    fn file<'a>(
        &mut self,
        path: &Path,
        thread: Option<&str>,
        reader: &impl Fn(File) -> Box<dyn Read + 'a>,
        is_stopped: &impl Fn() -> bool,
    ) {
        let name = path.display().to_string();
        let thread =
            thread.map(str::to_owned).or_else(|| Some(path.file_stem()?.to_string_lossy().into_owned()));
        let opened = File::open(path).map_err(|source| RecordError::Io { file: name.clone(), source });
        let records = match opened.and_then(|file| Records::open(name, reader(file), None, thread)) {
            Ok(records) => records,
            Err(error) => return self.problems.push(error),
        };
        for record in records {
            match record {
                Ok(record) => self.records.push(record),
                Err(error @ RecordError::Io { .. }) => return self.problems.push(error),
                Err(error) => self.problems.push(error),
            }
            if is_stopped() {
                return;
            }
        }
    }
}

/// Every file in a folder and those in it that has one of these endings. No folder has none.
fn list(folder: &Path, endings: &[&str], found: &mut Vec<Seen>) -> Result<(), String> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot_read(folder, &error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| cannot_read(folder, &error))?;
        let path = entry.path();
        // Links are not followed: they could lead in circles.
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            list(&path, endings, found)?;
        } else if kind.is_file()
            && path.extension().is_some_and(|known| endings.iter().any(|ending| known == *ending))
            && let Ok(metadata) = entry.metadata()
        {
            let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let changed = changed.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or_default();
            found.push(Seen { path, changed: Moment::from_milliseconds(changed), bytes: metadata.len() });
        }
    }
    Ok(())
}

/// The session that a file of Claude Code's belongs to: `SESSION.jsonl`, and those in `SESSION/subagents`. Before 2.1
/// sub-agents were beside it, as `agent-ID.jsonl`.
fn session_of(path: &Path) -> PathBuf {
    let within = path.ancestors().find(|folder| folder.ends_with("subagents"));
    if let Some(session) = within.and_then(Path::parent) {
        return session.to_path_buf();
    }
    let is_agent = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("agent-"));
    let session = || json::text(json::field(&first_line(path)?, "sessionId")?).map(Cow::into_owned);
    match is_agent.then(session).flatten() {
        Some(session) => path.with_file_name(session),
        None => path.with_extension(""),
    }
}

/// What the first line of Codex's files says; none of others, whose names differ.
fn head(path: &Path) -> Option<codex::Head> {
    begun_by_name(path)?;
    codex::head(&first_line(path)?)
}

fn first_line(path: &Path) -> Option<String> {
    let mut line = String::new();
    BufReader::new(File::open(path).ok()?).take(HEAD_BYTES).read_line(&mut line).ok()?;
    Some(line)
}

/// When a file of Codex's was begun, by its name: `rollout-2026-11-25T20-39-38-ID.jsonl`.
fn begun_by_name(path: &Path) -> Option<Moment> {
    let name = path.file_name()?.to_str()?;
    let (date, time) = name.strip_prefix("rollout-")?.get(..19)?.split_once('T')?;
    Moment::parse(&format!("{date}T{}", time.replace('-', ":")))
}

/// The thread above all, as far as its line is known.
fn root_of<'a>(id: &'a str, parents: &HashMap<&'a str, &'a str>) -> &'a str {
    let mut root = id;
    // Whoever is said to be above itself is no loop.
    for _ in 0..parents.len() {
        match parents.get(root) {
            Some(parent) => root = parent,
            None => break,
        }
    }
    root
}
