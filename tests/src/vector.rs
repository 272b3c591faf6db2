//! Conformance vectors: one file a rule, `vectors/GROUP/RULE.json`. See `vectors/README.md`.

use crate::call::{Call, Outcome, undo_portable};
use crate::subject::Subject;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// A file of vectors.
#[derive(Debug)]
pub struct Vector {
    /// Where it is.
    pub path: PathBuf,
    /// `GROUP/RULE`.
    pub name: String,
    /// What it says.
    pub content: Content,
}

/// What a file says.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// The rule, in words.
    pub rule: String,
    /// Calls on a fresh registry, in order.
    pub steps: Vec<Value>,
}

/// A call, and what has to come of it.
#[derive(Debug)]
pub struct Step {
    /// The call.
    pub call: Call,
    /// `returns`, null when left out, or `fails`.
    pub expected: Outcome,
}

/// Every vector there is, in the order of their names.
///
/// # Panics
/// When a file is there that is not a vector, so that none is passed over in silence.
#[must_use]
pub fn all() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let mut vectors = Vec::new();
    for group in entries(&folder).into_iter().filter(|path| path.is_dir()) {
        for path in entries(&group) {
            assert!(
                path.extension().is_some_and(|extension| extension == "json"),
                "{} is not a vector",
                path.display()
            );
            let name = path.strip_prefix(&folder).unwrap_or(&path).with_extension("").display().to_string();
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
            let content = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            vectors.push(Vector { path, name, content });
        }
    }
    vectors
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

impl Vector {
    /// The steps, read.
    ///
    /// # Panics
    /// When a step is not a call of the contract, or says both `returns` and `fails`.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let read = |(number, step): (usize, &Value)| {
            let mut step = step.clone();
            let at = format!("{} step {}", self.name, number + 1);
            let fields = step.as_object_mut().unwrap_or_else(|| panic!("{at}: not an object"));
            let expected = match (fields.remove("returns"), fields.remove("fails")) {
                (returns, None) => Ok(returns.unwrap_or_default()),
                (None, Some(error)) => Err(error),
                (Some(_), Some(_)) => panic!("{at}: both returns and fails"),
            };
            undo_portable(&mut step);
            let call = serde_json::from_value(step).unwrap_or_else(|error| panic!("{at}: {error}"));
            Step { call, expected }
        };
        self.content.steps.iter().enumerate().map(read).collect()
    }

    /// Put the steps to a subject; the message says where it went wrong, if it did.
    ///
    /// # Errors
    /// The first step whose outcome is not the expected one.
    pub fn check(&self, subject: &mut dyn Subject) -> Result<(), String> {
        for (number, step) in self.steps().into_iter().enumerate() {
            let outcome = subject.call(&step.call);
            if outcome != step.expected {
                return Err(format!(
                    "{} step {}\n  rule      {}\n  call      {:?}\n  expected  {}\n  got       {}",
                    self.name,
                    number + 1,
                    self.content.rule,
                    step.call,
                    show(&step.expected),
                    show(&outcome),
                ));
            }
        }
        Ok(())
    }
}

fn show(outcome: &Outcome) -> String {
    match outcome {
        Ok(value) => format!("returns {value}"),
        Err(error) => format!("fails {error}"),
    }
}
