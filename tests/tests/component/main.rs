//! The component itself, without the host library's guards in front of it.

mod arguments;
mod instance;
mod memory;
mod work;
mod world;
