//! Transcripts: what happens in an exchange and what the policy has to say to it, as data. See
//! `tests/transcripts/README.md` for the format; whoever can take an event and give a turn can run them.

use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Whoever decides: the rules themselves, or a component.
pub trait Policy {
    /// Begin an exchange by a configuration.
    fn begin(&mut self, config: &Value);

    /// Tell what has happened, and hear what to do.
    fn step(&mut self, now_ms: u64, event: Value) -> Value;
}

/// Run every transcript of a folder, and give what went wrong: nothing when all is well.
pub fn run(folder: &Path, policy: &mut dyn Policy) -> Vec<String> {
    let files = files(folder);
    assert!(!files.is_empty(), "no transcripts in {}", folder.display());
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let transcript: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        if let Err(why) = play(&transcript, policy) {
            wrong.push(format!("{}: {why}", file.strip_prefix(folder).unwrap_or(&file).display()));
        }
    }
    wrong
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Play a transcript; the error says at which step what differs.
fn play(transcript: &Value, policy: &mut dyn Policy) -> Result<(), String> {
    let mut config = json!({"upstreams": [{"url": "https://provider"}]});
    merge(&mut config, &transcript["config"]);
    let mut now = 0;
    for (number, step) in transcript["steps"].as_array().ok_or("it has no steps")?.iter().enumerate() {
        let at = |why: String| format!("step {}: {why}", number + 1);
        check_names(step, &["actions", "at", "event", "logs", "next", "why"]).map_err(at)?;
        let event = event(&step["event"]);
        if event.get("request").is_some() {
            policy.begin(&config);
        }
        now = step["at"].as_u64().unwrap_or(now);
        let turn = policy.step(now, event);
        check_turn(step, &turn).map_err(|why| at(format!("{why}\n  the turn is {}", shortened(&turn))))?;
    }
    Ok(())
}

fn check_names(object: &Value, known: &[&str]) -> Result<(), String> {
    let fields = object.as_object().ok_or("it is no object")?;
    fields
        .keys()
        .find(|name| !known.contains(&name.as_str()))
        .map_or(Ok(()), |name| Err(format!("{name:?} is no field")))
}

fn check_turn(step: &Value, turn: &Value) -> Result<(), String> {
    let (logs, actions): (Vec<_>, Vec<_>) = turn["actions"]
        .as_array()
        .ok_or("no actions")?
        .iter()
        .partition(|action| action.get("log").is_some());
    let nothing = Vec::new();
    let expected = step["actions"].as_array().unwrap_or(&nothing);
    if expected.len() != actions.len() {
        return Err(format!("{} actions where {} are right", actions.len(), expected.len()));
    }
    for (expected, action) in expected.iter().zip(actions) {
        differs(expected, action, "actions")?;
    }
    for expected in step["logs"].as_array().unwrap_or(&nothing) {
        let text = expected.as_str().unwrap_or_default();
        if !logs.iter().any(|log| log["log"]["text"].as_str().is_some_and(|log| log.contains(text))) {
            return Err(format!("no log says {text:?}"));
        }
    }
    differs(&step["next"], &turn["next"], "next")
}

