//! An exchange: a client's request and its answer. The policy says what is to be done; this does it, and says
//! what came of it.

use crate::bindings::thread_budget::router::policy::{
    self, Action, Event, LogEntry, Next, ProviderRequest, Request, RequestBody, Response, ResponseBody, Turn,
};
use crate::budgets;
use crate::client::{Client, Inbound};
use crate::headers::{change, lines};
use crate::io::{now_ms, pause};
use crate::upstream::{self, Answer, AnswerBody};

/// The policy wants what cannot be.
#[derive(Clone, Copy)]
pub(crate) struct Broken(&'static str);

impl Broken {
    pub(crate) fn reason(&self) -> &'static str {
        self.0
    }
}

/// A request, and how far it has come.
pub(crate) struct Exchange<'a> {
    inbound: &'a Inbound,
    client: &'a mut Client,
    /// The client's.
    body: Vec<u8>,
    /// The latest.
    answer: Option<Answer>,
    /// Whether the client gets the rest of the answer as it comes.
    passes: bool,
    told_left: bool,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(inbound: &'a Inbound, client: &'a mut Client) -> Self {
        Self { inbound, client, body: Vec::new(), answer: None, passes: false, told_left: false }
    }

    /// Carry it out, by the policy that was configured.
    pub(crate) fn run(mut self, request: Request) -> Result<(), Broken> {
        let mut request = Event::Request(request);
        let mut next = self.tell(&request)?;
        // The policy may want the body sent as it came.
        if let Event::Request(Request { body: RequestBody::Whole(body), .. }) = &mut request {
            self.body = std::mem::take(body);
        }
        drop(request);
        loop {
            if let Some(instead) = self.tell_if_left(&next)? {
                next = instead;
                continue;
            }
            let event = match &next {
                // There is no other exchange here, and none before: an instance is one.
                Next::Claim(_) => Event::Claimed,
                Next::Recall(_) => Event::Recalled(None),
                Next::Hold(hold) => budgets::hold(hold),
                Next::Settle(settle) => budgets::settle(settle),
                Next::Send(send) => self.send(send),
                Next::Read(within_ms) => self.read(*within_ms)?,
                Next::Wait(ms) => {
                    pause(*ms);
                    Event::Woke
                }
                Next::Resume => return Err(Broken("it goes on with what does not go on")),
                Next::Done => {
                    self.pass();
                    return Ok(());
                }
            };
            next = self.tell(&event)?;
        }
    }

    /// Tell the policy what has happened, do at once what it wants done at once, and return what comes then.
    fn tell(&mut self, event: &Event) -> Result<Next, Broken> {
        let Turn { actions, next } = policy::step(now_ms(), event);
        for action in actions {
            match action {
                Action::Respond(response) => self.respond(response)?,
                Action::Bytes(bytes) => self.client.send(&bytes),
                Action::Release(name) => budgets::release(&name),
                Action::Keep(kept) => budgets::charge(&kept),
                Action::Acknowledge(told) => budgets::acknowledge(&told),
                Action::Unidentified(client) => log(&format!("no thread is named by the client {client:?}")),
                Action::Log(LogEntry { text, .. }) => log(&text),
            }
        }
        Ok(next)
    }

    /// Tell the policy, once, that the client is gone; what it wants done instead of what it waits for, if anything.
    fn tell_if_left(&mut self, next: &Next) -> Result<Option<Next>, Broken> {
        let goes_on = matches!(next, Next::Send(_) | Next::Read(_) | Next::Wait(_));
        if !goes_on || !self.client.is_gone || self.told_left {
            return Ok(None);
        }
        self.told_left = true;
        Ok(match self.tell(&Event::Left)? {
            Next::Resume => None,
            instead => Some(instead),
        })
    }

    fn send(&mut self, send: &ProviderRequest) -> Event {
        // An answer from before is closed first.
        self.answer = None;
        match upstream::send(self.inbound, &self.body, send) {
            Ok(answer) => {
                let body = match &answer.body {
                    AnswerBody::Whole(body) => body.clone(),
                    AnswerBody::Unread(_) => Vec::new(),
                };
                let event = policy::Answer { status: answer.status, headers: lines(&answer.headers), body };
                self.answer = Some(answer);
                Event::Answer(event)
            }
            Err(failure) => Event::Failed(failure),
        }
    }

    fn read(&mut self, within_ms: u64) -> Result<Event, Broken> {
        let Some(Answer { body: AnswerBody::Unread(body), .. }) = &mut self.answer else {
            return Err(Broken("it reads what is not there"));
        };
        Ok(match body.next(within_ms) {
            Ok(Some(piece)) => Event::Piece(piece),
            Ok(None) => Event::Ended,
            Err(failure) => Event::Failed(failure),
        })
    }

    fn respond(&mut self, Response { status, passed, remove, set, body }: Response) -> Result<(), Broken> {
        let answer = self.answer.as_ref().ok_or(Broken("it responds with an answer that is not there"));
        let mut headers = if passed { answer?.headers.clone() } else { Vec::new() };
        change(&mut headers, &remove, &set);
        match body {
            ResponseBody::Whole(bytes) => self.client.respond(status, headers, &bytes),
            ResponseBody::Pieces => self.client.begin(status, &headers),
            ResponseBody::Received => match &answer?.body {
                AnswerBody::Whole(bytes) => self.client.respond(status, headers, bytes),
                AnswerBody::Unread(_) => {
                    self.client.begin(status, &headers);
                    self.passes = true;
                }
            },
        }
        Ok(())
    }

    /// End the response, with the rest of the answer if the client gets that. It breaks off when the answer does.
    fn pass(mut self) {
        if self.passes
            && let Some(Answer { body: AnswerBody::Unread(body), .. }) = &mut self.answer
        {
            loop {
                match body.next_in_time() {
                    Ok(Some(piece)) if !self.client.is_gone => self.client.send(&piece),
                    Ok(None) => break,
                    Ok(Some(_)) | Err(_) => return,
                }
            }
        }
        self.client.end();
    }
}

/// Tell the operator.
fn log(line: &str) {
    // Control characters would let a request write lines of its own.
    eprintln!("{}", line.replace(char::is_control, "\u{fffd}"));
}
