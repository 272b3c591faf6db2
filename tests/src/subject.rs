//! The implementations of the contract, each behind the same door: the core (`core`), the component
//! (`component`), and the naive model (`crate::model`). The host library's subject is `library`.

mod component;
mod core;

use crate::call::{Call, Outcome};

pub use component::Component;
pub use core::Core;

/// Something that calls of the contract can be put to.
pub trait Subject {
    /// Make the call.
    fn call(&mut self, call: &Call) -> Outcome;
}
