//! `thread-budget serve` as a user meets it.
#![cfg(unix)]

use assert_cmd::Command;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{self, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_thread-budget");

fn serve() -> Command {
    let mut command = Command::new(BINARY);
    command.arg("serve").env_clear();
    command
}

#[test]
fn flags_come_before_the_environment_and_that_before_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("router.toml");
    fs::write(&file, "upstreams = [{ url = \"https://a\" }]\n[limits]\ncpu_ms = 0\n").unwrap();
    let check = || {
        let mut command = serve();
        command.arg("--check").arg("--config").arg(&file);
        command
    };
    let output = check().assert().code(2).get_output().stderr.clone();
    assert!(String::from_utf8(output).unwrap().contains("limits.cpu_ms: at least 1"));
    check().env("THREAD_BUDGET_CPU_MS", "5").assert().success();
    check().env("THREAD_BUDGET_CPU_MS", "0").arg("--cpu-ms=5").assert().success();
    check().env("THREAD_BUDGET_CPU_MS", "5").arg("--cpu-ms=0").assert().code(2);
}

#[test]
fn what_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("router.toml");
    fs::write(&file, "[limits]\ncpu = 1\n").unwrap();
    let says = |command: &mut Command, words: &[&str]| {
        let output = command.assert().code(2).get_output().stderr.clone();
        let text = String::from_utf8(output).unwrap();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    };
    says(&mut serve(), &["no upstream", "https://api.openai.com"]);
    says(serve().arg("--config").arg(&file), &["router.toml", "line 2", "cpu"]);
    says(serve().arg("--upstream=api.openai.com"), &["[MODEL,...=]URL"]);
    says(serve().env("THREAD_BUDGET_UPSTREAM", "gpt-=ftp://a"), &["[MODEL,...=]URL"]);
    says(serve().args(["--upstream=https://a", "--admin-listen=0.0.0.0:0"]), &["admin.token"]);
}

#[test]
fn it_says_where_it_is_and_a_signal_ends_it_well() {
    let mut child = process::Command::new(BINARY)
        .args(["serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"])
        .env("THREAD_BUDGET_UPSTREAM", "gpt-,o3=https://a.test claude-=https://b.test/x")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> =
        BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap).take(5).collect();
    let text = lines.join("\n");
    for word in ["https://a.test gpt-… o3…", "https://b.test/x claude-…", "100,000 tokens", "in memory"]
    {
        assert!(text.contains(word), "{text}");
    }
    let operators = lines[1].rsplit('/').next().unwrap();
    let mut stream = TcpStream::connect(operators).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    assert!(process::Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert!(log.contains("stopped"), "{log}");
}
