//! What a method and a path ask for: something that costs tokens, something else, or nothing there is.

use crate::api::{self, Api};
use crate::config::{Config, UnmeteredPaths};
use crate::headers::Headers;
use crate::refusal::{ErrorKind, Refusal};
use alloc::vec::Vec;

/// Where a request goes in.
pub(crate) enum Door {
    /// To an API that costs tokens.
    Metered(&'static dyn Api),
    /// To what costs none: it is passed on as it is.
    Unmetered,
}

impl Door {
    /// The door of a request. What a lenient provider might take for something that costs tokens, and this
    /// does not, is refused.
    pub(crate) fn of(
        config: &Config,
        method: &str,
        target: &str,
        headers: &Headers,
        has_body: bool,
    ) -> Result<Self, Refusal> {
        let path = target.split('?').next().unwrap_or_default();
        let nothing = || Refusal::not_found("there is nothing here; the API's paths begin with /v1");
        if !is_api(path) || !is_plain(path) {
            return Err(nothing());
        }
        if !matches!(method, "DELETE" | "GET" | "HEAD" | "OPTIONS" | "PATCH" | "POST" | "PUT") {
            return Err(Refusal::new(405, ErrorKind::InvalidRequest, "there is no such method here"));
        }
        const OVERRIDES: [&str; 3] = ["x-http-method", "x-http-method-override", "x-method-override"];
        if OVERRIDES.iter().any(|name| headers.has(name)) {
            return Err(Refusal::invalid("a request has one method: that of its first line"));
        }
        if headers.has("upgrade") && !has_body {
            const WHY: &str = "there are no WebSockets here: use POST";
            return Err(Refusal::new(426, ErrorKind::InvalidRequest, WHY));
        }
        match (api::of(path), method) {
            (Some(api), "POST") => Ok(Self::Metered(api)),
            // Lists of what was stored, and the like.
            (Some(_), "DELETE" | "GET" | "HEAD" | "OPTIONS") if !has_body => {
                unmetered(config.unmetered_paths, method, path)
            }
            (Some(_), _) => Err(Refusal::new(405, ErrorKind::InvalidRequest, "use POST here")),
            // Older paths of the same APIs, such as /v1/engines/x/completions.
            (None, _) if method != "GET" && ends_like_metered(path) => Err(nothing()),
            (None, _) => unmetered(config.unmetered_paths, method, path),
        }
    }
}

fn unmetered(paths: UnmeteredPaths, method: &str, path: &str) -> Result<Door, Refusal> {
    let why = match paths {
        UnmeteredPaths::Pass => return Ok(Door::Unmetered),
        UnmeteredPaths::Free if is_free(method, path) => return Ok(Door::Unmetered),
        UnmeteredPaths::Free => {
            "no budget counts what this costs; `unmetered_paths = \"pass\"` would let it through"
        }
        UnmeteredPaths::Refuse => "there is nothing here that a budget applies to",
    };
    Err(Refusal::not_found(why))
}

/// Whether providers are known to ask nothing for it. Whatever else is sent to them may cost something: batches,
/// pictures and speech do.
fn is_free(method: &str, path: &str) -> bool {
    if matches!(method, "DELETE" | "GET" | "HEAD" | "OPTIONS") {
        return true;
    }
    let path = path.trim_end_matches('/').to_ascii_lowercase();
    let segments: Vec<&str> = path.split('/').skip(2).collect();
    method == "POST"
        && matches!(
            segments[..],
            ["messages", "count_tokens"]
                | ["responses", "input_tokens"]
                | ["responses" | "batches", _, "cancel"]
                | ["messages", "batches", _, "cancel"]
                | ["conversations" | "files" | "moderations" | "uploads"]
                | ["conversations", _]
                | ["conversations", _, "items"]
                | ["uploads", _, "cancel" | "complete" | "parts"]
        )
}

/// Whether a path is below `/v1`.
fn is_api(path: &str) -> bool {
    path.strip_prefix("/v1").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a path means what it says: a provider that tidies up `/v1/./chat/completions`, decodes
/// `/v1/chat%2Fcompletions` or cuts `/v1/chat/completions;x` off would serve without a budget what has one.
fn is_plain(path: &str) -> bool {
    let mut segments = path.trim_end_matches('/').split('/').skip(1);
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@+".contains(&byte);
    segments.all(|segment| !segment.is_empty() && !segment.ends_with('.') && segment.bytes().all(is_safe))
}

fn ends_like_metered(path: &str) -> bool {
    let path = path.trim_end_matches('/').to_ascii_lowercase();
    ["/completions", "/embeddings", "/complete"].iter().any(|end| path.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(method: &str, target: &str, headers: &str, has_body: bool) -> Result<Option<&'static str>, u16> {
        door_of(UnmeteredPaths::default(), method, target, headers, has_body)
    }

    fn door_of(
        unmetered_paths: UnmeteredPaths,
        method: &str,
        target: &str,
        headers: &str,
        has_body: bool,
    ) -> Result<Option<&'static str>, u16> {
        let headers = Headers::new(headers.into());
        let config = Config { unmetered_paths, ..Config::default() };
        match Door::of(&config, method, target, &headers, has_body) {
            Ok(Door::Metered(api)) => Ok(Some(api.path())),
            Ok(Door::Unmetered) => Ok(None),
            Err(refusal) => Err(refusal.status),
        }
    }

    #[test]
    fn a_budget_does_not_depend_on_how_a_path_is_spelled() {
        for path in [
            "/v1/chat/completions",
            "/v1/completions",
            "/v1/embeddings",
            "/v1/messages",
            "/v1/responses",
            "/v1/responses/compact",
        ] {
            assert_eq!(door("POST", path, "", true), Ok(Some(path)));
            assert_eq!(
                door("POST", &std::format!("{}//?x=/", path.to_uppercase().replace("/V1", "/v1")), "", true),
                Ok(Some(path))
            );
        }
        for path in [
            "",
            "/",
            "v1",
            "*",
            "/v1x",
            "/v2/chat/completions",
            "/v1//chat/completions",
            "/v1/./chat/completions",
            "/v1/x/../chat/completions",
            "/v1/chat%2Fcompletions",
            "/v1/chat/%63ompletions",
            "/v1/chat/completions;x",
            "/v1/chat/completions,x",
            "/v1/chat/completions.",
            "/v1/chat./completions",
            "/v1/chat/completions\\",
            "/v1/chat/compl\u{e9}tions",
            "/v1/engines/x/completions",
            "/v1/x/chat/completions",
            "/v1/complete",
        ] {
            assert_eq!(door("POST", path, "", true), Err(404), "{path}");
        }
    }

    #[test]
    fn a_budget_does_not_depend_on_how_a_method_is_spelled() {
        for method in ["post", "Post", "PROPFIND", "CONNECT", "", "POST "] {
            assert_eq!(door(method, "/v1/chat/completions", "", true), Err(405), "{method}");
        }
        for method in ["PUT", "PATCH"] {
            assert_eq!(door(method, "/v1/responses", "", true), Err(405), "{method}");
        }
        assert_eq!(door("GET", "/v1/chat/completions", "", true), Err(405));
        assert_eq!(door("GET", "/v1/chat/completions", "", false), Ok(None));
        assert_eq!(door("GET", "/v1/chat/completions", "X-HTTP-Method-Override: POST\n", false), Err(400));
    }

    #[test]
    fn what_costs_nothing_is_passed_on() {
        for (method, target) in [
            ("GET", "/v1/models?limit=2"),
            ("GET", "/v1/models/a:b@c"),
            ("DELETE", "/v1/responses/r-1"),
            ("POST", "/v1/messages/count_tokens?beta=true"),
            ("POST", "/v1/files"),
            ("POST", "/v1/Uploads/u-1/parts/"),
            ("POST", "/v1/responses/r-1/cancel"),
            ("GET", "/v1/batches"),
            ("GET", "/v1"),
        ] {
            assert_eq!(door(method, target, "", method == "POST"), Ok(None), "{method} {target}");
        }
        for path in ["/v1/responses", "/v1/realtime?model=m"] {
            assert_eq!(door("GET", path, "upgrade: websocket\n", false), Err(426));
        }
    }

    #[test]
    fn what_costs_something_that_nobody_counts_is_passed_on_where_that_is_wanted() {
        for (method, path) in [
            ("POST", "/v1/batches"),
            ("POST", "/v1/messages/batches"),
            ("POST", "/v1/images/generations"),
            ("POST", "/v1/audio/speech"),
            ("POST", "/v1/files/f-1/copy"),
            ("PUT", "/v1/files"),
            ("POST", "/v1"),
        ] {
            assert_eq!(door(method, path, "", true), Err(404), "{method} {path}");
            assert_eq!(door_of(UnmeteredPaths::Pass, method, path, "", true), Ok(None), "{method} {path}");
        }
        assert_eq!(door_of(UnmeteredPaths::Refuse, "GET", "/v1/models", "", false), Err(404));
    }
}
