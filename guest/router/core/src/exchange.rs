//! A client's request and its answer: what happens goes in, what is to be done comes out.

use crate::allowance::Ask;
use crate::api::{self, Api};
use crate::attempts::Attempts;
use crate::background::{self, Background};
use crate::body::{BadRequest, Body};
use crate::client::Client;
use crate::config::Config;
use crate::door::Door;
use crate::extras::Extras;
use crate::headers::Headers;
use crate::identity;
use crate::json;
use crate::metered::{IDEMPOTENCY_KEY, Metered};
use crate::pass::Pass;
use crate::refusal::{ErrorKind, Refusal};
use crate::turn::{Action, Event, Level, LogEntry, Next, Request, RequestBody, Turn};
use crate::upstream;
use crate::weights::Dearest;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

/// A client's request and its answer.
#[derive(Debug)]
pub struct Exchange {
    config: Config,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Before the request.
    New,
    /// No budget applies.
    Pass(Pass),
    /// No budget applies, but one may have been held for a response that it asks for.
    Background(Box<Background>),
    /// A thread's budget applies.
    Metered(Box<Metered>),
    /// There is nothing left to do.
    Over,
}

/// What is around an exchange while it decides.
pub(crate) struct Context<'c> {
    pub(crate) config: &'c Config,
    pub(crate) now: u64,
    pub(crate) actions: Vec<Action>,
}

impl Exchange {
    /// An exchange that has not begun.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, stage: Stage::New }
    }

    /// Tell what has happened, and hear what to do. `now_ms` counts milliseconds from any point on.
    pub fn step(&mut self, now_ms: u64, event: Event) -> Turn {
        let mut context = Context { config: &self.config, now: now_ms, actions: Vec::new() };
        let next = match (&mut self.stage, event) {
            (stage @ Stage::New, Event::Request(request)) => begin(&mut context, stage, request),
            (Stage::Pass(pass), event) => pass.step(&mut context, event),
            (Stage::Background(background), event) => background.step(&mut context, event),
            (Stage::Metered(metered), event) => metered.step(&mut context, event),
            (Stage::New | Stage::Over, event) => context.out_of_turn(&event),
        };
        let actions = mem::take(&mut context.actions);
        if next == Next::Done {
            self.stage = Stage::Over;
        }
        Turn { actions, next }
    }
}

impl Context<'_> {
    /// Answer the client with an error, and be done.
    pub(crate) fn refuse(&mut self, api: &dyn Api, refusal: Refusal) -> Next {
        self.actions.push(Action::Respond(refusal.into_response(api)));
        Next::Done
    }

    pub(crate) fn log(&mut self, level: Level, text: impl Into<String>) {
        self.actions.push(Action::Log(LogEntry { level, text: text.into() }));
    }

    /// Tell the operator that a provider has not answered.
    pub(crate) fn log_failure(&mut self, attempts: &Attempts, why: &str) {
        let upstream = attempts.upstream().and_then(|place| self.config.upstreams.get(place));
        let url = upstream.map_or("", |upstream| &upstream.url);
        self.log(Level::Warn, format!("upstream {url}: {why}"));
    }

    /// The host has told something that nobody asked.
    pub(crate) fn out_of_turn(&mut self, event: &Event) -> Next {
        self.log(Level::Error, format!("out of turn: {}", event.name()));
        Next::Done
    }
}

/// Look at a request, and begin the exchange that it is.
fn begin(context: &mut Context<'_>, stage: &mut Stage, request: Request) -> Next {
    let Request { id, chance, date, method, target, headers, body } = request;
    let deadline = context.now.saturating_add(context.config.request_timeout_ms);
    let client = Client { id, chance, date, target, headers: Headers::new(headers), deadline };
    let api = api::of(client.path()).unwrap_or_else(|| api::of_client(client.is_anthropic()));
    match open(context.config, client, &method, body) {
        Ok(opened) => *stage = opened,
        Err(refusal) => return context.refuse(api, refusal),
    }
    match stage {
        Stage::Pass(pass) => pass.begin(context),
        Stage::Background(background) => background.recall(),
        Stage::Metered(metered) => metered.begin(context),
        Stage::New | Stage::Over => Next::Done,
    }
}

/// What kind of exchange a request opens.
fn open(config: &Config, client: Client, method: &str, body: RequestBody) -> Result<Stage, Refusal> {
    let has_body = !matches!(&body, RequestBody::Whole(body) if body.is_empty());
    let door = Door::of(config, method, &client.target, &client.headers, has_body)?;
    let body = whole(config, body)?;
    let Door::Metered(api) = door else {
        let model = model_of_unmetered(&client, &body);
        let attempts = attempts(config, &client, model.as_deref())?;
        let background = background::named(method, client.path()).map(String::from);
        let pass = Pass::new(client, attempts);
        return Ok(match background {
            Some(name) => Stage::Background(Box::new(Background::new(pass, name))),
            None => Stage::Pass(pass),
        });
    };
    if identity::text(&client.headers, "content-encoding")?.is_some_and(|encoding| encoding != "identity") {
        return Err(Refusal::new(415, ErrorKind::InvalidRequest, "the body must not be compressed"));
    }
    let bad_request = |error: BadRequest| Refusal::invalid(format!("{error}"));
    identity::text(&client.headers, IDEMPOTENCY_KEY)?;
    let body = Body::read(body).map_err(bad_request)?;
    let fields = body.fields();
    let model = fields.model().map_err(bad_request)?;
    let attempts = attempts(config, &client, Some(&model))?;
    if Dearest::of(config, attempts.left(), &model).is_free() {
        return Ok(Stage::Pass(Pass::new(client, attempts)));
    }
    let Some(thread) = identity::thread(config, &client, &body)? else {
        return Ok(Stage::Pass(Pass::new(client, attempts).unidentified()));
    };
    let ask = Ask::of(api, &body).map_err(bad_request)?;
    let extras = Extras::of(api, &fields).map_err(bad_request)?;
    Ok(Stage::Metered(Box::new(Metered::new(client, attempts, api, body, thread, ask, extras))))
}

/// All of a request's body.
fn whole(config: &Config, body: RequestBody) -> Result<Vec<u8>, Refusal> {
    let refusal = |status, why| Refusal::new(status, ErrorKind::InvalidRequest, why);
    match body {
        RequestBody::Whole(body) => Ok(body),
        RequestBody::TooLong => {
            Err(refusal(413, format!("the body is longer than {} bytes", config.max_request_bytes)))
        }
        RequestBody::TooSlow => Err(refusal(408, "the body took too long to arrive".into())),
        RequestBody::Broken => Err(refusal(400, "the body broke off".into())),
    }
}

/// The providers for a request.
fn attempts(config: &Config, client: &Client, model: Option<&str>) -> Result<Attempts, Refusal> {
    let upstreams = upstream::candidates(config, model, client.is_anthropic(), client.has_key());
    if upstreams.is_empty() {
        return Err(Refusal::not_found(format!(
            "no upstream serves the model {:?}",
            model.unwrap_or_default()
        )));
    }
    Ok(Attempts::new(upstreams))
}

/// The model that a request names which costs nothing: in its path, or in its body where that is JSON.
fn model_of_unmetered(client: &Client, body: &[u8]) -> Option<String> {
    if let Some(model) = client.path().strip_prefix("/v1/models/") {
        return Some(model.into());
    }
    let body = core::str::from_utf8(body).ok()?;
    json::field(body, "model").and_then(json::text).map(Into::into)
}
