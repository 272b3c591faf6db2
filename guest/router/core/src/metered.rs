//! A request that costs a thread's budget: it is held for, sent, counted and answered.

use crate::allowance::{Allowance, Ask};
use crate::api::Api;
use crate::attempts::{Attempts, Then};
use crate::background;
use crate::body::Body;
use crate::client::{Client, What};
use crate::config::LostCalls;
use crate::estimate;
use crate::exchange::Context;
use crate::extras::Extras;
use crate::gzip::Decoder;
use crate::headers::Headers;
use crate::identity::Thread;
use crate::json;
use crate::note::Note;
use crate::refusal::{ErrorKind, Refusal, is_transient};
use crate::registry::{Acknowledgement, Held, RegistryError};
use crate::retry;
use crate::sse;
use crate::standing::{Standing, other_limits};
use crate::stream::{Bounds, Stop, Stream};
use crate::tally::{Tally, Used};
use crate::turn::{
    Acknowledged, Action, Answer, Event, Failure, FailureKind, Hold, HoldName, Kept, Level, Next, Response,
    ResponseBody, Settle,
};
use crate::usage::Tokens;
use crate::weights::{Dearest, Rates};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

/// How long a request waits for room that others hold before it asks again, in milliseconds.
const CROWDED_PAUSE_MS: u64 = 250;

/// The header by which a client says that it sends the same request again.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Where such an exchange is. What is awaited of the host follows from it.
#[derive(Debug)]
enum State {
    /// The host is asked whether the request's idempotency key is in use.
    Claiming,
    /// The registry is asked to hold what the request needs.
    Holding,
    /// Others hold what the request needs; it waits.
    Crowded,
    /// A provider has the request.
    Sending,
    /// It waits before it is sent again.
    Pausing,
    /// An answer that is no stream arrives piece by piece.
    Gathering(Head, Vec<u8>),
    /// A stream is passed on.
    Streaming,
    /// The stream waits for a larger hold, with that much of the prompt. What has come is not passed on before.
    Growing(u64),
    /// The registry is told what was used.
    Settling(After),
    /// Between two states, and after the last.
    Done,
}

/// What comes when the registry has counted.
#[derive(Debug)]
enum After {
    /// The answer in one; its body where it did not come whole.
    Whole(Head, Option<Vec<u8>>),
    /// The rest of the stream.
    Stream,
    /// The last of the stream, which its provider has ended.
    Last(Vec<u8>),
    /// The end of a stream that broke off or is cut.
    Cut(ErrorKind, &'static str),
    /// The next attempt, after a pause.
    Attempt(Option<u64>),
    /// An error in the place of an answer.
    Refuse(Refusal),
    /// Nothing: the client is gone.
    Nothing,
}

/// The head of an answer.
#[derive(Debug)]
struct Head {
    status: u16,
    headers: Headers,
}

impl Head {
    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether its kind of content begins with this.
    fn is_kind(&self, kind: &str) -> bool {
        let start = self.headers.first("content-type").and_then(|value| value.get(..kind.len()));
        start.is_some_and(|start| start.eq_ignore_ascii_case(kind))
    }

