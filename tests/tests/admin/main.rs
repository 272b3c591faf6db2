//! The admin side as its callers meet it: over HTTP, and in a browser.

mod browser;
mod http;
mod live;
mod routes;
mod server;
mod watch;
