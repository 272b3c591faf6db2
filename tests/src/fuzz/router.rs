//! The router's decisions on any request and any stream.

use serde_json::{Value, json};
use thread_budget_router_http_core::{Answer, Dialect, Estimate, Request, Stream, reported_usage, sse};

const WARNINGS: [&str; 2] = ["Note: \"76%\"", "WARNING: \\ 91%"];

/// The first byte chooses the API and the length of the pieces that a stream comes in.
pub(super) fn check(bytes: &[u8]) {
    let Some((&choice, input)) = bytes.split_first() else { return };
    let dialect = [Dialect::Chat, Dialect::Responses, Dialect::Messages][usize::from(choice % 3)];
    request(dialect, input);
    answer(dialect, input);
    stream(dialect, input, usize::from(choice / 3) + 1);
}

fn request(dialect: Dialect, input: &[u8]) {
    let Ok(request) = Request::read(dialect, input) else { return };
    let unchanged = request.body_with(&[]);
    if !request.lacks_usage() {
        assert_eq!(&*unchanged, input);
    }
    if !request.takes_messages() {
        return;
    }
    let warnings = WARNINGS.map(String::from);
    let changed = request.body_with(&warnings);
    let again = Request::read(dialect, &changed).expect("it is a request still");
    assert!(!again.lacks_usage() && again.takes_messages());
    assert_eq!(again.model(), request.model());
    assert_eq!(again.estimate().completion, request.estimate().completion);
    assert!(again.estimate().prompt >= request.estimate().prompt);

    // A value cannot hold numbers of any size, or many levels.
    let (Ok(mut before), Ok(mut after)) =
        (serde_json::from_slice::<Value>(input), serde_json::from_slice::<Value>(&changed))
    else {
        return;
    };
    let field = match dialect {
        Dialect::Chat => "messages",
        Dialect::Responses => "input",
        Dialect::Messages => "system",
    };
    let (old, new) = (before[field].take(), after[field].take());
    if dialect == Dialect::Messages && !old.is_array() {
        let text = WARNINGS.join("\n\n");
        let old = old.as_str().unwrap_or_default();
        let separator = if old.is_empty() { "" } else { "\n\n" };
        assert_eq!(new, json!(format!("{old}{separator}{text}")));
    } else {
        let added = WARNINGS.map(|text| match dialect {
            Dialect::Messages => json!({"type": "text", "text": text}),
            Dialect::Chat | Dialect::Responses => json!({"role": "system", "content": text}),
        });
        let old = match old {
            Value::Array(items) => items,
            text => vec![json!({"role": "user", "content": text})],
        };
        assert_eq!(new, json!([old, added.to_vec()].concat()));
    }
    if request.lacks_usage() {
        assert_eq!(after["stream_options"]["include_usage"], json!(true));
        before["stream_options"] = Value::Null;
        after["stream_options"] = Value::Null;
    }
    assert_eq!(before, after);
}

fn answer(dialect: Dialect, input: &[u8]) {
    // Whether it reports usage or not, it is read.
    let _ = reported_usage(input);
    if let Some(place) = Answer::read(dialect, input) {
        let changed = place.with(&WARNINGS.map(String::from));
        assert!(changed.len() > input.len());
        assert!(Answer::read(dialect, changed.as_bytes()).is_some());
    }
}

fn stream(dialect: Dialect, input: &[u8], length: usize) {
    let (pieces, whole) = (split(dialect, input.chunks(length)), split(dialect, [input].into_iter()));
    assert_eq!(pieces, whole);
    assert_eq!([whole.0.concat(), whole.1].concat(), input);
}

fn split<'a>(dialect: Dialect, pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut events = sse::Events::default();
    let mut stream = Stream::new(dialect, true);
    let mut all = Vec::new();
    for piece in pieces {
        events.push(piece);
        while let Some(event) = events.next() {
            stream.take(event);
            all.push(event.to_vec());
            if let Some(reported) = stream.reported() {
                let seen = stream.seen(Estimate::default());
                assert!(seen.prompt == reported.prompt && seen.completion >= reported.completion);
            }
        }
    }
    if let Some(events) = stream.in_band(&WARNINGS.map(String::from)) {
        assert!(events.ends_with("\n\n"));
    }
    (all, events.rest().to_vec())
}