    /// How its body is coded beside gzip, which can be undone; none where it is not.
    fn coding(&self) -> Option<&str> {
        let codings =
            self.headers.all("content-encoding").filter_map(|value| core::str::from_utf8(value).ok());
        let mut codings = codings.flat_map(|value| value.split(',')).map(str::trim);
        let is_known = |coding: &&str| {
            ["", "gzip", "identity", "x-gzip"].iter().any(|known| coding.eq_ignore_ascii_case(known))
        };
        codings.find(|coding| !is_known(coding))
    }
}

/// An exchange within a budget.
#[derive(Debug)]
pub(crate) struct Metered {
    client: Client,
    attempts: Attempts,
    api: &'static dyn Api,
    body: Body,
    thread: Thread,
    ask: Ask,
    /// What is held for its tokens.
    dearest: Dearest,
    /// What they count for at the provider that has the request.
    rates: Rates,
    extras: Extras,
    state: State,
    /// What the note of the request announces.
    announces: Vec<Acknowledgement>,
    /// The number of the attempt, from 1, which names its hold.
    attempt: u32,
    /// What is held for the attempt; nothing before and between.
    allowance: Option<Allowance>,
    /// Where the thread stands, as of the latest that the registry said.
    standing: Option<Standing>,
    /// Whether its stream goes on although its hold cannot grow.
    is_unbounded: bool,
    /// Whether what it needs to go on as it is meant to does not fit any more, so that it is to be the last.
    is_tight: bool,
    /// Since when it has waited for room.
    crowded_since: Option<u64>,
    /// Reads the body of the answer that is a stream.
    decoder: Decoder,
    stream: Stream,
}

impl Metered {
    pub(crate) fn new(
        client: Client,
        attempts: Attempts,
        api: &'static dyn Api,
        body: Body,
        thread: Thread,
        ask: Ask,
        extras: Extras,
    ) -> Self {
        Self {
            client,
            attempts,
            api,
            body,
            thread,
            ask,
            dearest: Dearest::default(),
            rates: Rates::default(),
            stream: Stream::new(api, extras.asks_for_usage),
            extras,
            state: State::Done,
            announces: Vec::new(),
            attempt: 1,
            allowance: None,
            standing: None,
            is_unbounded: false,
            is_tight: false,
            crowded_since: None,
            decoder: Decoder::default(),
        }
    }

    pub(crate) fn step(&mut self, context: &mut Context<'_>, event: Event) -> Next {
        match (mem::replace(&mut self.state, State::Done), event) {
            (State::Claiming, Event::Claimed) => self.hold(context),
            (State::Claiming, Event::NotClaimed(conflict)) => {
                context.refuse(self.api, Refusal::of_key(conflict))
            }
            (State::Holding, Event::Held(held)) => self.admit(context, &held),
            (State::Holding, Event::NotHeld(error)) => self.not_held(context, error),
            (State::Holding, Event::Unavailable(why)) => self.refuse(context, unavailable(&why)),
            (State::Crowded, Event::Woke) => self.hold(context),

            (State::Sending, Event::Answer(answer)) => self.answered(context, answer),
            (State::Sending, Event::Failed(failure)) => self.failed(context, &failure),
            (State::Pausing, Event::Woke) => self.go_on(context),

            (State::Gathering(head, mut body), Event::Piece(piece)) => {
                body.extend_from_slice(&piece);
                if body.len() as u64 > context.config.max_response_bytes {
                    return self.gather_failed(context, &head, body.len() as u64, FailureKind::TooLong);
                }
                self.gather(context, head, body)
            }
            (State::Gathering(head, body), Event::Ended) => self.judge(context, head, body, false),
            (State::Gathering(head, body), Event::Failed(failure)) => {
                self.gather_failed(context, &head, body.len() as u64, failure.kind)
            }

            (State::Streaming, Event::Piece(piece)) => self.take_piece(context, &piece),
            (State::Streaming, Event::Ended) => self.ended(context),
            (State::Streaming, Event::Failed(failure)) => {
                let why = match failure.kind {
                    FailureKind::Slow => "the answer took too long",
                    _ => "the upstream broke the stream off",
                };
                self.cut(context, ErrorKind::Upstream, why)
            }
            (State::Growing(prompt), Event::Held(held)) => self.grown(context, prompt, &held),
            (State::Growing(_), Event::NotHeld(_) | Event::Unavailable(_)) if !context.config.cut_streams => {
                self.is_unbounded = true;
                self.pass_on(context)
            }
            (State::Growing(_), Event::NotHeld(_)) => {
                const WHY: &str = "the token budget is used up; the answer ends here";
                self.cut(context, ErrorKind::BudgetExhausted, WHY)
            }
            (State::Growing(_), Event::Unavailable(_)) => {
                const WHY: &str = "the token budget cannot be asked; the answer ends here";
                self.cut(context, ErrorKind::Overloaded, WHY)
            }

            (State::Settling(after), Event::Settled(consumed)) => {
                self.standing = Some(Standing::settled(&consumed));
                self.settled(context, after)
            }
            (State::Settling(after), Event::NotSettled(error)) => {
                let thread = &self.thread.id;
                context.log(Level::Error, format!("thread {thread:?}: an answer is not counted: {error:?}"));
                self.settled(context, after)
            }
            // The host tells the registry once it can.
            (State::Settling(after), Event::Unavailable(_)) => self.settled(context, after),

            (state, Event::Left) => self.left(context, state),
            (state, Event::Stopping) => self.stopping(context, state),
            (_, event) => context.out_of_turn(&event),
        }
    }

