//! A host that holds whatever is asked for, around a provider that gives one answer.

use thread_budget_router_core::{
    Action, Answer, Config, Consumed, Event, Exchange, Held, Next, Request, RequestBody, ResponseBody, Usage,
};

/// An answer of a provider.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    /// Its headers, a line each.
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
    /// In pieces of how many bytes the body arrives, where it is not given whole.
    pub(crate) piece_bytes: usize,
}

/// What came of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What was settled: prompt and completion; none where nothing was.
    pub(crate) settled: Option<[u64; 2]>,
    /// The status that the client got.
    pub(crate) status: u16,
    /// The body that it got.
    pub(crate) body: Vec<u8>,
    /// The headers that were kept from it.
    pub(crate) removed: Vec<String>,
}

/// Ask for something on a thread that has plenty left.
pub(crate) fn ask(path: &str, body: &[u8], provider: &Provider) -> Outcome {
    let config = Config::from_json(r#"{"upstreams":[{"url":"https://provider"}]}"#).unwrap();
    let mut exchange = Exchange::new(config);
    let mut pieces = provider.body.chunks(provider.piece_bytes);
    let mut outcome = Outcome::default();
    let mut event = Event::Request(Request {
        id: "x".into(),
        chance: 0,
        date: "2026-11-25".into(),
        method: "POST".into(),
        target: path.into(),
        headers: b"x-thread-id: a\ncontent-type: application/json\n".to_vec(),
        body: RequestBody::Whole(body.to_vec()),
    });
    loop {
        let turn = exchange.step(0, event);
        for action in turn.actions {
            match action {
                Action::Respond(response) => {
                    outcome.status = response.status;
                    outcome.removed = response.remove;
                    outcome.body = match response.body {
                        ResponseBody::Received => provider.body.clone(),
                        ResponseBody::Whole(body) => body,
                        ResponseBody::Pieces => Vec::new(),
                    };
                }
                Action::Bytes(bytes) => outcome.body.extend(bytes),
                Action::Release(_)
                | Action::Keep(_)
                | Action::Acknowledge(_)
                | Action::Unidentified(_)
                | Action::Log(_) => {}
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
                headers: provider.headers.clone().into_bytes(),
                body: if send.whole { provider.body.clone() } else { Vec::new() },
            }),
            Next::Read(_) => pieces.next().map_or(Event::Ended, |piece| Event::Piece(piece.to_vec())),
            Next::Settle(settle) => {
                assert_eq!(outcome.settled, None, "a request is counted once");
                outcome.settled = Some([settle.prompt_tokens, settle.completion_tokens]);
                Event::Settled(Consumed::default())
            }
            Next::Done => return outcome,
            Next::Recall(_) => Event::Recalled(None),
            Next::Claim(_) => Event::Claimed,
            Next::Wait(_) | Next::Resume => panic!("there is nothing to wait for"),
        };
    }
}
