//! `thread-budget watch`, in a terminal and without one.

use crate::server::{Server, TOKEN};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

fn watch(url: &str, token: Option<&str>) -> Child {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("thread-budget"));
    command.args(["watch", url]).env_remove("THREAD_BUDGET_ADMIN_TOKEN");
    if let Some(token) = token {
        command.env("THREAD_BUDGET_ADMIN_TOKEN", token);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

#[test]
fn events_are_lines_of_json_and_go_on_when_the_router_is_back() {
    let server = Server::start(Some(TOKEN));
    let address = server.address;
    let mut watch = watch(&format!("http://{address}/"), Some(TOKEN));
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut errors = BufReader::new(watch.stderr.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["event"], "snapshot");
    server.consume("a", 800);
    assert_eq!(next()["event"], "warning");
    drop(server);
    let lost = errors.next().unwrap().unwrap();
    assert!(lost.ends_with("trying again"), "{lost}");
    let server = Server::start_at(address, Some(TOKEN));
    loop {
        let event = next();
        if event["event"] == "snapshot" {
            assert_eq!(event["totals"]["threads"], 0);
            break;
        }
    }
    drop(server);
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn a_wrong_token_and_a_wrong_address_end_it() {
    let server = Server::start(Some(TOKEN));
    for (url, token, says) in [
        (format!("http://{}", server.address), None, "send the admin token"),
        (format!("http://{}", server.address), Some("wrong"), "401 Unauthorized"),
        (format!("http://{}/nothing", server.address), Some(TOKEN), "there is nothing here"),
        ("localhost:8081".into(), None, "no address that starts with http://"),
    ] {
        let output = watch(&url, token).wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(says), "{error}");
    }
}

/// In a terminal of its own, once it shows something: what makes the terminal, and the watch's process.
fn in_terminal(url: &str, folder: &Path) -> Option<(Child, u32)> {
    let (watch, file) = (assert_cmd::cargo::cargo_bin("thread-budget"), folder.join("pid"));
    let command =
        format!("stty rows 24 cols 120; echo $$ >{}; exec {} watch {url}", file.display(), watch.display());
    let mut terminal = Command::new("script")
        .args(["-qfc", &command, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains("order: most used") {
        let mut part = [0; 4_096];
        let length = terminal.stdout.as_mut()?.read(&mut part).expect("it shows something");
        assert_ne!(length, 0, "it ended: {}", String::from_utf8_lossy(&shown));
        shown.extend_from_slice(&part[..length]);
    }
    let pid = fs::read_to_string(file).expect("it has started").trim().parse();
    Some((terminal, pid.expect("a number")))
}

/// Whether a process has ended, whether or not anybody has asked how.
fn has_ended(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

fn ends(pid: u32) {
    let started = Instant::now();
    while !has_ended(pid) {
        assert!(started.elapsed() < Duration::from_secs(5), "it goes on");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn it_ends_with_its_terminal_and_when_it_is_asked_to() {
    let server = Server::start(None);
    let url = format!("http://{}", server.address);
    let folder = tempfile::tempdir().expect("a folder");
    for signal in ["TERM", "HUP", "INT"] {
        let Some((mut terminal, pid)) = in_terminal(&url, folder.path()) else {
            return eprintln!("SKIPPED: without `script` there is no terminal to watch in");
        };
        let asked = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status();
        assert!(asked.expect("kill is there").success());
        ends(pid);
        // What it shows from here on nobody reads.
        drop(terminal.stdout.take());
        terminal.kill().expect("it is there");
        terminal.wait().expect("it ends");
    }
    let (mut terminal, pid) = in_terminal(&url, folder.path()).expect("there was one before");
    terminal.kill().expect("it is there");
    terminal.wait().expect("it ends");
    ends(pid);
}

#[test]
fn it_ends_with_its_reader() {
    let server = Server::start(None);
    let mut watch = watch(&format!("http://{}", server.address), None);
    let mut lines = BufReader::new(watch.stdout.take().expect("it is piped")).lines();
    assert!(lines.next().expect("a line").is_ok());
    drop(lines);
    ends(watch.id());
    assert!(watch.wait().expect("it ended").success());
}
