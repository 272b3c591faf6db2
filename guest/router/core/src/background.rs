//! A response that its provider makes in the background, when somebody asks how it is: once it is done it says
//! what it used, and the hold that was kept for it is settled.

use crate::api::{self, Api};
use crate::client::What;
use crate::exchange::Context;
use crate::headers::Headers;
use crate::json;
use crate::pass::Pass;
use crate::refusal::{ErrorKind, Refusal};
use crate::stream::{Bounds, Stop, Stream};
use crate::tally::Tally;
use crate::turn::{
    Action, Answer, Event, FailureKind, HoldName, Kept, Level, Next, Response, ResponseBody, Settle,
};
use crate::weights::Rates;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

/// The response that a request asks for, or stops.
pub(crate) fn named<'p>(method: &str, path: &'p str) -> Option<&'p str> {
    let name = path.strip_prefix("/v1/responses/")?.trim_end_matches('/');
    let name = match method {
        "GET" => name,
        "POST" => name.strip_suffix("/cancel")?,
        _ => return None,
    };
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

/// The name of a response that is not done.
pub(crate) fn unfinished(body: &[u8]) -> Option<String> {
    let body = core::str::from_utf8(body).ok()?;
    let name = json::field(body, "id").and_then(json::text)?;
    has_status(body, &["queued", "in_progress"]).then(|| name.into_owned())
}

fn has_status(response: &str, statuses: &[&str]) -> bool {
    let status = json::field(response, "status").and_then(json::text);
    status.is_some_and(|status| statuses.contains(&&*status))
}

/// Where such an exchange is.
#[derive(Debug)]
enum State {
    /// The host is asked for the hold.
    Recalling,
    /// There is none: it is a request like any other.
    Passing,
    /// The provider is asked for the response.
    Sending(Kept),
    /// The response comes as a stream.
    Streaming(Kept),
    /// The registry is told what was used.
    Settling(After),
    /// Between two states, and after the last.
    Done,
}

/// What comes when the registry has counted.
#[derive(Debug)]
enum After {
    /// The answer in one.
    Whole(u16),
    /// The rest of the stream.
    Stream(Kept),
    /// The last of the stream, which its provider has ended.
    Last(Vec<u8>),
}

/// An exchange about a response in the background.
#[derive(Debug)]
pub(crate) struct Background {
    pass: Pass,
    api: &'static dyn Api,
    name: String,
    is_stream: bool,
    state: State,
    stream: Stream,
}

impl Background {
    pub(crate) fn new(pass: Pass, name: String) -> Self {
        let api = api::responses();
        let query = pass.client.target.split_once('?').map_or("", |(_, query)| query);
        let is_stream = query.split('&').any(|pair| pair.eq_ignore_ascii_case("stream=true"));
        Self { pass, api, name, is_stream, state: State::Recalling, stream: Stream::new(api, false) }
    }

    /// Ask the host whether a hold was kept for it.
    pub(crate) fn recall(&self) -> Next {
        Next::Recall(self.name.clone())
    }

    pub(crate) fn step(&mut self, context: &mut Context<'_>, event: Event) -> Next {
        match (mem::replace(&mut self.state, State::Done), event) {
            (State::Recalling, Event::Recalled(None)) => {
                self.state = State::Passing;
                self.pass.send(context)
            }
            (State::Passing, event) => {
                self.state = State::Passing;
                self.pass.step(context, event)
            }
            (State::Recalling, Event::Recalled(Some(kept))) => self.send(context, kept),
            (State::Sending(kept), Event::Answer(answer)) => self.answered(context, kept, &answer),
            (State::Sending(_), Event::Failed(failure)) => {
                let is_slow = failure.kind == FailureKind::Slow;
                context.log_failure(&self.pass.attempts, &failure.reason);
                context.refuse(self.api, Refusal::no_answer(is_slow, &failure.reason))
            }
            (State::Streaming(kept), Event::Piece(piece)) => {
                self.stream.push(&piece);
                self.pass_on(context, kept)
            }
            (State::Streaming(kept), Event::Ended) => {
                let mut rest = Vec::new();
                self.stream.finish(&mut rest);
                if self.stream.is_counted() || !self.stream.has_ended() {
                    return self.settled(context, After::Last(rest));
                }
                let tally = self.stream.tally();
                self.count(context, kept, &tally, After::Last(rest))
            }
            (State::Streaming(_), Event::Failed(_)) => {
                let error = self.api.error_events(ErrorKind::Upstream, "the upstream broke the stream off");
                context.actions.push(Action::Bytes(error.into_bytes()));
                Next::Done
            }
            (State::Settling(after), Event::Settled(_) | Event::Unavailable(_)) => {
                self.settled(context, after)
            }
            // It was settled before, or its thread is gone.
            (State::Settling(after), Event::NotSettled(error)) => {
                context.log(Level::Info, format!("response {:?} is not counted: {error:?}", self.name));
                self.settled(context, after)
            }
            // The response goes on, and so does its hold.
            (_, Event::Left) => Next::Done,
            (State::Sending(_), Event::Stopping) => {
                context.refuse(self.api, Refusal::overloaded("the router is shutting down"))
            }
            (State::Streaming(_), Event::Stopping) => Next::Done,
            (_, event) => context.out_of_turn(&event),
        }
    }