/// What is said must be so; what is not said does not matter.
fn differs(expected: &Value, actual: &Value, place: &str) -> Result<(), String> {
    let wrong = || Err(format!("{place} is {} where {} is right", shortened(actual), shortened(expected)));
    if let Some(form) = only_field(expected) {
        match form {
            ("json", value) => {
                let read: Option<Value> = actual.as_str().and_then(|text| serde_json::from_str(text).ok());
                return if read.as_ref() == Some(value) { Ok(()) } else { wrong() };
            }
            ("contains", part) => {
                let is_in = |part: &Value| text(actual).contains(part.as_str().unwrap_or_default());
                let all = part.as_array().map_or_else(|| is_in(part), |parts| parts.iter().all(is_in));
                return if all { Ok(()) } else { wrong() };
            }
            ("lacks", part) => {
                return if text(actual).contains(part.as_str().unwrap_or_default()) {
                    wrong()
                } else {
                    Ok(())
                };
            }
            ("events" | "repeat", _) => {
                return if plain(expected) == *actual { Ok(()) } else { wrong() };
            }
            _ => {}
        }
    }
    match (expected, actual) {
        // Headers, by their names.
        (Value::Object(expected), Value::Array(list)) => {
            for (name, value) in expected {
                let header = list.iter().find(|header| header["name"] == *name);
                differs(
                    value,
                    header.map_or(&Value::Null, |header| &header["value"]),
                    &format!("{place}.{name}"),
                )?;
            }
            Ok(())
        }
        (Value::Object(expected), Value::Object(actual)) => {
            for (name, value) in expected {
                let found = actual.get(name).ok_or_else(|| format!("{place} has no {name}"))?;
                differs(value, found, &format!("{place}.{name}"))?;
            }
            Ok(())
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            for (number, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                differs(expected, actual, &format!("{place}[{number}]"))?;
            }
            Ok(())
        }
        (expected, actual) if expected == actual => Ok(()),
        _ => wrong(),
    }
}

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(1_500).collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn only_field(value: &Value) -> Option<(&str, &Value)> {
    let fields = value.as_object().filter(|fields| fields.len() == 1)?;
    fields.iter().next().map(|(name, value)| (name.as_str(), value))
}

/// An event as the contract has it, with what was left out.
fn event(event: &Value) -> Value {
    let defaults = match only_field(event) {
        Some(("request", _)) => json!({
            "id": "x", "chance": 0, "date": "2026-11-25", "method": "POST", "target": "/v1/chat/completions", "headers": [], "body": ""
        }),
        Some(("answer", _)) => {
            json!({"status": 200, "headers": ["content-type: application/json"], "body": ""})
        }
        Some(("failed", _)) => json!({"received_bytes": 0, "reason": "it broke"}),
        Some((name, payload)) => return json!({name: plain(payload)}),
        None => return event.clone(),
    };
    let Some((name, payload)) = only_field(event) else { return event.clone() };
    let mut all = defaults;
    merge(&mut all, payload);
    let mut all = plain(&all);
    if let Some(lines) = all.get("headers").and_then(Value::as_array) {
        let lines: String = lines.iter().filter_map(Value::as_str).map(|line| format!("{line}\n")).collect();
        all["headers"] = lines.into();
    }
    if name == "request"
        && all["body"].as_str().is_some_and(|body| !["too_long", "too_slow", "broken"].contains(&body))
    {
        all["body"] = json!({"whole": all["body"]});
    }
    json!({name: all})
}

/// Text in the place of what stands for it: JSON, events, repetitions.
fn plain(value: &Value) -> Value {
    match only_field(value) {
        Some(("json", value)) => return value.to_string().into(),
        Some(("events", events)) => {
            let events = events.as_array().into_iter().flatten().filter_map(Value::as_str);
            return events.map(|event| format!("{event}\n\n")).collect::<String>().into();
        }
        Some(("repeat", what)) => {
            let times = what[1].as_u64().and_then(|times| usize::try_from(times).ok()).unwrap_or(0);
            return what[0].as_str().unwrap_or_default().repeat(times).into();
        }
        Some(("join", parts)) => {
            return parts
                .as_array()
                .into_iter()
                .flatten()
                .map(|part| text(&plain(part)))
                .collect::<String>()
                .into();
        }
        _ => {}
    }
    match value {
        Value::Object(fields) => Value::Object(
            fields.iter().map(|(name, value)| (name.clone(), plain(value))).collect::<Map<_, _>>(),
        ),
        Value::Array(items) => items.iter().map(plain).collect(),
        other => other.clone(),
    }
}

/// Put fields over others.
fn merge(base: &mut Value, over: &Value) {
    if let (Some(base), Some(over)) = (base.as_object_mut(), over.as_object()) {
        base.extend(over.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
}
