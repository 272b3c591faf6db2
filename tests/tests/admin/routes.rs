//! Every route, and who may ask.

use crate::server::Server;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use thread_budget_host::{Registry, ThreadOptions};
use thread_budget_serve::{Admin, AdminError, Events, UnidentifiedClients};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

const JSON: (&str, &str) = ("content-type", "application/json");

fn ids(page: &Value) -> Vec<&str> {
    page["threads"].as_array().unwrap().iter().map(|thread| thread["thread_id"].as_str().unwrap()).collect()
}

#[test]
fn a_thread_is_told_with_everything_about_it() {
    let server = Server::start(None);
    let options = ThreadOptions { max_tokens: Some(400), parent: Some("lead".into()) };
    server.registry.get_budget("lead").unwrap();
    server.registry.open_thread("a/b ü%?#", &options).unwrap();
    let _held = server.registry.hold("a/b ü%?#", 50, 0, 0).unwrap();
    server.registry.consume("a/b ü%?#", 300, 25).unwrap();

    let child = server.get("/threads/a%2Fb%20%C3%BC%25%3F%23");
    assert_eq!(child.status, 200);
    assert_eq!(
        child.json(),
        json!({
            "thread_id": "a/b ü%?#", "parent": "lead", "max_tokens": 400, "prompt_tokens": 300,
            "completion_tokens": 25, "total_tokens": 325, "remaining": 75, "percent_used": 81.25,
            "held_tokens": 50, "request_count": 1, "triggered_thresholds": [75],
            "pending_thresholds": [{"percent": 75, "severity": "warning"}],
            "child_count": 0, "children": []
        })
    );
    let parent = server.get("/threads/lead").json();
    assert_eq!(parent["children"], json!(["a/b ü%?#"]));
    assert_eq!((&parent["held_tokens"], &parent["total_tokens"]), (&json!(50), &json!(325)));

    server.acknowledge("a/b ü%?#");
    // The next census may not be due yet.
    let started = Instant::now();
    let child = loop {
        let child = server.get("/threads/a%2Fb%20%C3%BC%25%3F%23").json();
        if child["pending_thresholds"] == json!([]) {
            break child;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "it is never told");
    };
    assert_eq!(child["triggered_thresholds"], json!([75]));
}

#[test]
fn asking_for_a_thread_does_not_make_it() {
    let server = Server::start(None);
    for method in ["GET", "DELETE"] {
        let answer = server.ask(method, "/threads/nobody", &[], "");
        assert_eq!(answer.status, 404);
        assert_eq!(
            answer.json(),
            json!({"error": {"type": "not_found", "message": "there is no thread of that id"}})
        );
    }
    assert_eq!(server.get(&format!("/threads/{}", "x".repeat(1_025))).status, 404);
    assert_eq!(server.get("/threads/%FF").status, 400);
    assert!(server.registry.get_all_usage().unwrap().is_empty());
}

#[test]
fn all_threads_come_in_pages_each_once() {
    let server = Server::start(None);
    for number in 0..250 {
        server.registry.consume(&format!("root-{number}"), number, 0).unwrap();
    }
    for number in 0..50 {
        let options = ThreadOptions { max_tokens: None, parent: Some(format!("root-{number}")) };
        server.registry.open_thread(&format!("child-{number}"), &options).unwrap();
    }
    let mut seen = BTreeSet::new();
    let mut path = "/threads?limit=70".to_owned();
    let mut pages = 0;
    loop {
        let page = server.get(&path).json();
        for thread in page["threads"].as_array().unwrap() {
            if let Some(parent) = thread["parent"].as_str() {
                assert!(seen.contains(parent), "a parent comes first");
            }
            assert!(seen.insert(thread["thread_id"].as_str().unwrap().to_owned()), "each comes once");
        }
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/threads?limit=70&after={next}");
        pages += 1;
    }
    assert_eq!((seen.len(), pages), (300, 5));
    assert_eq!(ids(&server.get("/threads").json()).len(), 100);
    assert_eq!(ids(&server.get("/threads?limit=0").json()).len(), 1);
    assert_eq!(ids(&server.get("/threads?top=2").json()), ["root-249", "root-248"]);
    for wrong in ["limit=-1", "limit=x", "top=1&limit=2", "top=1&after=a", "after=", "depth=1"] {
        let answer = server.get(&format!("/threads?{wrong}"));
        assert_eq!(
            (answer.status, &answer.json()["error"]["type"]),
            (400, &json!("invalid_request_error")),
            "{wrong}"
        );
    }
}