    // -- the hold

    /// Begin: with the hold, or with what a client says that might send the request twice.
    pub(crate) fn begin(&mut self, context: &mut Context<'_>) -> Next {
        match self.client.headers.first(IDEMPOTENCY_KEY).filter(|key| !key.is_empty()) {
            Some(key) => {
                self.state = State::Claiming;
                Next::Claim(format!("{key}\n{}", self.thread.id))
            }
            None => self.hold(context),
        }
    }

    /// Ask the registry to hold what the request needs at first.
    fn hold(&mut self, context: &mut Context<'_>) -> Next {
        self.state = State::Holding;
        self.dearest = Dearest::of(context.config, self.attempts.left(), &self.model());
        let slice = context.config.completion_slice;
        let least = if self.is_tight { self.ask.least_of_last(slice) } else { self.ask.least(slice) };
        let [prompt_tokens, completion_tokens] = self.dearest.weigh(self.ask.prompt, self.ask.first(slice));
        let [_, least_completion_tokens] = self.dearest.weigh(self.ask.prompt, least);
        Next::Hold(Hold {
            open: self.thread.open.clone(),
            thread_id: self.thread.id.clone(),
            request_id: self.request_id(),
            prompt_tokens,
            completion_tokens,
            least_completion_tokens,
        })
    }

    /// The model that is asked for.
    fn model(&self) -> Cow<'_, str> {
        self.body.fields().model().unwrap_or_default()
    }

    fn request_id(&self) -> String {
        format!("{}.{}", self.client.id, self.attempt)
    }

    /// It is held: the request goes out, with what there is to tell.
    fn admit(&mut self, context: &mut Context<'_>, held: &Held) -> Next {
        if held.repeated {
            return self.refuse(context, Refusal::overloaded("the host has used the exchange's id before"));
        }
        let [prompt, _] = self.dearest.weigh(self.ask.prompt, 0);
        self.allowance = Some(Allowance::new(prompt, held.completion_tokens));
        self.standing = Some(Standing::held(held, prompt.saturating_add(held.completion_tokens)));
        let granted = self.dearest.unweigh(self.ask.prompt, held);
        let in_completion = Ask { prompt: self.dearest.in_completion(self.ask.prompt), ..self.ask };
        let is_last = in_completion.is_last(&granted) || self.is_tight && self.is_short(context, held);
        let last = is_last.then(|| Extras::has_tools(self.api, &self.body.fields()));
        let weighed = Ask { prompt, ..self.ask };
        let note = Note::of(context.config, &weighed, held, self.thread.has_parent(), last);
        let ceiling = self.ask.ceiling(&granted, context.config.completion_slice);
        self.extras.admit(note.text, is_last, ceiling);
        self.announces = note.announces;
        self.send(context)
    }

    /// Whether what is held is less output than an answer may well have: a slice, or a sixteenth of a small budget.
    fn is_short(&self, context: &Context<'_>, held: &Held) -> bool {
        let [_, slice] = self.dearest.weigh(0, context.config.completion_slice);
        held.completion_tokens < slice.min(held.usage.max_tokens / 16)
    }

