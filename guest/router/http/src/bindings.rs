//! What wit-bindgen makes of the world.
#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]

use crate::handler::Router;

wit_bindgen::generate!({
    path: ["../../../wit", "wit"],
    world: "thread-budget:router/http",
    generate_all,
});
export!(Router);
