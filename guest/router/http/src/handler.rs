//! One request, from the agent to a provider and back.

use crate::bindings::exports::wasi::http::incoming_handler::{Guest, IncomingRequest, ResponseOutparam};
use crate::bindings::thread_budget::registry::types::ThreadOptions;
use crate::bindings::wasi::http::types::Method;
use crate::budget::{Hold, Settled, Thread};
use crate::io::{Deadline, ReadError, Reader};
use crate::reply::{Headers, Problem, Reply, Writer, header};
use crate::upstream::{Answer as Incoming, Outbound, is_of_connection, send};
use thread_budget_router_http_core::{
    Answer, Config, Dialect, ErrorType, Request, Stream, UnmeteredPaths, Usage, VARIABLE, reported_usage,
    route, sse,
};

const PARENT_HEADER: &str = "x-parent-thread-id";
const LIMIT_HEADER: &str = "x-thread-max-tokens";

pub(crate) struct Router;

impl Guest for Router {
    fn handle(request: IncomingRequest, place: ResponseOutparam) {
        let mut reply = Reply::new(place);
        let inbound = Inbound::new(request);
        let dialect = Dialect::of(inbound.method_name(), inbound.path());
        let config = std::env::var(VARIABLE).map_err(|_| format!("{VARIABLE} is not set"));
        let config = config.and_then(|json| Config::from_json(&json).map_err(|error| error.to_string()));
        let result = match config {
            Ok(config) => {
                reply.set_idle_timeout(config.idle_timeout_ms);
                Exchange { config: &config, inbound, reply: &mut reply }.run(dialect)
            }
            Err(reason) => {
                eprintln!("the configuration cannot be used: {reason}");
                Err(Problem::new(
                    500,
                    ErrorType::Overloaded,
                    "the router is not configured; its log says why",
                ))
            }
        };
        if let Err(problem) = result {
            reply.problem(dialect, problem);
        }
    }
}

/// A client's request, its body unread.
struct Inbound {
    request: IncomingRequest,
    method: Method,
    path_with_query: String,
    headers: Headers,
}

impl Inbound {
    fn new(request: IncomingRequest) -> Self {
        let method = request.method();
        let path_with_query = request.path_with_query().unwrap_or_else(|| "/".into());
        let headers = request.headers().entries();
        Self { request, method, path_with_query, headers }
    }

    fn method_name(&self) -> &str {
        match &self.method {
            Method::Post => "POST",
            Method::Other(name) => name,
            // No budget applies to any of them.
            _ => "",
        }
    }

    fn path(&self) -> &str {
        self.path_with_query.split('?').next().unwrap_or_default()
    }

    /// The only header of that name. One that is there twice might be read differently elsewhere.
    fn header(&self, name: &str) -> Result<Option<&str>, Problem> {
        let invalid = |why| Problem::new(400, ErrorType::InvalidRequest, format!("the header {name} {why}"));
        let mut values = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let Some((_, value)) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(invalid("is there twice"));
        }
        std::str::from_utf8(value).map(Some).map_err(|_| invalid("is not UTF-8"))
    }

    fn body(&self, config: &Config) -> Result<Vec<u8>, Problem> {
        let invalid = |status, message: String| Problem::new(status, ErrorType::InvalidRequest, message);
        let most = config.max_request_bytes;
        let too_long = || invalid(413, format!("the body is longer than {most} bytes"));
        let length = self.header("content-length")?.and_then(|length| length.parse().ok());
        if length.is_some_and(|length: u64| length > most) {
            return Err(too_long());
        }
        let mut body = Vec::new();
        let Some(reader) = self.request.consume().ok().and_then(Reader::new) else { return Ok(body) };
        let deadline = Deadline::in_ms(config.request_body_timeout_ms);
        match reader.all(most, &deadline, &mut body) {
            Ok(()) => Ok(body),
            Err(ReadError::TooLong) => Err(too_long()),
            Err(ReadError::TooSlow) => Err(invalid(408, "the body took too long to arrive".into())),
            Err(ReadError::Broken) => Err(invalid(400, "the body broke off".into())),
        }
    }

    /// What a provider gets of the headers.
    fn forwarded(&self, config: &Config, metered: bool) -> Headers {
        let stays = |name: &str| {
            let of_thread = [&config.thread_header, PARENT_HEADER, LIMIT_HEADER];
            is_of_connection(name)
                || of_thread.iter().any(|known| name.eq_ignore_ascii_case(known))
                // What has a budget must be readable here.
                || metered && name.eq_ignore_ascii_case("accept-encoding")
        };
        self.headers.iter().filter(|(name, _)| !stays(name)).cloned().collect()
    }
}

/// A request that is being served.
struct Exchange<'a> {
    config: &'a Config,
    inbound: Inbound,
    reply: &'a mut Reply,
}