    /// It does not fit: for now, or as it is meant to, or at all.
    fn not_held(&mut self, context: &mut Context<'_>, error: RegistryError) -> Next {
        if let RegistryError::Exhausted(exhausted) = &error {
            if is_transient(exhausted) {
                let since = *self.crowded_since.get_or_insert(context.now);
                let until = since.saturating_add(context.config.hold_wait_ms).min(self.client.deadline);
                if context.now < until {
                    self.state = State::Crowded;
                    return Next::Wait(CROWDED_PAUSE_MS.min(until - context.now));
                }
            } else if !self.is_tight {
                self.is_tight = true;
                return self.hold(context);
            }
        }
        self.refuse(context, Refusal::of_registry(context.config, error))
    }

    /// Let go of the hold, if there is one: nothing was used.
    fn release(&mut self, context: &mut Context<'_>) {
        if self.allowance.take().is_some() {
            let name = HoldName { thread_id: self.thread.id.clone(), request_id: self.request_id() };
            context.actions.push(Action::Release(name));
        }
    }

    /// Count what was used; the hold ends with that.
    fn settle(&mut self, used: Used, after: After) -> Next {
        let settle = Settle {
            thread_id: self.thread.id.clone(),
            request_id: self.request_id(),
            prompt_tokens: used.prompt,
            completion_tokens: used.completion,
            remember: false,
        };
        self.allowance = None;
        // What is held from now on is another attempt's.
        self.attempt += 1;
        self.state = State::Settling(after);
        Next::Settle(settle)
    }

    /// Count what was used; where that is nothing, the hold is let go of.
    fn charge(&mut self, context: &mut Context<'_>, used: Option<Used>, after: After) -> Next {
        match used {
            Some(used) => self.settle(used, after),
            None => {
                self.release(context);
                self.settled(context, after)
            }
        }
    }

    /// Whether its provider goes on with the answer, whoever reads it.
    fn is_background(&self) -> bool {
        self.body.fields().background == Some("true")
    }

    /// Keep what is held until somebody asks for the answer by its name.
    fn keep(&mut self, context: &mut Context<'_>, name: String) {
        let Some(Used { prompt, completion }) =
            self.allowance.take().and_then(|held| held.lost(LostCalls::All))
        else {
            return;
        };
        let upstream = self.attempts.upstream().unwrap_or_default();
        context.actions.push(Action::Keep(Kept {
            name,
            hold: HoldName { thread_id: self.thread.id.clone(), request_id: self.request_id() },
            upstream: u32::try_from(upstream).unwrap_or(u32::MAX),
            model: self.model().into_owned(),
            prompt_tokens: prompt,
            completion_tokens: completion,
            for_ms: context.config.background_timeout_ms,
        }));
    }

    fn settled(&mut self, context: &mut Context<'_>, after: After) -> Next {
        match after {
            After::Whole(head, body) => {
                let body = body.map_or(ResponseBody::Received, ResponseBody::Whole);
                self.respond(context, &head, body);
                Next::Done
            }
            After::Stream => {
                self.stream.count();
                self.pass_on(context)
            }
            After::Last(rest) => {
                send_bytes(context, rest);
                Next::Done
            }
            After::Cut(kind, why) => {
                send_bytes(context, self.api.error_events(kind, why).into_bytes());
                Next::Done
            }
            After::Attempt(Some(pause)) => {
                self.state = State::Pausing;
                Next::Wait(pause)
            }
            After::Attempt(None) => self.go_on(context),
            After::Refuse(refusal) => self.refuse(context, refusal),
            After::Nothing => Next::Done,
        }
    }

    // -- the attempts

    /// Send the request to the provider whose turn it is.
    fn send(&mut self, context: &mut Context<'_>) -> Next {
        if let Some(upstream) = self.attempts.upstream().and_then(|at| context.config.upstreams.get(at)) {
            self.rates = Rates::of(upstream, &self.model());
        }
        let body = self.extras.apply(self.api, &self.body).map(String::into_bytes);
        let what = What { body, is_whole: !self.ask.is_stream, is_metered: true };
        match self.client.send(context.config, &self.attempts, context.now, what) {
            Some(send) => {
                self.state = State::Sending;
                Next::Send(send)
            }
            None => self.refuse(context, Refusal::no_answer(false, "there is none")),
        }
    }

