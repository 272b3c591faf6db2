//! One request, from the agent to the provider and back.

use bindings::exports::wasi::http::incoming_handler::{Guest, IncomingRequest, ResponseOutparam};
use bindings::thread_budget::registry::registry::{self, Reservation};
use bindings::thread_budget::registry::types::RegistryError;
use bindings::wasi::cli::environment::get_environment;
use bindings::wasi::http::outgoing_handler;
use bindings::wasi::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, OutgoingBody, OutgoingRequest, OutgoingResponse,
    RequestOptions, Scheme,
};
use bindings::wasi::io::streams::StreamError;
use thread_budget_gateway_core::{Config, VARIABLE};

mod bindings {
    #![allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]
    use super::Gateway;
    wit_bindgen::generate!({
        path: ["../../wit", "wit"],
        world: "thread-budget:gateway/gateway",
        generate_all,
    });
    export!(Gateway);
}

struct Gateway;

/// What every request is taken to use, until estimates are.
const ESTIMATE: u64 = 100;

/// How much is read at a time.
const CHUNK: u64 = 16 << 10;

impl Guest for Gateway {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        match pass(request) {
            Ok((response, reservation)) => reply(response, reservation, out),
            Err(Failure::Refused) => refuse(out),
            Err(Failure::Http(error)) => ResponseOutparam::set(out, Err(error)),
        }
    }
}

enum Failure {
    Refused,
    Http(ErrorCode),
}

impl From<ErrorCode> for Failure {
    fn from(error: ErrorCode) -> Self {
        Self::Http(error)
    }
}

fn internal<E>(_: E) -> Failure {
    Failure::Http(ErrorCode::InternalError(None))
}

fn pass(request: IncomingRequest) -> Result<(IncomingResponse, Option<Reservation>), Failure> {
    let json = get_environment().into_iter().find(|(name, _)| name == VARIABLE).unwrap_or_default().1;
    let config = Config::from_json(&json).map_err(internal)?;
    let upstream = config
        .upstreams
        .first()
        .and_then(|upstream| upstream.parts())
        .ok_or(internal(()))
        .map_err(|_| Failure::Http(ErrorCode::ConfigurationError))?;

    let headers = request.headers();
    let thread =
        headers.get(&config.thread_header).into_iter().next().and_then(|id| String::from_utf8(id).ok());
    let reservation = match thread.map(|thread| registry::reserve(&thread, ESTIMATE)) {
        Some(Ok(reservation)) => Some(reservation),
        Some(Err(RegistryError::Exhausted(_))) => return Err(Failure::Refused),
        Some(Err(error)) => return Err(internal(error)),
        None => None,
    };

    let forwarded = OutgoingRequest::new(headers.clone());
    let path = request.path_with_query().unwrap_or_default();
    forwarded.set_method(&request.method()).map_err(internal)?;
    forwarded
        .set_scheme(Some(if upstream.tls { &Scheme::Https } else { &Scheme::Http }))
        .map_err(internal)?;
    forwarded.set_authority(Some(upstream.authority)).map_err(internal)?;
    forwarded.set_path_with_query(Some(&format!("{}{path}", upstream.prefix))).map_err(internal)?;
    let body = forwarded.body().map_err(internal)?;
    let options = RequestOptions::new();
    let nanoseconds = |milliseconds: u64| Some(milliseconds * 1_000_000);
    options.set_connect_timeout(nanoseconds(config.connect_timeout_ms)).map_err(internal)?;
    options.set_first_byte_timeout(nanoseconds(config.first_byte_timeout_ms)).map_err(internal)?;
    options.set_between_bytes_timeout(nanoseconds(config.idle_timeout_ms)).map_err(internal)?;
    let response = outgoing_handler::handle(forwarded, Some(options))?;
    copy(&request.consume().map_err(internal)?, &body).map_err(internal)?;
    OutgoingBody::finish(body, None)?;
    response.subscribe().block();
    match response.get() {
        Some(Ok(response)) => Ok((response?, reservation)),
        _ => Err(internal(())),
    }
}

fn reply(response: IncomingResponse, reservation: Option<Reservation>, out: ResponseOutparam) {
    let headers = response.headers();
    let answer = OutgoingResponse::new(headers.clone());
    let _ = answer.set_status_code(response.status());
    let (Ok(body), Ok(source)) = (answer.body(), response.consume()) else { return };
    ResponseOutparam::set(out, Ok(answer));
    let copied = copy(&source, &body);
    if let Some(reservation) = reservation {
        Reservation::commit(reservation, ESTIMATE / 2, ESTIMATE / 2);
    }
    if copied.is_ok() {
        let _ = OutgoingBody::finish(body, None);
    }
}

fn copy(from: &IncomingBody, to: &OutgoingBody) -> Result<(), StreamError> {
    let (Ok(from), Ok(to)) = (from.stream(), to.write()) else { return Err(StreamError::Closed) };
    loop {
        match to.blocking_splice(&from, CHUNK) {
            Ok(_) => {}
            Err(StreamError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn refuse(out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    let _ = response.set_status_code(429);
    ResponseOutparam::set(out, Ok(response));
}
