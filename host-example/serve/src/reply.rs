//! Answers that the host gives itself, in the shape that clients of LLM providers know.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use thread_budget_router_core::{Dialect, ErrorType};
use wasmtime_wasi_http::Error;

/// A response's body, whoever makes it.
pub(super) type Body = UnsyncBoxBody<Bytes, Error>;

/// Why a request got no answer of the router.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// As many requests are being served as may be.
    #[error("the router is at its limit of concurrent requests")]
    Overloaded,
    /// It is no request that can be served.
    #[error("{0}")]
    BadRequest(&'static str),
    /// The instance needed more memory than there is for it.
    #[error("the request needs more memory than it may have")]
    Memory,
    /// It computed for too long.
    #[error("the request took more processor time than it may")]
    Cpu,
    /// It took too long.
    #[error("the request took longer than it may")]
    Timeout,
    /// The router stops.
    #[error("the router is stopping")]
    Stopping,
    /// The registry could not do what it was asked for, and nothing goes on without it.
    #[error("the budget registry failed")]
    Registry,
    /// The router broke, or gave no answer.
    #[error("the router failed")]
    Router,
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Router => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Overloaded | Self::Memory | Self::Cpu | Self::Stopping | Self::Registry => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    fn kind(&self) -> ErrorType {
        match self {
            Self::BadRequest(_) => ErrorType::InvalidRequest,
            Self::Router | Self::Timeout => ErrorType::Upstream,
            Self::Overloaded | Self::Memory | Self::Cpu | Self::Stopping | Self::Registry => {
                ErrorType::Overloaded
            }
        }
    }

    /// What a client of that path reads, as the router would say it.
    pub(super) fn reply(&self, path: &str) -> Response<Body> {
        let json = Dialect::error_body(Dialect::of("POST", path), self.kind(), &self.to_string());
        let body = Full::new(Bytes::from(json)).map_err(Error::from).boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = self.status();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