    /// Send it again, or to the next provider: within the hold that there is, or with one of its own.
    fn go_on(&mut self, context: &mut Context<'_>) -> Next {
        if self.allowance.is_some() { self.send(context) } else { self.hold(context) }
    }

    /// What comes after an attempt that failed in this way.
    fn then(&mut self, context: &mut Context<'_>, may_pass: bool, wait: Option<u64>, why: &str) -> Then {
        context.log_failure(&self.attempts, why);
        let left = self.client.deadline.saturating_sub(context.now);
        self.attempts.after(context.config, may_pass, wait, self.client.chance, left)
    }

    fn failed(&mut self, context: &mut Context<'_>, failure: &Failure) -> Next {
        let Failure { kind, received_bytes, reason } = failure;
        if *received_bytes > 0 || *kind == FailureKind::TooLong {
            return self.answer_failed(context, *received_bytes, *kind);
        }
        // Asked again it would take as long again, and the first answer may be on its way.
        let is_slow = *kind == FailureKind::Slow;
        let then = self.then(context, !is_slow, None, reason);
        let lost = match (kind, &self.allowance) {
            (FailureKind::Unsent, _) | (_, None) => None,
            (_, Some(allowance)) => allowance.lost(context.config.lost_calls),
        };
        match (then, lost) {
            (Then::Again(pause), Some(used)) => self.settle(used, After::Attempt(Some(pause))),
            (Then::Next, Some(used)) => self.settle(used, After::Attempt(None)),
            (Then::GiveUp, Some(used)) => {
                self.settle(used, After::Refuse(Refusal::no_answer(is_slow, reason)))
            }
            (Then::Again(pause), None) => {
                self.state = State::Pausing;
                Next::Wait(pause)
            }
            (Then::Next, None) => self.send(context),
            (Then::GiveUp, None) => self.refuse(context, Refusal::no_answer(is_slow, reason)),
        }
    }

    /// An answer began, and does not end as it should: what was produced has to be paid for, and half an answer
    /// tells no more than its length.
    fn answer_failed(&mut self, context: &mut Context<'_>, received_bytes: u64, kind: FailureKind) -> Next {
        let (status, why) = match kind {
            FailureKind::TooLong => (502, "is too long"),
            FailureKind::Slow => (504, "took too long"),
            FailureKind::Lost | FailureKind::Unsent => (502, "broke off"),
        };
        let why = format!("the upstream's answer {why}");
        context.log_failure(&self.attempts, &why);
        let seen = Tokens {
            input: self.ask.prompt,
            output: estimate::of_output(received_bytes),
            ..Tokens::default()
        };
        let used = Used::of(self.rates.weigh(seen));
        self.settle(used, After::Refuse(Refusal::new(status, ErrorKind::Upstream, why)))
    }

    /// Nobody can tell what an answer used: all that was held for it.
    fn unreadable(&mut self, context: &mut Context<'_>, why: &str) -> Next {
        let why = format!("the upstream's answer {why}");
        context.log_failure(&self.attempts, &why);
        let all = self.allowance.as_ref().and_then(|allowance| allowance.lost(LostCalls::All));
        self.charge(context, all, After::Refuse(Refusal::new(502, ErrorKind::Upstream, why)))
    }

    fn refuse(&mut self, context: &mut Context<'_>, refusal: Refusal) -> Next {
        self.release(context);
        context.refuse(self.api, refusal)
    }

    // -- the answer

    fn answered(&mut self, context: &mut Context<'_>, answer: Answer) -> Next {
        let Answer { status, headers, body } = answer;
        let head = Head { status, headers: Headers::new(headers) };
        if !self.ask.is_stream {
            return self.judge(context, head, body, true);
        }
        // A stream that was asked for is read as one, whatever it is called.
        if !head.is_success() || head.is_kind("application/json") {
            return self.gather(context, head, Vec::new());
        }
        if let Some(coding) = head.coding() {
            let why = format!("is coded as {coding:?}, which was not asked for");
            return self.unreadable(context, &why);
        }
        self.accepted(context);
        self.decoder = Decoder::default();
        self.respond(context, &head, ResponseBody::Pieces);
        self.read_on(context)
    }

