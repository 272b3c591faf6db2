//! The implementations of the contract, each behind the same door: the core (`core`), the component
//! (`component`), the host library (`library`), several of its
//! registries that share a store (`fleet`), and the naive model (`crate::model`).

mod component;
mod core;
mod fleet;
mod library;

use crate::call::{Call, Outcome};

pub use component::Component;
pub use core::Core;
pub use fleet::Fleet;
pub use library::Library;

/// Something that calls of the contract can be put to.
pub trait Subject {
    /// Make the call.
    fn call(&mut self, call: &Call) -> Outcome;
}
