//! What a watcher is sent.

use crate::server::Server;
use serde_json::{Value, json};
use thread_budget_host::ThreadOptions;
use thread_budget_serve::Event;
use thread_budget_serve::admin::Live;

fn below(parent: &str) -> ThreadOptions {
    ThreadOptions { max_tokens: Some(100), parent: Some(parent.into()) }
}

#[test]
fn a_watcher_gets_the_threads_and_then_what_changes() {
    let server = Server::start(None);
    server.registry.consume("small", 10, 0).unwrap();
    server.registry.consume("large", 500, 0).unwrap();
    let mut watch = server.watch();
    let snapshot = watch.next();
    assert_eq!(snapshot["event"], "snapshot");
    assert_eq!(snapshot["totals"]["threads"], 2);
    assert_eq!(snapshot["totals"]["prompt_tokens"], 510);
    assert_eq!(snapshot["thresholds"][0], json!({"percent": 75, "severity": "warning"}));
    assert_eq!(snapshot["threads"][0]["thread_id"], "large");
    serde_json::from_value::<Live>(snapshot).expect("it is what the type says");

    server.consume("large", 460);
    let warning = watch.next_of("warning", "large");
    assert_eq!((&warning["severity"], &warning["tokens_used"]), (&json!("warning"), &json!(960)));
    assert_eq!(watch.next_of("warning", "large")["severity"], "critical");
    let last = watch.next_of("warning", "large");
    assert!(last["message"].as_str().unwrap().starts_with("CRITICAL:"));
    let thread = watch.next_of("thread", "large");
    assert_eq!(
        (&thread["total_tokens"], &thread["triggered_thresholds"]),
        (&json!(960), &json!([75, 90, 95]))
    );
    assert_eq!(thread["pending_thresholds"].as_array().unwrap().len(), 3);

    let warnings = server.acknowledge("large");
    server.events.announce(Event::Delivered { thread_id: "large".into(), warnings });
    server.changed("large");
    assert_eq!(watch.next_of("delivered", "large")["warnings"].as_array().unwrap().len(), 3);
    assert_eq!(watch.until(|event| event["event"] == "totals")["pending_warnings"], 0);

    server.refuse("large", 41);
    let refused = watch.next_of("refused", "large");
    assert_eq!((&refused["requested"], &refused["exhausted_thread_id"]), (&json!(41), &json!("large")));
    let hold = server.registry.hold("small", 90, 0, 0).unwrap();
    server.changed("small");
    assert_eq!(watch.next_of("thread", "small")["held_tokens"], 90);
    drop(hold);
    server.changed("small");
    assert_eq!(watch.next_of("thread", "small")["held_tokens"], 0);
}

#[test]
fn ancestors_change_with_a_thread() {
    let server = Server::start(None);
    let mut watch = server.watch();
    assert_eq!(watch.next()["threads"], json!([]));
    server.registry.get_budget("lead").unwrap();
    server.registry.open_thread("aide", &below("lead")).unwrap();
    server.registry.open_thread("leaf", &below("aide")).unwrap();
    server.changed("lead");
    server.changed("leaf");
    let leaf = watch.until(|event| event["thread_id"] == "leaf" && !event["parent"].is_null());
    assert_eq!(leaf["parent"], "aide");

    server.consume("leaf", 40);
    let mut changed: Vec<Value> = Vec::new();
    while changed.len() < 3 {
        changed.push(watch.until(|event| event["event"] == "thread" && event["total_tokens"] == 40));
    }
    changed.sort_by_key(|thread| thread["thread_id"].to_string());
    let ids: Vec<_> = changed.iter().map(|thread| thread["thread_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["aide", "lead", "leaf"]);

    server.ask(
        "POST",
        "/threads/leaf/limit",
        &[("content-type", "application/json")],
        r#"{"max_tokens": 80}"#,
    );
    assert_eq!(watch.until(|event| event["max_tokens"] == 80)["percent_used"], 50.0);
    server.ask("DELETE", "/threads/aide", &[], "");
    assert_eq!(watch.until(|event| event["event"] == "removed")["thread_id"], "aide");
    assert_eq!(watch.until(|event| event["event"] == "totals")["threads"], 1);
}

#[test]
fn a_busy_thread_is_sent_ten_times_a_second_at_most() {
    let server = Server::start(None);
    let mut watch = server.watch();
    watch.next();
    let started = std::time::Instant::now();
    for _ in 0..500 {
        server.consume("busy", 1);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let mut sent = 1;
    while watch.next_of("thread", "busy")["total_tokens"] != 500 {
        sent += 1;
    }
    let allowed = 2 + started.elapsed().as_millis() / 100;
    assert!(sent >= 2 && sent <= allowed, "{sent} times, {allowed} are allowed");
}

#[test]
fn whoever_is_too_slow_gets_a_snapshot() {
    let server = Server::start(None);
    server.registry.consume("kept", 5, 0).unwrap();
    let mut watch = server.watch();
    assert_eq!(watch.next()["event"], "snapshot");
    server.registry.consume("missed", 7, 0).unwrap();
    // Far more than wait for anybody, and none of them about the thread that is missing.
    for number in 0..50_000 {
        server.changed(&format!("gone-{number}"));
    }
    let snapshot = watch.until(|event| event["event"] == "snapshot");
    assert_eq!(snapshot["threads"][0]["thread_id"], "missed");
    server.consume("missed", 1);
    assert_eq!(watch.next_of("thread", "missed")["total_tokens"], 8);
}

#[test]
fn a_watcher_that_leaves_gives_its_place_back() {
    let server = Server::start(None);
    let watching: Vec<_> = (0..64).map(|_| server.watch()).collect();
    let answer = server.get("/events");
    assert_eq!((answer.status, &answer.json()["error"]["type"]), (503, &json!("too_many_watchers")));
    drop(watching);
    let free = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        server.consume("a", 0);
        server.is_free()
    });
    assert!(free, "the places are free again");
}

impl Server {
    /// Whether there is a place for a watcher.
    fn is_free(&self) -> bool {
        use std::io::Read;
        let mut stream = std::net::TcpStream::connect(self.address).unwrap();
        let request = format!("GET /events HTTP/1.0\r\nhost: {}\r\n\r\n", self.address);
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        status.ends_with(b"200")
    }
}

#[test]
fn who_comes_later_gets_what_has_happened_before_once() {
    let server = Server::start(None);
    server.consume("large", 960);
    server.refuse("large", 41);
    server.acknowledge("large");
    let mut watch = server.watch();
    let snapshot = watch.next();
    let told: Vec<_> =
        snapshot["news"].as_array().unwrap().iter().map(|news| &news["what"]["event"]).collect();
    assert_eq!(told, ["warning", "warning", "warning", "refused"]);
    assert!(snapshot["news"][0]["at_ms"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!((&snapshot["refused"], &snapshot["unidentified"]), (&json!(1), &json!([])));
    serde_json::from_value::<Live>(snapshot).expect("it is what the type says");
    server.refuse("large", 42);
    let next = watch.until(|event| event["event"] != "thread" && event["event"] != "totals");
    assert_eq!((&next["event"], &next["requested"]), (&json!("refused"), &json!(42)));
}