    /// Read more of an answer that is no stream.
    fn gather(&mut self, context: &mut Context<'_>, head: Head, body: Vec<u8>) -> Next {
        self.state = State::Gathering(head, body);
        Next::Read(self.read_ms(context))
    }

    fn gather_failed(
        &mut self,
        context: &mut Context<'_>,
        head: &Head,
        received_bytes: u64,
        kind: FailureKind,
    ) -> Next {
        if head.is_success() {
            return self.answer_failed(context, received_bytes, kind);
        }
        self.refuse(context, Refusal::no_answer(kind == FailureKind::Slow, "its error broke off"))
    }

    /// An answer has come that is no stream: count it, or see what becomes of a request that was refused.
    fn judge(&mut self, context: &mut Context<'_>, head: Head, body: Vec<u8>, is_whole: bool) -> Next {
        if let Some(coding) = head.coding().filter(|_| head.is_success()) {
            let why = format!("is coded as {coding:?}, which was not asked for");
            return self.unreadable(context, &why);
        }
        let decoded = match Decoder::read_whole(&body, context.config.max_response_bytes) {
            Ok(Cow::Owned(decoded)) => Some(decoded),
            Ok(Cow::Borrowed(_)) => None,
            Err(why) if head.is_success() => return self.unreadable(context, &format!("{why}")),
            Err(_) => None,
        };
        let is_whole = is_whole && decoded.is_none();
        let body = decoded.unwrap_or(body);
        if head.is_success() {
            self.accepted(context);
            if let Some(name) = background::unfinished(&body).filter(|_| self.is_background()) {
                self.keep(context, name);
                return self.settled(context, After::Whole(head, (!is_whole).then_some(body)));
            }
            let used = self.used_by(context, &body);
            return self.charge(context, used, After::Whole(head, (!is_whole).then_some(body)));
        }
        if let Some(what) = self.extras.take_back(self.api, &self.body.fields(), head.status, &body) {
            context.log_failure(&self.attempts, &format!("status {}; again without {what}", head.status));
            return self.send(context);
        }
        if retry::may_pass(head.status) {
            let wait = retry::asked_for(&head.headers);
            match self.then(context, true, wait, &format!("status {}", head.status)) {
                Then::Again(pause) => {
                    self.state = State::Pausing;
                    return Next::Wait(pause);
                }
                Then::Next => return self.send(context),
                Then::GiveUp => {}
            }
        }
        self.release(context);
        self.respond(
            context,
            &head,
            if is_whole { ResponseBody::Received } else { ResponseBody::Whole(body) },
        );
        Next::Done
    }

    /// A provider has taken the request, and the agent has what it was told with it.
    fn accepted(&mut self, context: &mut Context<'_>) {
        let warnings = mem::take(&mut self.announces);
        if !warnings.is_empty() && self.extras.has_note() {
            let thread_id = self.thread.id.clone();
            context.actions.push(Action::Acknowledge(Acknowledged { thread_id, warnings }));
        }
    }

    /// Begin the response with the head of an answer, and with where the thread stands.
    fn respond(&mut self, context: &mut Context<'_>, head: &Head, body: ResponseBody) {
        let standing = self.standing.filter(|_| head.is_success());
        let mut remove = if standing.is_some() { other_limits(&head.headers) } else { Vec::new() };
        // What was coded no longer is.
        if head.headers.all("content-encoding").next().is_some() && head.coding().is_none() {
            remove.push("content-encoding".into());
        }
        context.actions.push(Action::Respond(Response {
            status: head.status,
            passed: true,
            remove,
            set: standing.map(|standing| standing.headers()).unwrap_or_default(),
            body,
        }));
    }

