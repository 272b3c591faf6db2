//! Whatever clients, providers and hosts say, the rules have an answer to it: nothing panics, and every turn is one
//! that a host can carry out.

use thread_budget_router_core::{
    Answer, BudgetExhausted, Config, Consumed, Event, Exchange, Failure, FailureKind, Held, HoldName, Kept,
    KeyConflict, Next, RegistryError, Request, RequestBody, Severity, Usage,
};

/// What requests and answers are made of.
const TEXTS: [&str; 28] = [
    r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":50,"tools":[{"name":"f"}],"stream":true}"#,
    r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBO"}}]}],"n":3,"stream_options":{"include_usage":null}}"#,
    r#"{"messages":[{"role":"assistant","tool_calls":[{}]},{"role":"tool","content":"\ud83d\ude00\u00e9"}],"thinking":{"type":"enabled","budget_tokens":9000},"max_tokens":64000,"cache_control":{}}"#,
    r#"{"input":[{"type":"function_call_output","output":"x"}],"max_output_tokens":18446744073709551615,"stream":false,"metadata":{"thread_id":"\u0061"}}"#,
    r#"{"input":"hi","prompt":"x","best_of":18446744073709551615,"n":18446744073709551615,"max_tokens":18446744073709551615}"#,
    r#"{"choices":[{"message":{"content":"Done."}}],"usage":{"prompt_tokens":18446744073709551615,"completion_tokens":18446744073709551615}}"#,
    r#"{"usage":{"input_tokens":7,"cache_read_input_tokens":18446744073709551615,"output_tokens":3}}"#,
    "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\r\n\r\n",
    "data: [DONE]\n\n",
    "event: message_delta\rdata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":5}}\r\r",
    "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n",
    r#"{"input":"hi","background":true,"stream":true}"#,
    r#"{"id":"r","status":"queued","usage":null}"#,
    r#"{"id":"r","status":"completed","usage":{"input_tokens":"7","iterations":[{"output_tokens":1e15}]}}"#,
    "data: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n",
    r#"{"error":{},"choices":[{"usage":{"total_tokens":9}}],"timings":{"prompt_n":1}}"#,
    "\u{1f}\u{8}",
    "[[[[",
    "\"",
    "\\u",
    "\n\n",
    "null",
    "{}",
    "\u{feff}",
    "é中😀",
    ":",
    ",",
];
const HEADERS: [&str; 13] = [
    "x-thread-id: a\n",
    "X-Thread-ID: é\n",
    "x-parent-thread-id: p\n",
    "x-thread-max-tokens: 5\n",
    "authorization: Bearer k\n",
    "content-type: text/event-stream\n",
    "content-type: application/json\n",
    "content-encoding: gzip\n",
    "idempotency-key: k\n",
    "retry-after: 1e300\n",
    "upgrade: websocket\n",
    "\n::\u{0}: \n",
    "anthropic-version",
];
const TARGETS: [&str; 12] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/responses/compact",
    "/v1/responses/r?stream=true",
    "/v1/responses/r/cancel",
    "/v1/messages?beta=true",
    "/v1/messages/count_tokens",
    "/v1/models/é",
    "",
    "/v1/chat/completions?api-key=%",
];

fn text(luck: &mut fastrand::Rng) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..luck.choice([1, 1, 1, 0, 2, 3]).unwrap() {
        text.extend_from_slice(luck.choice(&TEXTS).unwrap().as_bytes());
    }
    for _ in 0..luck.choice([0, 0, 1, 2]).unwrap() {
        if !text.is_empty() {
            let at = luck.usize(0..text.len());
            match luck.u8(0..3) {
                0 => text[at] = luck.u8(..),
                1 => text.truncate(at),
                _ => drop(text.remove(at)),
            }
        }
    }
    text
}

fn headers(luck: &mut fastrand::Rng) -> Vec<u8> {
    (0..luck.usize(0..6)).flat_map(|_| luck.choice(&HEADERS).unwrap().bytes().collect::<Vec<_>>()).collect()
}

fn number(luck: &mut fastrand::Rng) -> u64 {
    *luck.choice(&[0, 1, 15, 100, 4_096, 100_000, u64::MAX - 1, u64::MAX]).unwrap()
}

fn usage(luck: &mut fastrand::Rng) -> Usage {
    Usage {
        prompt_tokens: number(luck),
        completion_tokens: number(luck),
        total_tokens: number(luck),
        remaining: number(luck),
        max_tokens: number(luck),
        request_count: number(luck),
    }
}

fn severity(luck: &mut fastrand::Rng) -> Option<Severity> {
    *luck.choice(&[None, Some(Severity::Warning), Some(Severity::Final)]).unwrap()
}