#[test]
fn a_limit_is_changed_and_a_thread_forgotten() {
    let server = Server::start(None);
    server.registry.consume("a", 900, 50).unwrap();
    let usage = server.ask("POST", "/threads/a/limit", &[JSON], r#"{"max_tokens": 18446744073709551615}"#);
    assert_eq!(usage.status, 200);
    assert_eq!(usage.json()["max_tokens"], json!(u64::MAX));
    assert_eq!(server.registry.get_usage("a").unwrap().unwrap().max_tokens, u64::MAX);
    server.ask("POST", "/threads/new/limit", &[JSON], r#"{"max_tokens": 7}"#);
    assert_eq!(server.registry.get_usage("new").unwrap().unwrap().max_tokens, 7);

    for (body, headers, status) in [
        (r#"{"max_tokens": -1}"#, &[JSON] as &[_], 422),
        (r#"{"max_tokens": 1.5}"#, &[JSON], 422),
        (r#"{"max_tokens": 1, "more": 1}"#, &[JSON], 422),
        ("{}", &[JSON], 422),
        ("{", &[JSON], 400),
        (r#"{"max_tokens": 1}"#, &[], 415),
        (&format!(r#"{{"max_tokens": 1{}}}"#, " ".repeat(5_000)), &[JSON], 413),
    ] {
        let answer = server.ask("POST", "/threads/a/limit", headers, body);
        assert_eq!(
            (answer.status, &answer.json()["error"]["type"]),
            (status, &json!("invalid_request_error")),
            "{body}"
        );
    }
    let long = format!("/threads/{}/limit", "x".repeat(1_025));
    assert_eq!(server.ask("POST", &long, &[JSON], r#"{"max_tokens": 1}"#).status, 400);

    let last = server.ask("DELETE", "/threads/a", &[], "");
    assert_eq!(last.status, 200);
    assert_eq!(last.json()["usage"]["total_tokens"], 950);
    assert_eq!(last.json()["triggered_thresholds"], json!([]));
    assert_eq!(server.ask("DELETE", "/threads/a", &[], "").status, 404);
}

#[test]
fn health_metrics_and_what_is_not_there() {
    let server = Server::start(None);
    assert_eq!((server.get("/healthz").status, &*server.get("/healthz").body), (200, "ok\n"));
    let answer = server.get("/metrics");
    assert_eq!((answer.status, &answer.json()["error"]["message"]), (404, &json!("the metrics are off")));
    assert_eq!(server.get("/nothing").json()["error"]["type"], "not_found");
    assert_eq!(server.ask("PUT", "/threads/a", &[], "").json()["error"]["type"], "method_not_allowed");
}

#[test]
fn the_page_may_load_nothing_from_elsewhere_and_be_framed_by_nobody() {
    let server = Server::start(Some("secret"));
    for (path, kind) in [("/", "text/html"), ("/style.css", "text/css"), ("/script.js", "text/javascript")] {
        let answer = server.get(path);
        assert_eq!(answer.status, 200);
        assert!(answer.header("content-type").unwrap().starts_with(kind));
        let policy = answer.header("content-security-policy").unwrap();
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert!(!answer.body.contains("secret"));
    }
}

#[test]
fn with_a_token_nothing_is_told_without_it() {
    let server = Server::start(Some("secret"));
    server.registry.consume("a", 1, 1).unwrap();
    for (method, path) in [
        ("GET", "/threads"),
        ("GET", "/threads/a"),
        ("DELETE", "/threads/a"),
        ("POST", "/threads/a/limit"),
        ("GET", "/events"),
        ("GET", "/metrics"),
        ("GET", "/nothing"),
    ] {
        for header in [None, Some("Bearer wrong"), Some("Basic secret"), Some("secret")] {
            let headers: Vec<_> = header.map(|value| ("authorization", value)).into_iter().collect();
            let answer = server.ask(method, path, &headers, "");
            assert_eq!(answer.status, 401, "{method} {path} {header:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    let token = ("authorization", "Bearer secret");
    assert_eq!(ids(&server.ask("GET", "/threads", &[token], "").json()), ["a"]);
    assert_eq!(server.ask("GET", "/threads", &[token, ("host", "router.example")], "").status, 200);
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn without_a_token_other_names_and_other_pages_are_refused() {
    let server = Server::start(None);
    server.registry.consume("a", 1, 1).unwrap();
    for host in ["evil.example", "10.1.2.3:8081", ""] {
        for path in ["/", "/threads", "/events", "/healthz"] {
            let answer = server.ask("GET", path, &[("host", host)], "");
            assert_eq!(
                (answer.status, &answer.json()["error"]["type"]),
                (403, &json!("forbidden")),
                "{host} {path}"
            );
        }
    }
    for host in ["localhost", "localhost:9", "127.0.0.1:9", "[::1]:9"] {
        assert_eq!(server.ask("GET", "/threads", &[("host", host)], "").status, 200, "{host}");
    }
    let other = ("origin", "http://localhost:1");
    for (method, path, headers) in [
        ("DELETE", "/threads/a", &[other] as &[_]),
        ("POST", "/threads/a/limit", &[other, JSON]),
        ("DELETE", "/threads/a", &[("sec-fetch-site", "same-site")]),
        ("GET", "/threads", &[("sec-fetch-site", "cross-site")]),
        ("GET", "/events", &[("origin", "null")]),
    ] {
        let answer = server.ask(method, path, headers, r#"{"max_tokens": 1}"#);
        assert_eq!(answer.status, 403, "{method} {path}");
    }
    assert_eq!(server.registry.get_usage("a").unwrap().unwrap().max_tokens, 1_000);
    assert_eq!(
        server.ask("GET", "/", &[("sec-fetch-site", "cross-site")], "").status,
        200,
        "a link to it works"
    );
}

#[test]
fn others_reach_it_with_a_token_only() {
    let serve = |token: Option<&str>| {
        let registry = Registry::builder().build().unwrap();
        let admin = Admin {
            registry,
            events: Events::default(),
            unidentified: UnidentifiedClients::default(),
            token: token.map(String::from),
            metrics: None,
        };
        Runtime::new().unwrap().block_on(async {
            let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
            let served = tokio::time::timeout(Duration::from_millis(200), admin.serve(listener));
            served.await
        })
    };
    let refused = serve(None).expect("it ends at once").unwrap_err();
    assert!(matches!(refused, AdminError::NoToken { .. }));
    assert!(refused.to_string().contains("set one, or listen on a loopback address"));
    assert!(serve(Some("secret")).is_err(), "it goes on");
}
