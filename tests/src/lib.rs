//! What the tests that cross crates share: a call of the contract as data, and the implementations
//! of the contract that such calls can be put to.

pub mod agreement;
pub mod call;
pub mod crash;
pub mod disk;
pub mod front;
pub mod fuzz;
pub mod model;
pub mod provider;
pub mod serving;
pub mod subject;
pub mod transcript;
pub mod vector;

pub use call::{Call, Outcome};
pub use model::Model;
pub use subject::{Component, Core, Fleet, Library, Subject};

/// Tests the Rust examples of the README at the top.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
