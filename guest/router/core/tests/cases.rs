//! Recorded answers of providers and what they cost: each is put through the rules, however it arrives.
//!
//! The recordings are not a part of the repository. Each is a file `{rule, request: {path, body}, response:
//! {content_type, text}, expected: {prompt_tokens: [least, most], completion_tokens: [least, most]}}`.

use serde_json::Value;
use std::fs;
use std::path::Path;
use thread_budget_router_core::{
    Action, Answer, Config, Consumed, Event, Exchange, Held, Next, Request, RequestBody, Usage,
};

/// What is settled for a request and this answer to it, whose body arrives in pieces of `length` bytes.
fn counted(case: &Value, length: usize) -> [u64; 2] {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let body = text(&case["response"]["text"]).into_bytes();
    let mut pieces = body.chunks(length);
    let config = Config::from_json(r#"{"upstreams":[{"url":"https://provider"}]}"#).unwrap();
    let mut exchange = Exchange::new(config);
    let mut event = Event::Request(Request {
        id: "x".into(),
        chance: 0,
        method: "POST".into(),
        target: text(&case["request"]["path"]),
        headers: b"x-thread-id: a\ncontent-type: application/json\n".to_vec(),
        body: RequestBody::Whole(case["request"]["body"].to_string().into_bytes()),
    });
    let mut counted = [0; 2];
    loop {
        let turn = exchange.step(0, event);
        for action in &turn.actions {
            if let Action::Respond(response) = action {
                assert_eq!(response.status, 200);
            }
        }
        event = match turn.next {
            Next::Hold(hold) => Event::Held(Held {
                completion_tokens: hold.completion_tokens,
                usage: Usage { max_tokens: 100_000_000, ..Usage::default() },
                room: 90_000_000,
                ..Held::default()
            }),
            Next::Send(send) => Event::Answer(Answer {
                status: 200,
                headers: format!("content-type: {}\n", text(&case["response"]["content_type"])).into_bytes(),
                body: if send.whole { body.clone() } else { Vec::new() },
            }),
            Next::Read(_) => pieces.next().map_or(Event::Ended, |piece| Event::Piece(piece.to_vec())),
            Next::Settle(settle) => {
                counted[0] += settle.prompt_tokens;
                counted[1] += settle.completion_tokens;
                Event::Settled(Consumed::default())
            }
            Next::Done => return counted,
            Next::Wait(_) | Next::Resume => panic!("there is nothing to wait for"),
        };
    }
}

#[test]
fn every_recorded_answer_counts_as_it_cost() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/cases/usage");
    let Ok(files) = fs::read_dir(&folder) else {
        eprintln!("SKIPPED: there are no recorded answers in {}", folder.display());
        return;
    };
    let (mut total, mut wrong) = (0, Vec::new());
    for file in files {
        let path = file.unwrap().path();
        let case: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        total += 1;
        let misses = [1, 7, 1_000, usize::MAX].map(|length| {
            let counted = counted(&case, length);
            let is_right =
                ["prompt_tokens", "completion_tokens"].iter().zip(counted).all(|(field, counted)| {
                    let [least, most] = [0, 1].map(|at| case["expected"][*field][at].as_u64().unwrap());
                    (least..=most).contains(&counted)
                });
            (!is_right).then_some((length, counted))
        });
        if let Some((length, counted)) = misses.into_iter().flatten().next() {
            wrong.push(format!(
                "{}: {counted:?} where {} is right ({}), in pieces of {length}",
                path.display(),
                case["expected"],
                case["rule"]
            ));
        }
    }
    println!("{} of {total} recorded answers count as they cost", total - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
