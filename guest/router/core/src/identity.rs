//! Which thread a request belongs to.

use crate::body::{Fields, present};
use crate::config::Config;
use crate::headers::{Headers, Twice};
use crate::json;
use crate::refusal::Refusal;
use crate::registry::{Opening, ThreadOptions};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

const PARENT_HEADER: &str = "x-parent-thread-id";
const LIMIT_HEADER: &str = "x-thread-max-tokens";

/// A thread, as a request names it.
#[derive(Debug)]
pub(crate) struct Thread {
    /// Its id.
    pub(crate) id: String,
    /// What has to be opened before it can hold anything.
    pub(crate) open: Vec<Opening>,
}

impl Thread {
    /// Whether it may share what it has with others, as far as the request says.
    pub(crate) fn has_parent(&self) -> bool {
        self.open.iter().any(|opening| opening.options.parent.is_some())
    }
}

/// The headers that are the router's own and no provider's.
pub(crate) fn own_headers(config: &Config) -> [&str; 3] {
    [&config.thread_header, PARENT_HEADER, LIMIT_HEADER]
}

/// The thread of a request; none when it names none.
pub(crate) fn thread(
    config: &Config,
    headers: &Headers,
    fields: &Fields<'_>,
) -> Result<Option<Thread>, Refusal> {
    let in_body = named_in_body(fields)?;
    let Some(id) = text(headers, &config.thread_header)?.map(str::to_owned).or(in_body) else {
        return Ok(None);
    };
    let mut open = Vec::new();
    if config.allow_thread_options {
        let parent = text(headers, PARENT_HEADER)?.map(str::to_owned);
        let max_tokens = text(headers, LIMIT_HEADER)?.map(str::parse).transpose();
        let max_tokens = max_tokens
            .map_err(|_| Refusal::invalid(format!("{LIMIT_HEADER} is a whole number of tokens")))?;
        if parent.is_some() || max_tokens.is_some() {
            open.push(Opening { thread_id: id.clone(), options: ThreadOptions { max_tokens, parent } });
        }
    }
    Ok(Some(Thread { id, open }))
}

/// The thread that `metadata.thread_id` names. A budget must not be lost over a typing error.
fn named_in_body(fields: &Fields<'_>) -> Result<Option<String>, Refusal> {
    let named =
        Fields::inner(fields.metadata, "thread_id").map_err(|error| Refusal::invalid(format!("{error}")))?;
    match present(named) {
        None => Ok(None),
        Some(id) => match json::text(id) {
            Some(id) => Ok(Some(id.into_owned())),
            None => Err(Refusal::invalid("metadata.thread_id is a string")),
        },
    }
}

/// The only header of that name. One that is there twice might be read differently elsewhere.
pub(crate) fn text<'h>(headers: &'h Headers, name: &str) -> Result<Option<&'h str>, Refusal> {
    let invalid = |why| Refusal::invalid(format!("the header {name} {why}"));
    let Some(value) = headers.only(name).map_err(|Twice| invalid("is there twice"))? else { return Ok(None) };
    core::str::from_utf8(value).map(Some).map_err(|_| invalid("is not UTF-8"))
}
