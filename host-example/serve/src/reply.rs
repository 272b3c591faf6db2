//! Answers that the host gives itself, in the shape that clients of LLM providers know.

use super::client::Body;
use super::policy::Broken;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use thread_budget_router_core::{ErrorKind, error_body};

/// Why a request got no answer of the policy.
#[derive(Debug, thiserror::Error)]
pub(super) enum Reply {
    /// As many requests are under way as may be.
    #[error("the router is at its limit of concurrent requests")]
    Overloaded,
    /// It is no request that can be served.
    #[error("{0}")]
    BadRequest(&'static str),
    /// It needs more memory than there is for it.
    #[error("the request needs more memory than it may have")]
    Memory,
    /// The policy computed for too long.
    #[error("the request took more processor time than it may")]
    Cpu,
    /// The policy broke, or said nothing.
    #[error("the router failed")]
    Policy,
}

impl Reply {
    /// What to say of a policy that decides nothing more.
    pub(super) fn of(broken: &Broken) -> Self {
        match broken {
            Broken::Memory => Self::Memory,
            Broken::Cpu => Self::Cpu,
            Broken::Policy(_) => Self::Policy,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Policy => StatusCode::BAD_GATEWAY,
            Self::Overloaded | Self::Memory | Self::Cpu => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::BadRequest(_) => ErrorKind::InvalidRequest,
            Self::Policy => ErrorKind::Upstream,
            Self::Overloaded | Self::Memory | Self::Cpu => ErrorKind::Overloaded,
        }
    }

    /// What a client of that path gets, as the policy would say it.
    pub(super) fn response(&self, path: &str) -> Response<Body> {
        let json = error_body(path, self.kind(), &self.to_string());
        let mut response = Response::new(Body::Whole(json.into()));
        *response.status_mut() = self.status();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
