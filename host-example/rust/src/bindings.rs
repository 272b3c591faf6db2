//! What wasmtime generates from the contract. Private: the crate speaks in types of its own.
#![allow(missing_docs, unreachable_pub, clippy::all)]

wasmtime::component::bindgen!({ path: "wit", world: "thread-budget" });
