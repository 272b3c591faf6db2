//! The live page in Chromium, as host-example/browser sets it up: `page.mjs` uses the page and says what is
//! to happen to the threads meanwhile.

use crate::server::{Server, TOKEN};
use serde::Deserialize;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use thread_budget_host::{ThreadOptions, blocking::Hold};

/// Set to fail without a browser instead of saying so. `host-example/browser/check` sets one up.
const REQUIRED: &str = "THREAD_BUDGET_REQUIRE_BROWSER";

/// What the script asks for.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Order {
    Consume { thread: String, tokens: u64 },
    Refuse { thread: String, tokens: u64 },
    Hold { thread: String, tokens: u64 },
    Open { thread: String, limit: u64, parent: Option<String> },
    Unidentified { client: String },
    Clear,
}

#[test]
fn the_page_shows_and_changes_threads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let chromium = env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".into());
    let playwright = root.join("host-example/browser/node_modules/playwright-core");
    let missing = [chromium.into(), playwright].into_iter().find(|path: &PathBuf| !path.exists());
    if let Some(missing) = missing {
        assert!(env::var_os(REQUIRED).is_none(), "there is no {}", missing.display());
        eprintln!("SKIPPED, THE LIVE PAGE WAS NOT TESTED: there is no {}", missing.display());
        return;
    }
    // Both have the same threads; only one wants a token.
    let (open, guarded) = (Server::start(None), Server::start(Some(TOKEN)));
    let mut script = Command::new("node")
        .arg(root.join("tests/tests/admin/page.mjs"))
        .args([format!("http://{}/", open.address), format!("http://{}/", guarded.address)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node runs");
    let mut answers = script.stdin.take().expect("it is piped");
    let mut held: Vec<Hold> = Vec::new();
    for line in BufReader::new(script.stdout.take().expect("it is piped")).lines() {
        match serde_json::from_str(&line.expect("it speaks UTF-8")).expect("it orders what there is") {
            Order::Consume { thread, tokens } => open.consume(&thread, tokens),
            Order::Refuse { thread, tokens } => open.refuse(&thread, tokens),
            Order::Hold { thread, tokens } => {
                held.push(open.registry.hold(&thread, tokens, 0, 0).expect("it fits"));
                open.changed(&thread);
            }
            Order::Open { thread, limit, parent } => {
                let options = ThreadOptions { max_tokens: Some(limit), parent };
                open.registry.open_thread(&thread, &options).expect("it is new");
                open.changed(&thread);
            }
            Order::Unidentified { client } => drop(open.unidentified.count(&client)),
            Order::Clear => open.registry.clear().expect("it forgets"),
        }
        writeln!(answers, "done").expect("it waits");
    }
    assert!(script.wait().expect("it ends").success(), "the script says above what was wrong");
}
