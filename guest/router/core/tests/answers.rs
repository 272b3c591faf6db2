//! Answers of any kind: what is counted and passed on does not depend on how they arrive, and nothing that a
//! provider sends can break the rules.

mod support;

use miniz_oxide::deflate::compress_to_vec;
use proptest::prelude::*;
use support::{Outcome, Provider, ask};

const PATHS: [&str; 6] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/responses/compact",
    "/v1/messages",
];

const EVENTS: &str = "text/event-stream";

fn answered(path: &str, stream: bool, content_type: &str, body: &[u8], piece_bytes: usize) -> Outcome {
    let headers = format!("content-type: {content_type}\ncontent-encoding: gzip\n");
    let request = format!(r#"{{"model":"m","messages":[],"stream":{stream}}}"#);
    ask(path, request.as_bytes(), &Provider { headers, body: body.to_vec(), piece_bytes })
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let head = [0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3];
    [&head, &b"a name\0"[..], &compress_to_vec(body, 6), &[0; 8]].concat()
}

/// Text made of what answers are made of, so that it comes close to one.
fn any_answer() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just("data:"),
        Just("data: "),
        Just("event: error"),
        Just("error: "),
        Just("\n"),
        Just("\n\n"),
        Just("\r"),
        Just("\r\n"),
        Just("\u{feff}"),
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just("\u{e9}"),
        Just("[DONE]"),
        Just(r#""usage":"#),
        Just(r#""prompt_tokens":7"#),
        Just(r#""completion_tokens":"3""#),
        Just(r#""total_tokens":1e3"#),
        Just(r#""iterations":[{"input_tokens":9,"output_tokens":2}]"#),
        Just(r#""choices":[{"usage":{"prompt_tokens":5}}]"#),
        Just(r#"{"choices":[{"delta":{"content":"some text"}}]}"#),
        Just(r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#),
        Just(r#"{"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}"#),
        Just(r#"{"type":"message_delta","delta":{"stop_reason":"x"},"usage":{"output_tokens":5}}"#),
        Just(r#"{"type":"message_stop"}"#),
        Just(r#"{"type":"response.completed","response":{"usage":{"input_tokens":9,"output_tokens":5}}}"#),
        Just(r#"{"error":{"message":"no"}}"#),
        Just(r#""timings":{"prompt_n":1,"predicted_n":2}"#),
    ];
    let parts = proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat().into_bytes());
    prop_oneof![9 => parts, 1 => proptest::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn an_answer_is_the_same_however_it_arrives(
        path in proptest::sample::select(&PATHS[..]),
        body in any_answer(),
        stream in any::<bool>(),
        piece_bytes in 1_usize..50,
    ) {
        for content_type in [EVENTS, "application/json"] {
            let whole = answered(path, stream, content_type, &body, usize::MAX);
            prop_assert_eq!(&answered(path, stream, content_type, &body, piece_bytes), &whole);
            // What begins like gzip and is none cannot be read.
            if body.first() != Some(&0x1f) {
                let zipped = answered(path, stream, content_type, &gzip(&body), piece_bytes);
                prop_assert_eq!(zipped, whole);
            }
        }
    }

    #[test]
    fn broken_gzip_is_an_error(body in proptest::collection::vec(any::<u8>(), 0..200), at in any::<usize>()) {
        let mut zipped = gzip(&body);
        let at = at % zipped.len();
        zipped[at] ^= 1 << (at % 8);
        for stream in [true, false] {
            answered(PATHS[0], stream, EVENTS, &zipped, 7);
            answered(PATHS[0], stream, EVENTS, &zipped[..at], 7);
        }
    }
}

#[test]
fn what_was_compressed_is_passed_on_as_it_was_meant() {
    let body = br#"{"choices":[],"usage":{"prompt_tokens":50,"completion_tokens":20}}"#;
    let outcome = answered(PATHS[0], false, "application/json", &gzip(body), 1);
    assert_eq!(outcome.settled, Some([50, 20]));
    assert_eq!(outcome.body, body);
    assert_eq!(outcome.removed, ["content-encoding"]);
    let two = [gzip(&body[..9]), gzip(&body[9..])].concat();
    assert_eq!(answered(PATHS[0], false, "application/json", &two, 1), outcome);
}

#[test]
fn what_cannot_be_decompressed_costs_what_was_held() {
    let held = |headers: &str, body: &[u8]| {
        let request = br#"{"model":"m","messages":[],"max_tokens":900}"#;
        let provider = Provider { headers: headers.into(), body: body.to_vec(), piece_bytes: 1 };
        let outcome = ask(PATHS[0], request, &provider);
        assert_eq!((outcome.status, outcome.settled), (502, Some([100, 900])), "{headers}");
    };
    held("content-encoding: br\n", b"x");
    held("content-encoding: gzip, zstd\n", b"x");
    let zipped = gzip(br#"{"usage":{"prompt_tokens":50}}"#);
    for length in 1..zipped.len() - 8 {
        held("content-encoding: gzip\n", &zipped[..length]);
    }
    held("content-type: application/json\n", &[&zipped[..17], &[7; 99]].concat());
    held("content-type: application/json\n", &gzip(&vec![b' '; 40 << 20]));
}