fn request(luck: &mut fastrand::Rng) -> Event {
    Event::Request(Request {
        id: "x".into(),
        chance: luck.u64(..),
        date: "2026-11-25".into(),
        method: (*luck.choice(&["POST", "POST", "POST", "GET", "post"]).unwrap()).into(),
        target: (*luck.choice(&TARGETS).unwrap()).into(),
        headers: headers(luck),
        body: match luck.u8(0..20) {
            0 => RequestBody::TooLong,
            1 => RequestBody::TooSlow,
            2 => RequestBody::Broken,
            _ => RequestBody::Whole(text(luck)),
        },
    })
}

/// An event that answers what was asked, or any other.
fn event(next: &Next, luck: &mut fastrand::Rng) -> Event {
    let kind = match next {
        _ if luck.u8(0..20) == 0 => luck.u8(0..17),
        Next::Recall(_) => *luck.choice(&[13, 13, 14]).unwrap(),
        Next::Claim(_) => *luck.choice(&[15, 15, 16]).unwrap(),
        Next::Hold(_) => *luck.choice(&[1, 1, 1, 2, 5]).unwrap(),
        Next::Settle(_) => *luck.choice(&[3, 3, 4, 5]).unwrap(),
        Next::Send(_) => *luck.choice(&[6, 6, 6, 9, 11, 12]).unwrap(),
        Next::Read(_) => *luck.choice(&[7, 7, 7, 8, 9, 11, 12]).unwrap(),
        Next::Wait(_) => *luck.choice(&[10, 10, 11, 12]).unwrap(),
        Next::Resume | Next::Done => luck.u8(0..17),
    };
    match kind {
        0 => request(luck),
        1 => Event::Held(Held {
            runway: None,
            completion_tokens: number(luck),
            usage: usage(luck),
            room: number(luck),
            severity: severity(luck),
            pending: Vec::new(),
            repeated: luck.u8(0..20) == 0,
        }),
        2 => Event::NotHeld(RegistryError::Exhausted(BudgetExhausted {
            thread_id: "a".into(),
            used: number(luck),
            held: number(luck),
            max_tokens: number(luck),
            requested: number(luck),
        })),
        3 => Event::Settled(Consumed {
            usage: usage(luck),
            room: number(luck),
            severity: severity(luck),
            repeated: luck.bool(),
        }),
        4 => Event::NotSettled(RegistryError::UnknownHold),
        5 => Event::Unavailable("gone".into()),
        6 => Event::Answer(Answer {
            status: *luck.choice(&[200, 200, 200, 204, 400, 422, 429, 500, 503, 999]).unwrap(),
            headers: headers(luck),
            body: text(luck),
        }),
        7 => Event::Piece(text(luck)),
        8 => Event::Ended,
        9 => Event::Failed(Failure {
            kind: *luck
                .choice(&[FailureKind::Unsent, FailureKind::Lost, FailureKind::Slow, FailureKind::TooLong])
                .unwrap(),
            received_bytes: number(luck),
            reason: "luck".into(),
        }),
        10 => Event::Woke,
        11 => Event::Left,
        12 => Event::Stopping,
        13 => Event::Recalled(Some(Kept {
            name: "r".into(),
            hold: HoldName { thread_id: "a".into(), request_id: "x.1".into() },
            upstream: luck.u32(..),
            model: "m".into(),
            prompt_tokens: number(luck),
            completion_tokens: number(luck),
            for_ms: number(luck),
        })),
        14 => Event::Recalled(None),
        15 => Event::Claimed,
        _ => Event::NotClaimed(*luck.choice(&[KeyConflict::InFlight, KeyConflict::OtherBody]).unwrap()),
    }
}

#[test]
fn nothing_that_is_said_breaks_the_rules() {
    let config = Config::from_json(
        r#"{"upstreams":[{"url":"https://a/v1","weights":[{"input":0.3,"output":1000,"reasoning":0}]},{"url":"https://b?x=1","models":["m"],"key_env":"B"}],"allow_thread_options":true,"max_response_bytes":2000}"#,
    )
    .unwrap();
    let mut sent = 0;
    for seed in 0..20_000 {
        let mut luck = fastrand::Rng::with_seed(seed);
        let mut exchange = Exchange::new(config.clone());
        let mut next = Next::Done;
        for step in 0..30 {
            let event = if step == 0 { request(&mut luck) } else { event(&next, &mut luck) };
            let turn = exchange.step(number(&mut luck), event);
            next = turn.next;
            if let Next::Send(request) = &next {
                sent += 1;
                assert!(request.url.starts_with("https://a/v1") || request.url.starts_with("https://b"));
                if let Some(body) = &request.body {
                    let body: Result<serde_json::Value, _> = serde_json::from_slice(body);
                    assert!(body.is_ok(), "seed {seed}: what is sent is JSON");
                }
            }
            if next == Next::Done {
                break;
            }
        }
    }
    assert!(sent > 2_000, "{sent} requests were sent");
}
