//! What a client wants: the head of its request, and what is sent to a provider of it.

use crate::api;
use crate::attempts::Attempts;
use crate::config::Config;
use crate::headers::Headers;
use crate::identity;
use crate::turn::{Header, OwnKey, ProviderRequest};
use crate::upstream::{Base, is_credential};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use sha2::{Digest, Sha256};

/// The head of a request.
#[derive(Debug)]
pub(crate) struct Client {
    /// Names the exchange.
    pub(crate) id: String,
    /// Any number: what pauses vary by.
    pub(crate) chance: u64,
    /// Today's date, such as `2026-11-25`.
    pub(crate) date: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Headers,
    /// By when all has to be done.
    pub(crate) deadline: u64,
}

impl Client {
    /// The path, without the query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Whether it is a client of Anthropic's API: by the path, and where that tells nothing by its headers.
    pub(crate) fn is_anthropic(&self) -> bool {
        self.path().starts_with("/v1/messages")
            || api::of(self.path()).is_none()
                && (self.headers.has("anthropic-version") || self.headers.has("x-api-key"))
    }

    /// Whether the request says who the client is: in a header, or in the query.
    pub(crate) fn has_key(&self) -> bool {
        let query = self.target.split_once('?').map_or("", |(_, query)| query).to_ascii_lowercase();
        self.headers.names().any(is_credential)
            || query.split('&').any(|pair| is_credential(pair.split('=').next().unwrap_or_default()))
    }

    /// What stands for the key that the request says who the client is with; none without one.
    pub(crate) fn key_hash(&self) -> Option<u64> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let in_header = self.headers.iter().find(|(name, _)| is_credential(name) && *name != "cookie");
        let in_query = || {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.into_iter().find(|(name, _)| is_credential(&name.to_ascii_lowercase()))
        };
        let key =
            in_header.map(|(_, value)| value).or_else(|| in_query().map(|(_, value)| value.as_bytes()))?;
        let key = key.strip_prefix(b"Bearer ").unwrap_or(key);
        Some(Sha256::digest(key).iter().take(8).fold(0, |hash, &byte| hash << 8 | u64::from(byte)))
    }

    /// The request as the current provider gets it, with this body or the client's own.
    pub(crate) fn send(
        &self,
        config: &Config,
        attempts: &Attempts,
        now: u64,
        what: What,
    ) -> Option<ProviderRequest> {
        let place = attempts.upstream()?;
        let upstream = &config.upstreams[place];
        let is_anthropic = self.is_anthropic();
        let own = identity::own_headers(config);
        let stays = |name: &&str| own.contains(name) || upstream.key_env.is_some() && is_credential(name);
        let mut remove: Vec<String> = self.headers.names().filter(stays).map(Into::into).collect();
        remove.dedup();
        let mut set = Vec::new();
        if what.is_metered {
            // What is counted must be readable here.
            set.push(Header { name: "accept-encoding".into(), value: "identity".into() });
        }
        let key = upstream.key_env.as_ref().map(|variable| {
            let by_default = if is_anthropic { "x-api-key" } else { "authorization" };
            let header = upstream.key_header.as_deref().unwrap_or(by_default).to_ascii_lowercase();
            let prefix = if header == "authorization" { "Bearer " } else { "" };
            OwnKey { variable: variable.clone(), header, prefix: prefix.to_owned() }
        });
        let total_ms = self.deadline.saturating_sub(now);
        Some(ProviderRequest {
            upstream: u32::try_from(place).unwrap_or(u32::MAX),
            url: Base::of(&upstream.url)?.url(&self.target, is_anthropic),
            remove,
            set,
            key,
            body: what.body,
            whole: what.is_whole,
            most_bytes: config.max_response_bytes,
            connect_ms: config.connect_timeout_ms.min(total_ms),
            head_ms: config.first_byte_timeout_ms.min(total_ms),
            idle_ms: config.idle_timeout_ms.min(total_ms),
            total_ms,
        })
    }
}

/// What is special about a request to a provider.
pub(crate) struct What {
    /// The body; none for the client's, as it came.
    pub(crate) body: Option<Vec<u8>>,
    /// Whether the answer is to be given with its whole body.
    pub(crate) is_whole: bool,
    /// Whether the answer is counted.
    pub(crate) is_metered: bool,
}
