//! A step of a case: its request goes out, and what the client and the providers get is looked at.

use crate::case::{Body, Expect, Sent, Step};
use crate::scripted::{Got, Script};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::Value;
use std::collections::BTreeMap;
use std::mem;

pub(crate) async fn ask(
    at: &str,
    client: &Client<HttpConnector, Full<Bytes>>,
    base: &str,
    script: &Script,
    step: &mut Step,
) {
    script.answer(mem::take(&mut step.answers));
    let mut request = Request::builder().method(&*step.method).uri(format!("{base}{}", step.path));
    if let Some(kind) = step.body.content_type() {
        request = request.header(CONTENT_TYPE, kind);
    }
    for (name, value) in &step.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::from(step.body.bytes())).unwrap();
    let response = client.request(request).await.unwrap_or_else(|error| panic!("{at}: {error}"));
    let (head, mut body) = response.into_parts();
    let mut received = Vec::new();
    let breaks = loop {
        match body.frame().await {
            Some(Ok(frame)) => received.extend(frame.into_data().unwrap_or_default()),
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    let (unasked, got) = script.take();
    check(at, &step.expect, head.status, &head.headers, &received, breaks);
    assert_eq!(unasked, 0, "{at}: answers that no provider was asked for; asked were {got:#?}");
    if let Some(sent) = &step.sent {
        check_sent(at, sent, &got);
    }
}

fn check(at: &str, expect: &Expect, status: StatusCode, headers: &HeaderMap, body: &[u8], breaks: bool) {
    let text = String::from_utf8_lossy(body);
    assert_eq!(status.as_u16(), expect.status, "{at}: {text}");
    check_headers(at, &expect.headers, headers);
    check_body(at, &expect.body, body);
    if let Some(part) = &expect.contains {
        assert!(text.contains(part), "{at}: {text} does not contain {part}");
    }
    assert_eq!(breaks, expect.breaks, "{at}: it breaks off");
}

fn check_headers(at: &str, expected: &BTreeMap<String, Option<String>>, headers: &HeaderMap) {
    for (name, value) in expected {
        let all: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(all, value.as_deref().into_iter().collect::<Vec<_>>(), "{at}: header {name}");
    }
}

fn check_body(at: &str, expected: &Body, body: &[u8]) {
    match expected {
        Body::None => {}
        Body::Json(expected) => {
            let body: Value = serde_json::from_slice(body).unwrap_or_else(|error| {
                panic!("{at}: {error} in {}", String::from_utf8_lossy(body));
            });
            assert_eq!(body, *expected, "{at}");
        }
        expected => {
            assert_eq!(String::from_utf8_lossy(body), String::from_utf8_lossy(&expected.bytes()), "{at}");
        }
    }
}

fn check_sent(at: &str, expected: &[Sent], got: &[Got]) {
    assert_eq!(expected.len(), got.len(), "{at}: providers got {got:#?}");
    for (number, (expected, got)) in expected.iter().zip(got).enumerate() {
        let at = format!("{at}, what was sent, number {number}");
        assert_eq!(got.upstream, expected.upstream, "{at}: the provider");
        if let Some(path) = &expected.path {
            assert_eq!(got.path, *path, "{at}: the path");
        }
        check_headers(&at, &expected.headers, &got.headers);
        check_body(&at, &expected.body, &got.body);
        let length = got.headers.get(CONTENT_LENGTH).map(|length| length.to_str().unwrap().to_owned());
        assert!(length.is_none_or(|length| length == got.body.len().to_string()), "{at}: its length");
    }
}
