//! What the router decides, whatever happens.

use serde_json::value::RawValue;
use thread_budget_router_core::{
    Answer, BudgetExhausted, Config, Consumed, Event, Exchange, Failure, FailureKind, Held, HoldName, Kept,
    KeyConflict, Next, RegistryError, Request, RequestBody, Severity, Usage,
};

const CONFIG: &str = r#"{"upstreams":[{"url":"https://a/v1"},{"url":"https://b?x=1","models":["m"],"key_env":"B"}],
    "allow_thread_options":true,"max_response_bytes":2000}"#;

/// Where a line of the input ends: no text has this byte.
const END: u8 = 0xff;

const TARGETS: [&str; 8] = [
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses/compact",
    "/v1/responses/r",
    "/v1/models",
];

/// The first part names the target by its first byte, and has the headers; the second is the request's body. Each
/// further part is an event: its first byte chooses it and its numbers, and the rest is its text.
pub(super) fn check(bytes: &[u8]) {
    let mut parts = bytes.split(|byte| *byte == END);
    let (target, headers) = first(parts.next().unwrap_or_default());
    let body = parts.next().unwrap_or_default();
    let mut exchange = Exchange::new(Config::from_json(CONFIG).expect("it is a configuration"));
    let mut next = step(&mut exchange, 0, request(target, headers, body));
    for (part, now_ms) in parts.zip(1..) {
        let (choice, text) = first(part);
        next = step(&mut exchange, now_ms, event(&next, choice, text));
    }
}

fn step(exchange: &mut Exchange, now_ms: u64, event: Event) -> Next {
    let next = exchange.step(now_ms, event).next;
    if let Next::Send(request) = &next {
        assert!(request.url.starts_with("https://a/v1") || request.url.starts_with("https://b/"));
        if let Some(body) = &request.body {
            serde_json::from_slice::<&RawValue>(body).expect("what is sent is JSON");
        }
    }
    next
}

fn first(part: &[u8]) -> (u8, &[u8]) {
    part.split_first().map_or((0, part), |(first, rest)| (*first, rest))
}

fn request(target: u8, headers: &[u8], body: &[u8]) -> Event {
    let is_post = target % 16 < 8;
    Event::Request(Request {
        id: "x".into(),
        chance: target.into(),
        date: "2026-11-25".into(),
        method: if is_post { "POST" } else { "GET" }.into(),
        target: TARGETS[usize::from(target % 8)].into(),
        headers: headers.into(),
        body: RequestBody::Whole(body.into()),
    })
}

/// An event that answers what was asked, or, for the last choices, any other.
fn event(next: &Next, choice: u8, text: &[u8]) -> Event {
    let pick = |kinds: &[u8]| kinds[usize::from(choice) % kinds.len()];
    let kind = match next {
        _ if choice >= 240 => choice - 240,
        Next::Hold(_) => pick(&[0, 0, 1, 4]),
        Next::Settle(_) => pick(&[2, 2, 3, 4]),
        Next::Send(_) => pick(&[5, 5, 8, 10, 11]),
        Next::Read(_) => pick(&[6, 6, 7, 8, 10, 11]),
        Next::Wait(_) => pick(&[9, 9, 10, 11]),
        Next::Recall(_) => pick(&[12, 12, 13]),
        Next::Claim(_) => pick(&[14, 14, 15]),
        Next::Resume | Next::Done => choice % 16,
    };
    let number = number(choice);
    match kind {
        0 => Event::Held(Held {
            runway: None,
            completion_tokens: number,
            usage: usage(choice),
            room: number,
            severity: severity(choice),
            pending: Vec::new(),
            repeated: choice % 16 == 15,
        }),
        1 => Event::NotHeld(RegistryError::Exhausted(BudgetExhausted {
            thread_id: "a".into(),
            used: number,
            held: number,
            max_tokens: number,
            requested: number,
        })),
        2 => Event::Settled(Consumed {
            usage: usage(choice),
            room: number,
            severity: severity(choice),
            repeated: choice % 16 == 15,
        }),
        3 => Event::NotSettled(RegistryError::UnknownHold),
        4 => Event::Unavailable("gone".into()),
        5 => answer(choice, text),
        6 => Event::Piece(text.into()),
        7 => Event::Ended,
        8 => Event::Failed(Failure {
            kind: [FailureKind::Unsent, FailureKind::Lost, FailureKind::Slow, FailureKind::TooLong]
                [usize::from(choice / 16 % 4)],
            received_bytes: number,
            reason: "luck".into(),
        }),
        9 => Event::Woke,
        10 => Event::Left,
        11 => Event::Stopping,
        12 => Event::Recalled(Some(Kept {
            name: "r".into(),
            hold: HoldName { thread_id: "a".into(), request_id: "x.1".into() },
            upstream: u32::from(choice % 3),
            model: "m".into(),
            prompt_tokens: number,
            completion_tokens: number,
            for_ms: number,
        })),
        13 => Event::Recalled(None),
        14 => Event::Claimed,
        _ => Event::NotClaimed(if choice.is_multiple_of(2) {
            KeyConflict::InFlight
        } else {
            KeyConflict::OtherBody
        }),
    }
}

/// Headers up to an empty line, and a body.
fn answer(choice: u8, text: &[u8]) -> Event {
    let end = text.windows(2).position(|pair| pair == b"\n\n");
    let (headers, body) = end.map_or((&b""[..], text), |end| (&text[..=end], &text[end + 2..]));
    Event::Answer(Answer {
        status: [200, 200, 200, 204, 400, 429, 503, 999][usize::from(choice / 16 % 8)],
        headers: headers.into(),
        body: body.into(),
    })
}

fn number(choice: u8) -> u64 {
    [100_000, 4_096, 100, 15, 1, 0, u64::MAX - 1, u64::MAX][usize::from(choice / 2 % 8)]
}

fn usage(choice: u8) -> Usage {
    let number = number(choice);
    Usage {
        prompt_tokens: number,
        completion_tokens: number,
        total_tokens: number.saturating_mul(2),
        remaining: number,
        max_tokens: number,
        request_count: number,
    }
}

fn severity(choice: u8) -> Option<Severity> {
    [None, Some(Severity::Warning), Some(Severity::Final)][usize::from(choice % 3)]
}
