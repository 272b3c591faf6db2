//! `thread-budget watch` without a terminal.

use crate::server::{Server, TOKEN};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

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
