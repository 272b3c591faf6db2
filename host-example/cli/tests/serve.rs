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
    let token = "--admin-token=0123456789abcdef";
    says(
        serve().args(["--upstream=https://a", "--admin-listen=0.0.0.0:0", token]),
        &["admin.tls", "clear text"],
    );
    says(serve().args(["--upstream=https://a", "--admin-token=short"]), &["admin.token", "16 bytes"]);
    let allowed =
        ["--upstream=https://a", "--admin-listen=0.0.0.0:0", token, "--admin-clear-text", "--check"];
    serve().args(allowed).assert().success();
}

#[test]
fn what_is_wrong_in_a_file_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("router.toml");
    let one = "[[upstreams]]\nurl = \"https://a\"\n";
    for (rest, words) in [
        ("[[upstreams]]\nurl = \"https://host:99999\"\n", ["line 4: ", "upstreams.url", "99999"]),
        ("[[upstreams]]\nurl = \"http://[::1\"\n", ["line 4: ", "upstreams.url", "[::1"]),
        (
            "[router]\nthread_header = \"authorization\"\n",
            ["line 4: ", "router.thread_header", "authorization"],
        ),
        ("[router]\nthread_header = \"X-Api-Key\"\n", ["line 4: ", "router.thread_header", "X-Api-Key"]),
        ("[router]\nthread_header = \"content-md5\"\n", ["line 4: ", "router.thread_header", "content-md5"]),
        ("[router]\nthread_header = \"keep-alive\"\n", ["line 4: ", "router.thread_header", "keep-alive"]),
        (
            "[router]\nclients = [\n  { session = [\"x-ok\"] },\n  { session = [\"cookie\"] },\n]\n",
            ["line 4: ", "router.clients", "cookie"],
        ),
        (
            "[[scopes]]\nby = \"header\"\nlimit = 1\nheader = \"proxy-authorization\"\n",
            ["line 6: ", "scopes.header", "proxy-authorization"],
        ),
        ("[admin]\ntoken = \"short\"\n", ["line 4: ", "admin.token", "16 bytes"]),
        ("[router]\nrefusal_status = 200\n", ["line 4: ", "router.refusal_status", "400 to 499"]),
    ] {
        fs::write(&file, format!("{one}{rest}")).unwrap();
        for check in [true, false] {
            let mut command = serve();
            command.arg("--config").arg(&file).args(check.then_some("--check"));
            let output = command.assert().code(2).get_output().stderr.clone();
            let text = String::from_utf8(output).unwrap();
            assert!(
                words.iter().all(|word| text.contains(word)) && text.contains("router.toml: "),
                "{rest}: {text}"
            );
        }
    }
    // What a flag says is not in the file.
    fs::write(&file, format!("{one}[limits]\ncpu_ms = 5\n")).unwrap();
    let output =
        serve().arg("--config").arg(&file).arg("--cpu-ms=0").assert().code(2).get_output().stderr.clone();
    let text = String::from_utf8(output).unwrap();
    assert!(text.contains("limits.cpu_ms: at least 1") && !text.contains("router.toml"), "{text}");
}

#[test]
fn an_empty_file_is_no_database() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("budgets.redb");
    fs::write(&file, "").unwrap();
    let output = serve()
        .args(["--upstream=https://a", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--database"])
        .arg(&file)
        .assert()
        .code(2)
        .get_output()
        .stderr
        .clone();
    let text = String::from_utf8(output).unwrap();
    assert!(text.contains("budgets.redb") && text.contains("is empty"), "{text}");
    assert_eq!(fs::read(&file).unwrap(), b"", "it is as it was");
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
