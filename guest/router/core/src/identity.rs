//! Which thread a request belongs to.

use crate::body::{Body, Fields, present};
use crate::client::Client;
use crate::clients;
use crate::config::{Config, Unidentified};
use crate::headers::{Headers, Twice};
use crate::json;
use crate::refusal::Refusal;
use crate::registry::{Opening, ThreadOptions};
use crate::scopes;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
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

/// The thread of a request; none when it names none, and none is made up for it.
pub(crate) fn thread(config: &Config, client: &Client, body: &Body) -> Result<Option<Thread>, Refusal> {
    let headers = &client.headers;
    let fields = body.fields();
    let in_body = named_in_body(&fields)?;
    if let Some(id) = text(headers, &config.thread_header)?.map(str::to_owned).or(in_body) {
        let options = named_options(config, headers)?;
        let has_options = options.max_tokens.is_some() || options.parent.is_some();
        let named = Opening { thread_id: id, options };
        return below_scopes(config, client, vec![named], has_options).map(Some);
    }
    let lineage = match (clients::lineage(&config.clients, headers, body)?, config.unidentified) {
        (Some(lineage), _) => lineage,
        (None, Unidentified::Pass) => return Ok(None),
        (None, Unidentified::PerKey) => vec![scopes::key_name(client)],
        (None, Unidentified::Refuse) => {
            return Err(Refusal::invalid(format!(
                "the request names no session: send the header {}, with any name for it",
                config.thread_header
            )));
        }
    };
    let mut openings: Vec<Opening> = Vec::new();
    for thread_id in lineage {
        let parent = openings.last().map(|opening| opening.thread_id.clone());
        openings.push(Opening { thread_id, options: ThreadOptions { max_tokens: None, parent } });
    }
    let has_ancestors = openings.len() > 1;
    below_scopes(config, client, openings, has_ancestors).map(Some)
}

/// The last of these threads, each below the one before it, and all below the scopes of the request. Where there
/// are scopes, their name is a part of a thread's: what one key's session is called is not another's, and in
/// the next window it is another thread.
fn below_scopes(
    config: &Config,
    client: &Client,
    named: Vec<Opening>,
    must_open: bool,
) -> Result<Thread, Refusal> {
    let mut open = scopes::of(&config.scopes, client)?;
    let scope = open.last().map(|opening| opening.thread_id.clone());
    let within = |id: &str| scope.as_ref().map_or_else(|| id.to_owned(), |scope| format!("{scope}/{id}"));
    let mut id = String::new();
    for Opening { thread_id, options: ThreadOptions { max_tokens, parent } } in named {
        id = within(&thread_id);
        let parent = parent.as_deref().map(within).or_else(|| scope.clone());
        open.push(Opening { thread_id: id.clone(), options: ThreadOptions { max_tokens, parent } });
    }
    // A thread that asks for nothing is made by its first hold, and by none that is refused.
    if !must_open && scope.is_none() {
        open.clear();
    }
    Ok(Thread { id, open })
}

/// The parent and the limit that a request asks for, where it may.
fn named_options(config: &Config, headers: &Headers) -> Result<ThreadOptions, Refusal> {
    if !config.allow_thread_options {
        return Ok(ThreadOptions { max_tokens: None, parent: None });
    }
    let parent = text(headers, PARENT_HEADER)?.map(str::to_owned);
    let max_tokens = text(headers, LIMIT_HEADER)?.map(str::parse).transpose();
    let max_tokens =
        max_tokens.map_err(|_| Refusal::invalid(format!("{LIMIT_HEADER} is a whole number of tokens")))?;
    Ok(ThreadOptions { max_tokens, parent })
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