    /// What an answer in one used; none where it is an error and nothing else. It may be the events of a stream
    /// all the same.
    fn used_by(&mut self, context: &mut Context<'_>, body: &[u8]) -> Option<Used> {
        let bounds = self.bounds(context);
        let text = String::from_utf8_lossy(sse::without_mark(body));
        let mut tally = Tally::default();
        if is_events(&text) {
            self.stream.push(body);
            self.stream.count();
            self.stream.read(&bounds, None, &mut Vec::new());
            self.stream.finish(&mut Vec::new());
            tally = self.stream.tally();
        } else {
            self.api.whole(&text, &mut tally);
            if !tally.is_reported() && json::fields(&text, &mut |_, _| {}).is_err() {
                // Nobody can read it, and somebody wrote it.
                tally = Tally::default();
                tally.writes_bytes(body.len() as u64);
            }
        }
        tally.ends();
        let used = bounds.used(&tally);
        if used.is_some() && !tally.is_reported() {
            self.log_no_usage(context);
        }
        used
    }

    fn log_no_usage(&self, context: &mut Context<'_>) {
        let thread = &self.thread.id;
        context.log_failure(
            &self.attempts,
            &format!("no usage is reported; thread {thread:?} is charged what was seen"),
        );
    }

    // -- the stream

    fn bounds(&self, context: &Context<'_>) -> Bounds {
        let asked = self.extras.ceiling.map(|ceiling| ceiling.saturating_mul(self.ask.choices));
        Bounds {
            prompt: self.ask.prompt,
            rates: self.rates,
            most: asked.or(self.ask.output),
            event_bytes: context.config.max_response_bytes,
        }
    }

    fn read_ms(&self, context: &Context<'_>) -> u64 {
        context.config.idle_timeout_ms.min(self.client.deadline.saturating_sub(context.now))
    }

    fn read_on(&mut self, context: &Context<'_>) -> Next {
        self.state = State::Streaming;
        Next::Read(self.read_ms(context))
    }

    fn take_piece(&mut self, context: &mut Context<'_>, piece: &[u8]) -> Next {
        match self.decoder.read(piece, context.config.max_response_bytes) {
            Ok(piece) => {
                self.stream.push(&piece);
                self.pass_on(context)
            }
            Err(_) => self.cut(context, ErrorKind::Upstream, "the upstream's answer cannot be decompressed"),
        }
    }

    /// Pass on what has come of a stream, as far as it is paid for.
    fn pass_on(&mut self, context: &mut Context<'_>) -> Next {
        let bounds = self.bounds(context);
        let allowance = self.allowance.filter(|_| !self.is_unbounded);
        let mut out = Vec::new();
        let stop = self.stream.read(&bounds, allowance.as_ref(), &mut out);
        send_bytes(context, out);
        match (stop, allowance) {
            (Stop::Ended, _) => self.count_stream(context, After::Stream),
            (Stop::Exceeds(used), Some(allowance)) => self.grow(context, used, allowance),
            (Stop::TooLong, _) => {
                self.cut(context, ErrorKind::Upstream, "an event of the upstream is too long")
            }
            (Stop::Empty | Stop::Exceeds(_), _) => self.read_on(context),
        }
    }

    /// Hold more for a stream that has used more.
    fn grow(&mut self, context: &Context<'_>, used: Used, allowance: Allowance) -> Next {
        let [_, slice] = self.dearest.weigh(0, context.config.completion_slice);
        let [prompt, completion, least] = allowance.grown(used, slice.max(1));
        self.state = State::Growing(prompt);
        Next::Hold(Hold {
            open: Vec::new(),
            thread_id: self.thread.id.clone(),
            request_id: self.request_id(),
            prompt_tokens: prompt,
            completion_tokens: completion,
            least_completion_tokens: least,
        })
    }

    fn grown(&mut self, context: &mut Context<'_>, prompt: u64, held: &Held) -> Next {
        if let Some(allowance) = &mut self.allowance {
            allowance.grow(prompt, held.completion_tokens);
        }
        self.pass_on(context)
    }

