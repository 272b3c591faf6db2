//! What wit-bindgen makes of the world.
#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]

use crate::handler::Gateway;

wit_bindgen::generate!({
    path: ["../../wit", "wit"],
    world: "thread-budget:gateway/gateway",
    generate_all,
});
export!(Gateway);
