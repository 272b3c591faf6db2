//! The APIs that a budget applies to, and how each says that a budget is used up.

use crate::splice::quote;

/// An API that a budget applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's chat completions, `POST /v1/chat/completions`.
    Chat,
    /// OpenAI's responses, `POST /v1/responses`.
    Responses,
    /// Anthropic's messages, `POST /v1/messages`.
    Messages,
}

/// What an error is called in the body of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    /// The thread's budget is used up, or what is asked for does not fit.
    BudgetExhausted,
    /// The request cannot be understood or served.
    InvalidRequest,
    /// There is nothing at this path.
    NotFound,
    /// No provider answered.
    Upstream,
    /// The router or its registry has no room, or failed.
    Overloaded,
}

impl ErrorType {
    /// As it stands in a body.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BudgetExhausted => "budget_exhausted",
            Self::InvalidRequest => "invalid_request_error",
            Self::NotFound => "not_found_error",
            Self::Upstream => "upstream_error",
            Self::Overloaded => "router_overloaded",
        }
    }
}

impl Dialect {
    /// The dialect of a request, by its path without a query; none for what no budget applies to.
    /// Providers may be lenient about a path, so this is too: a budget must not depend on its spelling.
    #[must_use]
    pub fn of(method: &str, path: &str) -> Option<Self> {
        if method != "POST" {
            return None;
        }
        let path = path.trim_end_matches('/');
        [
            ("/v1/chat/completions", Self::Chat),
            ("/v1/responses", Self::Responses),
            ("/v1/messages", Self::Messages),
        ]
        .into_iter()
        .find_map(|(known, dialect)| path.eq_ignore_ascii_case(known).then_some(dialect))
    }

    /// The body of a response that is an error, as this API's clients read it.
    #[must_use]
    pub fn error_body(dialect: Option<Self>, kind: ErrorType, message: &str) -> String {
        let (kind, message) = (quote(kind.as_str()), quote(message));
        match dialect {
            Some(Self::Messages) => {
                format!(r#"{{"type":"error","error":{{"type":{kind},"message":{message}}}}}"#)
            }
            _ => {
                format!(r#"{{"error":{{"message":{message},"type":{kind},"param":null,"code":{kind}}}}}"#)
            }
        }
    }

    /// The events that end a stream early, as this API's clients read them.
    #[must_use]
    pub fn error_events(self, kind: ErrorType, message: &str) -> String {
        match self {
            Self::Chat => {
                format!("data: {}\n\ndata: [DONE]\n\n", Self::error_body(Some(self), kind, message))
            }
            Self::Messages => {
                format!("event: error\ndata: {}\n\n", Self::error_body(Some(self), kind, message))
            }
            Self::Responses => {
                let (kind, message) = (quote(kind.as_str()), quote(message));
                format!(
                    "event: error\ndata: {{\"type\":\"error\",\"code\":{kind},\"message\":{message},\"param\":null}}\n\n"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_does_not_depend_on_how_a_path_is_spelled() {
        assert_eq!(Dialect::of("POST", "/v1/chat/completions"), Some(Dialect::Chat));
        assert_eq!(Dialect::of("POST", "/v1/Chat/completions//"), Some(Dialect::Chat));
        assert_eq!(Dialect::of("POST", "/v1/responses"), Some(Dialect::Responses));
        assert_eq!(Dialect::of("POST", "/v1/messages"), Some(Dialect::Messages));
        assert_eq!(Dialect::of("GET", "/v1/chat/completions"), None);
        assert_eq!(Dialect::of("POST", "/v1/messages/count_tokens"), None);
    }

    #[test]
    fn errors_are_as_each_api_has_them() {
        let body = |dialect| Dialect::error_body(dialect, ErrorType::BudgetExhausted, "a \"b\"");
        assert_eq!(
            body(Some(Dialect::Chat)),
            r#"{"error":{"message":"a \"b\"","type":"budget_exhausted","param":null,"code":"budget_exhausted"}}"#
        );
        assert_eq!(body(None), body(Some(Dialect::Responses)));
        assert_eq!(
            body(Some(Dialect::Messages)),
            r#"{"type":"error","error":{"type":"budget_exhausted","message":"a \"b\""}}"#
        );
        for dialect in [Dialect::Chat, Dialect::Messages, Dialect::Responses] {
            let events = dialect.error_events(ErrorType::BudgetExhausted, "spent");
            assert!(events.ends_with("\n\n"));
            assert!(events.contains("budget_exhausted"));
        }
    }
}
