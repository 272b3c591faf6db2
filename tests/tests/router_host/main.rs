//! The router's host: what it does where a machine, a client, an operator or a policy misbehaves, and where none
//! does.

mod connections;
mod disk;
mod forgetting;
mod host;
mod limits;
mod policies;
mod shutdown;
mod time;
