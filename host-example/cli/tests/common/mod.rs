//! The command line, called as a user does.

use assert_cmd::Command;
use serde_json::Value;
use std::process::Output;

/// Where nobody has sessions.
pub(crate) const NOWHERE: [(&str, &str); 3] =
    [("CLAUDE_CONFIG_DIR", "/nowhere"), ("CODEX_HOME", "/nowhere"), ("XDG_DATA_HOME", "/nowhere")];

pub(crate) fn thread_budget() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thread-budget"));
    command.envs(NOWHERE);
    command
}

pub(crate) fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
