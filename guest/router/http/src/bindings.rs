//! What wit-bindgen makes of the world.
#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]

use crate::handler::Adapter;

wit_bindgen::generate!({
    path: ["../../../wit", "../../../wit/router", "wit"],
    world: "thread-budget:router-http/adapter",
    generate_all,
});
export!(Adapter);