impl Exchange<'_> {
    fn run(mut self, dialect: Option<Dialect>) -> Result<(), Problem> {
        let path = self.inbound.path();
        if !route::is_api(path) || !route::is_plain(path) {
            return Err(not_found());
        }
        let deadline = Deadline::in_ms(self.config.request_timeout_ms);
        match (dialect, self.config.unmetered_paths) {
            (Some(dialect), _) => self.metered(dialect, &deadline),
            (None, UnmeteredPaths::Pass) => {
                let body = self.inbound.body(self.config)?;
                let upstreams: Vec<_> = self.config.upstreams.iter().collect();
                let headers = self.inbound.forwarded(self.config, false);
                let answer = send(self.config, &upstreams, &self.outbound(headers, &body), &deadline)?;
                self.relay(answer, &deadline);
                Ok(())
            }
            (None, UnmeteredPaths::Refuse) => Err(not_found()),
        }
    }

    fn metered(&mut self, dialect: Dialect, deadline: &Deadline) -> Result<(), Problem> {
        if self.inbound.header("content-encoding")?.is_some_and(|encoding| encoding != "identity") {
            return Err(Problem::new(415, ErrorType::InvalidRequest, "the body must not be compressed"));
        }
        let body = self.inbound.body(self.config)?;
        let bad_request = |error| Problem::new(400, ErrorType::InvalidRequest, format!("{error}"));
        let request = Request::read(dialect, &body).map_err(bad_request)?;
        let upstreams = route::upstreams(self.config, request.model());
        if upstreams.is_empty() {
            let message = format!("no upstream serves the model {:?}", request.model());
            return Err(Problem::new(404, ErrorType::NotFound, message));
        }
        let headers = self.inbound.forwarded(self.config, true);
        let named_in_body = request.thread_id().map_err(bad_request)?;
        let Some(thread) = self.thread(named_in_body)? else {
            let answer = send(self.config, &upstreams, &self.outbound(headers, &body), deadline)?;
            self.relay(answer, deadline);
            return Ok(());
        };

        let hold = Hold::new(self.config, thread, request.estimate())?;
        let warnings = if request.takes_messages() { hold.warnings() } else { Vec::new() };
        let changed = request.body_with(&warnings);
        let answer = send(self.config, &upstreams, &self.outbound(headers, &changed), deadline)?;
        if !answer.is_success() {
            drop(hold);
            self.relay(answer, deadline);
            return Ok(());
        }
        if !warnings.is_empty() {
            hold.acknowledge();
        }
        if answer.is_stream() {
            let stream = Stream::new(dialect, request.lacks_usage());
            self.stream(dialect, stream, hold, answer, deadline);
        } else {
            self.whole(dialect, hold, answer, deadline)?;
        }
        Ok(())
    }

    fn thread(&self, named_in_body: Option<String>) -> Result<Option<Thread>, Problem> {
        let named = self.inbound.header(&self.config.thread_header)?.map(str::to_owned);
        let Some(id) = named.or(named_in_body) else { return Ok(None) };
        let invalid = |message: &str| Problem::new(400, ErrorType::InvalidRequest, message);

        let mut options = None;
        if self.config.allow_thread_options {
            let parent = self.inbound.header(PARENT_HEADER)?.map(str::to_owned);
            let max_tokens = self.inbound.header(LIMIT_HEADER)?.map(str::parse).transpose();
            let max_tokens =
                max_tokens.map_err(|_| invalid("x-thread-max-tokens is a whole number of tokens"))?;
            options =
                (parent.is_some() || max_tokens.is_some()).then_some(ThreadOptions { max_tokens, parent });
        }
        let request_id = self.inbound.header("idempotency-key")?.map(str::to_owned);
        if request_id.as_ref().is_some_and(|id| !(1..=256).contains(&id.len())) {
            return Err(invalid("idempotency-key has 1 to 256 bytes"));
        }
        Ok(Some(Thread { id, options, request_id }))
    }

    fn outbound<'o>(&'o self, mut headers: Headers, body: &'o [u8]) -> Outbound<'o> {
        if !body.is_empty() || matches!(self.inbound.method, Method::Post | Method::Put | Method::Patch) {
            headers.push(header("content-length", body.len()));
        }
        let Inbound { method, path_with_query, .. } = &self.inbound;
        Outbound { method, path_with_query, headers, body }
    }

    /// Pass an answer on as it arrives.
    fn relay(&mut self, answer: Incoming, deadline: &Deadline) {
        let writer = self.reply.start(answer.status, &head(&answer, Vec::new()));
        let Some(reader) = answer.body().and_then(Reader::new) else { return };
        while let Ok(piece) = reader.next(deadline) {
            let Some(piece) = piece else {
                writer.finish();
                return;
            };
            if !writer.write(&piece) {
                return;
            }
        }
    }

    /// Pass on an answer that is no stream, once it has been counted.
    fn whole(
        &mut self,
        dialect: Dialect,
        hold: Hold,
        answer: Incoming,
        deadline: &Deadline,
    ) -> Result<(), Problem> {
        let mut body = Vec::new();
        let read = answer
            .body()
            .and_then(Reader::new)
            .map_or(Err(ReadError::Broken), |it| it.all(self.config.max_response_bytes, deadline, &mut body));
        if let Err(error) = read {
            // What was produced has to be paid for, and half an answer tells no more than its length.
            let used = hold.estimate.by_length(body.len());
            hold.settle(used);
            let (status, why) = match error {
                ReadError::TooLong => (502, "is too long"),
                ReadError::TooSlow => (504, "took too long"),
                ReadError::Broken => (502, "broke off"),
            };
            return Err(Problem::new(status, ErrorType::Upstream, format!("the upstream's answer {why}")));
        }

        let used = reported_usage(&body).unwrap_or_else(|| {
            let used = hold.estimate.unless_seen(hold.estimate.by_length(body.len()));
            log_no_usage(&hold, &answer, used);
            used
        });
        let settled = hold.settle(used);
        let headers = head(&answer, settled.headers());
        if self.config.in_band_warnings
            && let Some(place) = Answer::read(dialect, &body)
        {
            let warnings = settled.take_warnings();
            if !warnings.is_empty() {
                body = place.with(&warnings).into_bytes();
            }
        }
        self.reply.send(answer.status, headers, &body);
        Ok(())
    }

    /// Pass a stream on event by event, and count it when it ends, however it does.
    fn stream(
        &mut self,
        dialect: Dialect,
        mut stream: Stream,
        hold: Hold,
        answer: Incoming,
        deadline: &Deadline,
    ) {
        let writer = self.reply.start(answer.status, &head(&answer, hold.headers()));
        let Some(reader) = answer.body().and_then(Reader::new) else { return };
        let end = |writer: Writer, mut out: Vec<u8>, kind, message: &str| {
            out.extend_from_slice(dialect.error_events(kind, message).as_bytes());
            if writer.write(&out) {
                writer.finish();
            }
        };
        let mut events = sse::Events::default();
        let mut hold = Some(hold);
        loop {
            let piece = match reader.next(deadline) {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => {
                    settle(&mut hold, &stream, &answer, false);
                    let message = match error {
                        ReadError::TooSlow => "the answer took too long",
                        _ => "the upstream broke the stream off",
                    };
                    return end(writer, Vec::new(), ErrorType::Upstream, message);
                }
            };
            events.push(&piece);
            let mut out = Vec::with_capacity(piece.len());
            while let Some(event) = events.next() {
                let passes = stream.take(event);
                if stream.has_ended() {
                    if let Some(settled) = settle(&mut hold, &stream, &answer, true)
                        && self.config.in_band_warnings
                        && stream.in_band(&[]).is_some()
                    {
                        let warnings = settled.take_warnings();
                        if !warnings.is_empty() {
                            out.extend_from_slice(stream.in_band(&warnings).unwrap_or_default().as_bytes());
                        }
                    }
                } else if self.config.cut_streams
                    && hold.as_mut().is_some_and(|hold| !hold.fits(stream.seen(hold.estimate)))
                {
                    // Counted first: whoever reads that the budget is used up can rely on it.
                    settle(&mut hold, &stream, &answer, false);
                    let message = "the thread's token budget is used up; the answer ends here";
                    return end(writer, out, ErrorType::BudgetExhausted, message);
                }
                if passes {
                    out.extend_from_slice(event);
                }
            }
            if events.pending() as u64 > self.config.max_response_bytes {
                settle(&mut hold, &stream, &answer, false);
                return end(writer, out, ErrorType::Upstream, "an event of the upstream is too long");
            }
            if !out.is_empty() && !writer.write(&out) {
                // The client is gone, and what it has not seen is not produced.
                settle(&mut hold, &stream, &answer, false);
                return;
            }
        }
        settle(&mut hold, &stream, &answer, true);
        if writer.write(events.rest()) {
            writer.finish();
        }
    }
}

