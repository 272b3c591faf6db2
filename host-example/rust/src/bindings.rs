//! What wasmtime generates from the contract. Private: the crate's types are its own, and what is generated
//! speaks in them. That they are those of the contract is looked at when the component is loaded.
#![allow(missing_docs, unreachable_pub, clippy::all)]

wasmtime::component::bindgen!({
    path: "wit",
    world: "thread-budget",
    with: { "thread-budget:registry/types": crate },
});
