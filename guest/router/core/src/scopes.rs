//! The budgets that sessions share: ancestors of their threads, by key, by a header, or for all, in windows of time.
//!
//! A window needs no clock and no reset here: the host says which day it is, and the name of a scope's thread
//! carries its window. The next window is another thread.

use crate::client::Client;
use crate::config::{Every, Scope, ScopeBy};
use crate::identity::text;
use crate::refusal::Refusal;
use crate::registry::{Opening, ThreadOptions};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The threads of the scopes that a request is in, the outermost first.
pub(crate) fn of(scopes: &[Scope], client: &Client) -> Result<Vec<Opening>, Refusal> {
    let mut openings: Vec<Opening> = Vec::new();
    for scope in scopes {
        let who = match scope.by {
            ScopeBy::All => "all".to_owned(),
            ScopeBy::Key => key_name(client),
            ScopeBy::Header => {
                let header = scope.header.as_deref().unwrap_or_default();
                format!("{header}-{}", text(&client.headers, header)?.unwrap_or("none"))
            }
        };
        let outer = openings.last().map(|opening| opening.thread_id.clone());
        // What is named the same in two outer scopes is two.
        let mut thread_id = outer.as_ref().map_or(String::new(), |outer| format!("{outer}/"));
        thread_id.push_str(&who);
        if let Some(window) = window(scope.every, &client.date)? {
            thread_id.push('/');
            thread_id.push_str(window);
        }
        let options = ThreadOptions { max_tokens: Some(scope.limit), parent: outer };
        openings.push(Opening { thread_id, options });
    }
    Ok(openings)
}

/// What stands for the key of a client: nobody can read the key from it.
pub(crate) fn key_name(client: &Client) -> String {
    client.key_hash().map_or_else(|| "key-none".to_owned(), |hash| format!("key-{hash:016x}"))
}

/// The part of a date that names the window, such as `2026-11`.
fn window(every: Option<Every>, date: &str) -> Result<Option<&str>, Refusal> {
    let length = match every {
        None => return Ok(None),
        Some(Every::Month) => "2026-11".len(),
        Some(Every::Day) => "2026-11-25".len(),
    };
    match date.get(..length) {
        Some(window) => Ok(Some(window)),
        None => Err(Refusal::overloaded("the host does not say which day it is")),
    }
}