/// Count a stream, once: what was reported, and else the estimate when it is `whole`, or what was seen.
fn settle(
    hold: &mut Option<Hold>,
    stream: &Stream,
    answer: &Incoming,
    whole: bool,
) -> Option<Settled> {
    let hold = hold.take()?;
    let seen = stream.seen(hold.estimate);
    let used = match stream.reported() {
        Some(reported) if whole => reported,
        None if whole => {
            let used = hold.estimate.unless_seen(seen);
            log_no_usage(&hold, answer, used);
            used
        }
        _ => seen,
    };
    Some(hold.settle(used))
}

fn log_no_usage(hold: &Hold, answer: &Incoming, charged: Usage) {
    eprintln!(
        "thread {:?}: {} reported no usage; charged {} tokens, the estimate",
        hold.thread_id(),
        answer.upstream,
        charged.prompt.saturating_add(charged.completion)
    );
}

/// The headers of a response that passes an answer on, with others in the place of its own.
fn head(answer: &Incoming, own: Headers) -> Headers {
    let is_own = |name: &str| own.iter().any(|(known, _)| name.eq_ignore_ascii_case(known));
    let passed = answer.headers.iter().filter(|(name, _)| !is_of_connection(name) && !is_own(name));
    passed.cloned().chain(own.iter().cloned()).collect()
}

fn not_found() -> Problem {
    Problem::new(404, ErrorType::NotFound, "there is nothing here; the API's paths begin with /v1")
}
