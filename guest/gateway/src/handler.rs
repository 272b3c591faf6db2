//! One request, from the agent to the provider and back.

use bindings::exports::wasi::http::incoming_handler::{Guest, IncomingRequest, ResponseOutparam};
use bindings::wasi::http::types::ErrorCode;

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

impl Guest for Gateway {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        ResponseOutparam::set(out, Err(ErrorCode::ConfigurationError));
    }
}
