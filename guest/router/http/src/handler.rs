//! What the host calls: a request comes in.

use crate::bindings::exports::wasi::http::incoming_handler::{Guest, IncomingRequest, ResponseOutparam};
use crate::bindings::thread_budget::router::policy;
use crate::bindings::wasi::clocks::{monotonic_clock, wall_clock};
use crate::client::{Client, Inbound};
use crate::exchange::Exchange;
use crate::headers::lines;
use crate::io::Deadline;
use thread_budget_router_core::{Config, ErrorKind, error_body};
use time::OffsetDateTime;

/// The environment variable with the configuration.
const VARIABLE: &str = "THREAD_BUDGET_ROUTER";

pub(crate) struct Adapter;

impl Guest for Adapter {
    fn handle(request: IncomingRequest, place: ResponseOutparam) {
        let inbound = Inbound::new(request);
        let mut client = Client::new(place);
        let config = match configure() {
            Ok(config) => config,
            Err(reason) => {
                eprintln!("the configuration cannot be used: {reason}");
                return unable(&inbound, &mut client, "the router is not configured; its log says why");
            }
        };
        client.set_patience(config.idle_timeout_ms);
        let body = inbound.body(config.max_request_bytes, Deadline::in_ms(config.request_body_timeout_ms));
        let now = wall_clock::now();
        let chance = monotonic_clock::now();
        let request = policy::Request {
            id: format!("{:x}-{:x}-{chance:x}", now.seconds, now.nanoseconds),
            chance,
            date: date(now.seconds),
            method: inbound.method_name().into(),
            target: inbound.target.clone(),
            headers: lines(&inbound.headers),
            body,
        };
        if let Err(broken) = Exchange::new(&inbound, &mut client).run(request) {
            eprintln!("the policy cannot be followed: {}", broken.reason());
            unable(&inbound, &mut client, "the router cannot go on; its log says why");
        }
    }
}

/// Configure the policy. What it is configured with says how a request's body is read, too.
fn configure() -> Result<Config, String> {
    let json = std::env::var(VARIABLE).map_err(|_| format!("{VARIABLE} is not set"))?;
    policy::configure(&policy::compile(&json)?)?;
    Config::from_json(&json).map_err(|error| error.to_string())
}

/// The date, by UTC.
fn date(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let now = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    now.date().to_string()
}

/// Answer what the policy says nothing about. A response that has begun breaks off.
fn unable(inbound: &Inbound, client: &mut Client, why: &str) {
    let headers = vec![("content-type".into(), b"application/json".to_vec())];
    client.respond(500, headers, error_body(inbound.path(), ErrorKind::Overloaded, why).as_bytes());
}