    /// Ask the provider that makes it.
    fn send(&mut self, context: &mut Context<'_>, kept: Kept) -> Next {
        self.pass.attempts.only(usize::try_from(kept.upstream).unwrap_or(usize::MAX));
        let what = What { body: None, is_whole: !self.is_stream, is_metered: true };
        match self.pass.client.send(context.config, &self.pass.attempts, context.now, what) {
            Some(send) => {
                self.state = State::Sending(kept);
                Next::Send(send)
            }
            None => context.refuse(self.api, Refusal::no_answer(false, "there is none")),
        }
    }

    fn answered(&mut self, context: &mut Context<'_>, kept: Kept, answer: &Answer) -> Next {
        let is_success = (200..300).contains(&answer.status);
        if self.is_stream {
            let headers = Headers::new(answer.headers.clone());
            let is_json = headers.first("content-type").is_some_and(|kind| kind.contains("json"));
            let is_read = is_success && !is_json;
            let body = if is_read { ResponseBody::Pieces } else { ResponseBody::Received };
            respond(context, answer.status, body);
            return if is_read { self.read_on(context, kept) } else { Next::Done };
        }
        let body = String::from_utf8_lossy(&answer.body);
        let after = After::Whole(answer.status);
        if is_success && has_status(&body, &["completed", "incomplete", "failed", "cancelled"]) {
            let mut tally = Tally::default();
            self.api.whole(&body, &mut tally);
            tally.ends();
            return self.count(context, kept, &tally, after);
        }
        self.settled(context, after)
    }

    fn read_on(&mut self, context: &Context<'_>, kept: Kept) -> Next {
        self.state = State::Streaming(kept);
        let left = self.pass.client.deadline.saturating_sub(context.now);
        Next::Read(context.config.idle_timeout_ms.min(left))
    }

    fn pass_on(&mut self, context: &mut Context<'_>, kept: Kept) -> Next {
        let bounds = Bounds {
            prompt: kept.prompt_tokens,
            most: None,
            rates: Rates::default(),
            event_bytes: context.config.max_response_bytes,
        };
        let mut out = Vec::new();
        let stop = self.stream.read(&bounds, None, &mut out);
        if !out.is_empty() {
            context.actions.push(Action::Bytes(out));
        }
        if stop == Stop::Ended {
            let tally = self.stream.tally();
            return self.count(context, kept.clone(), &tally, After::Stream(kept));
        }
        self.read_on(context, kept)
    }

    /// Settle what was kept, by what the response says; where it does not say, as it was held.
    fn count(&mut self, context: &mut Context<'_>, kept: Kept, tally: &Tally, after: After) -> Next {
        let Kept { hold, upstream, model, prompt_tokens, completion_tokens, .. } = kept;
        if tally.is_free() {
            context.actions.push(Action::Release(hold));
            return self.settled(context, after);
        }
        let upstream = usize::try_from(upstream).ok().and_then(|at| context.config.upstreams.get(at));
        let rates = upstream.map(|upstream| Rates::of(upstream, &model)).unwrap_or_default();
        let [prompt_tokens, completion_tokens] = if tally.is_reported() {
            rates.weigh(tally.used(0, None))
        } else {
            [prompt_tokens, completion_tokens]
        };
        self.state = State::Settling(after);
        let HoldName { thread_id, request_id } = hold;
        Next::Settle(Settle { thread_id, request_id, prompt_tokens, completion_tokens, remember: false })
    }

    fn settled(&mut self, context: &mut Context<'_>, after: After) -> Next {
        match after {
            After::Whole(status) => {
                respond(context, status, ResponseBody::Received);
                Next::Done
            }
            After::Stream(kept) => {
                self.stream.count();
                self.pass_on(context, kept)
            }
            After::Last(rest) => {
                if !rest.is_empty() {
                    context.actions.push(Action::Bytes(rest));
                }
                Next::Done
            }
        }
    }
}

/// Begin the response as the provider's answer begins.
fn respond(context: &mut Context<'_>, status: u16, body: ResponseBody) {
    context.actions.push(Action::Respond(Response {
        status,
        passed: true,
        remove: Vec::new(),
        set: Vec::new(),
        body,
    }));
}