    /// The provider has ended the stream.
    fn ended(&mut self, context: &mut Context<'_>) -> Next {
        let mut rest = Vec::new();
        self.stream.finish(&mut rest);
        if self.stream.is_counted() {
            send_bytes(context, rest);
            return Next::Done;
        }
        self.count_stream(context, After::Last(rest))
    }

    /// Count a stream that its provider has ended.
    fn count_stream(&mut self, context: &mut Context<'_>, after: After) -> Next {
        if self.stream.used(&self.bounds(context)).is_some() && !self.stream.is_reported() {
            self.log_no_usage(context);
        }
        self.charge_stream(context, after)
    }

    /// Count a stream as far as it has come; one that goes on in the background is not over.
    fn charge_stream(&mut self, context: &mut Context<'_>, after: After) -> Next {
        if let Some(name) = self.stream.name_of_rest().filter(|_| self.is_background()) {
            let name = name.into();
            self.keep(context, name);
            return self.settled(context, after);
        }
        self.charge(context, self.stream.used(&self.bounds(context)), after)
    }

    /// End a stream early. It is counted first: whoever reads that the budget is used up can rely on it.
    fn cut(&mut self, context: &mut Context<'_>, kind: ErrorKind, why: &'static str) -> Next {
        let after = After::Cut(kind, why);
        if self.stream.is_counted() {
            return self.settled(context, after);
        }
        self.charge_stream(context, after)
    }

    // -- the ends that others make

    /// The client is gone: what it has not seen is not produced, and what is on its way is counted.
    fn left(&mut self, context: &mut Context<'_>, state: State) -> Next {
        match state {
            State::Crowded | State::Pausing => {
                self.release(context);
                Next::Done
            }
            // An error costs nothing.
            State::Gathering(head, _) if !head.is_success() => {
                self.release(context);
                Next::Done
            }
            // An answer in one is produced whether it is read or not, and says what it cost.
            State::Sending | State::Gathering(..) if !self.ask.is_stream => {
                self.state = state;
                Next::Resume
            }
            State::Sending | State::Gathering(..) => self.abandon(context, After::Nothing),
            State::Streaming if self.stream.is_counted() => Next::Done,
            State::Streaming => self.charge_stream(context, After::Nothing),
            State::Claiming | State::Holding | State::Growing(_) | State::Settling(_) | State::Done => {
                context.out_of_turn(&Event::Left)
            }
        }
    }

    /// The host ends.
    fn stopping(&mut self, context: &mut Context<'_>, state: State) -> Next {
        const WHY: &str = "the router is shutting down";
        match state {
            State::Crowded | State::Pausing => self.refuse(context, Refusal::overloaded(WHY)),
            State::Gathering(head, _) if !head.is_success() => self.refuse(context, Refusal::overloaded(WHY)),
            State::Sending | State::Gathering(..) => {
                self.abandon(context, After::Refuse(Refusal::overloaded(WHY)))
            }
            State::Streaming => self.cut(context, ErrorKind::Overloaded, WHY),
            State::Claiming | State::Holding | State::Growing(_) | State::Settling(_) | State::Done => {
                context.out_of_turn(&Event::Stopping)
            }
        }
    }

    /// Give up a request that was sent, without its answer.
    fn abandon(&mut self, context: &mut Context<'_>, after: After) -> Next {
        let lost = self.allowance.as_ref().and_then(|allowance| allowance.lost(context.config.lost_calls));
        self.charge(context, lost, after)
    }
}

/// Whether it is the text of a stream.
fn is_events(text: &str) -> bool {
    let text = text.trim_start();
    ["data:", "event:", "id:", "retry:", ":"].iter().any(|field| text.starts_with(field))
}

fn send_bytes(context: &mut Context<'_>, bytes: Vec<u8>) {
    if !bytes.is_empty() {
        context.actions.push(Action::Bytes(bytes));
    }
}

fn unavailable(why: &str) -> Refusal {
    Refusal::overloaded(format!("the token budgets cannot be asked: {why}"))
}
