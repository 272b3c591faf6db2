//! Every route, and who may ask.

use crate::server::{Server, TOKEN};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};
use thread_budget_host::{Registry, ThreadOptions};
use thread_budget_serve::{Admin, AdminConfig, AdminError, Events, Health, Tls, UnidentifiedClients};
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
            "held_tokens": 50, "request_count": 1, "runway": 0, "triggered_thresholds": [75],
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
    for path in ["/healthz", "/readyz"] {
        assert_eq!((server.get(path).status, &*server.get(path).body), (200, "ok\n"));
    }
    let answer = server.get("/metrics");
    assert_eq!((answer.status, &answer.json()["error"]["message"]), (404, &json!("the metrics are off")));
    assert_eq!(server.get("/nothing").json()["error"]["type"], "not_found");
    assert_eq!(server.ask("PUT", "/threads/a", &[], "").json()["error"]["type"], "method_not_allowed");
}

#[test]
fn the_page_may_load_nothing_from_elsewhere_and_be_framed_by_nobody() {
    let server = Server::start(Some(TOKEN));
    for (path, kind) in [("/", "text/html"), ("/style.css", "text/css"), ("/script.js", "text/javascript")] {
        let answer = server.get(path);
        assert_eq!(answer.status, 200);
        assert!(answer.header("content-type").unwrap().starts_with(kind));
        let policy = answer.header("content-security-policy").unwrap();
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert!(!answer.body.contains(TOKEN));
    }
}

#[test]
fn with_a_token_nothing_is_told_without_it() {
    let server = Server::start(Some(TOKEN));
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
    let bearer = format!("Bearer {TOKEN}");
    let token = ("authorization", &*bearer);
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
fn others_reach_it_with_a_token_only_and_over_tls() {
    let serve = |config: AdminConfig| {
        let registry = Registry::builder().build().unwrap();
        let admin = Admin {
            registry,
            events: Events::default(),
            unidentified: UnidentifiedClients::default(),
            health: Health::default(),
            config,
            metrics: None,
        };
        Runtime::new().unwrap().block_on(async {
            let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
            tokio::time::timeout(Duration::from_millis(200), admin.serve(listener)).await
        })
    };
    let token = |token: &str| Some(token.to_owned());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/router_host/tls");
    let tls = Tls { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
    for (config, words) in [
        (AdminConfig::default(), "admin.token: one is needed"),
        (
            AdminConfig { token: token(TOKEN), ..AdminConfig::default() },
            "admin.tls: admin.listen can be reached",
        ),
        (AdminConfig { token: token("short"), tls: Some(tls.clone()), ..AdminConfig::default() }, "16 bytes"),
        (AdminConfig { clear_text: true, ..AdminConfig::default() }, "admin.token: one is needed"),
    ] {
        let refused = serve(config).expect("it ends at once").unwrap_err();
        assert!(matches!(refused, AdminError::Config(_)));
        assert!(refused.to_string().contains(words), "{refused}");
    }
    for config in [
        AdminConfig { token: token(TOKEN), tls: Some(tls), ..AdminConfig::default() },
        AdminConfig { token: token(TOKEN), clear_text: true, ..AdminConfig::default() },
    ] {
        assert!(serve(config).is_err(), "it goes on");
    }
}

#[test]
fn wrong_tokens_wait_for_each_other_and_the_right_one_for_nobody() {
    let server = Server::start(Some(TOKEN));
    let started = Instant::now();
    let took = std::thread::scope(|scope| {
        let guess = || {
            let answer = server.ask("GET", "/threads", &[("authorization", "Bearer secret-of-nobody")], "");
            assert_eq!(answer.status, 401);
        };
        let guesses: Vec<_> = (0..10).map(|_| scope.spawn(guess)).collect();
        std::thread::sleep(Duration::from_millis(100));
        let asked = Instant::now();
        let bearer = format!("Bearer {TOKEN}");
        assert_eq!(server.ask("GET", "/threads", &[("authorization", &*bearer)], "").status, 200);
        let took = asked.elapsed();
        guesses.into_iter().for_each(|guess| guess.join().unwrap());
        took
    });
    assert!(started.elapsed() >= Duration::from_secs(2), "ten guesses took {:?}", started.elapsed());
    assert!(took < Duration::from_secs(1), "{took:?}");
}
