//! An answer that is a stream: its events, each read before it is passed on.

use crate::allowance::Allowance;
use crate::api::Api;
use crate::json;
use crate::sse::{self, Events};
use crate::tally::{Tally, Used};
use alloc::vec::Vec;
use core::mem;

/// A stream, as far as it has come.
#[derive(Debug)]
pub(crate) struct Stream {
    api: &'static dyn Api,
    /// Whether the client has not asked for the event with the usage.
    hides_usage: bool,
    events: Events,
    tally: Tally,
    /// An event that waits for the registry.
    back: Vec<u8>,
    /// Whether it has been counted, so that the rest is just passed on.
    is_counted: bool,
}

/// Why a stream is not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// There is no more of it yet.
    Empty,
    /// It has said all that it uses, and is to be counted before the client reads its end.
    Ended,
    /// It has used more than is held, and waits.
    Exceeds(Used),
    /// Its next event is longer than one may be.
    TooLong,
}

/// What a stream is held to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The prompt, estimated.
    pub(crate) prompt: u64,
    /// The most output that the provider was asked for.
    pub(crate) most: Option<u64>,
    /// The longest event, in bytes.
    pub(crate) event_bytes: u64,
}

impl Bounds {
    fn used(&self, tally: &Tally) -> Used {
        tally.used(self.prompt, self.most)
    }
}

impl Stream {
    pub(crate) fn new(api: &'static dyn Api, hides_usage: bool) -> Self {
        Self {
            api,
            hides_usage,
            events: Events::default(),
            tally: Tally::default(),
            back: Vec::new(),
            is_counted: false,
        }
    }

    /// Take what has arrived.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.events.push(piece);
    }

    /// Read on: what is for the client goes to `out`. Without an allowance there is nothing to hold it to.
    pub(crate) fn read(&mut self, bounds: &Bounds, allowance: Option<&Allowance>, out: &mut Vec<u8>) -> Stop {
        out.append(&mut self.back);
        while let Some(event) = self.events.next() {
            let data = sse::data(event);
            let is_usage =
                core::str::from_utf8(&data).is_ok_and(|data| self.api.event(data, &mut self.tally));
            let shown = if is_usage && self.hides_usage { &[][..] } else { event };
            let used = bounds.used(&self.tally);
            if self.is_counted {
                out.extend_from_slice(shown);
            } else if self.tally.has_ended() {
                self.back.extend_from_slice(shown);
                return Stop::Ended;
            } else if allowance.is_some_and(|allowance| !allowance.covers(used)) {
                self.back.extend_from_slice(shown);
                return Stop::Exceeds(used);
            } else {
                out.extend_from_slice(shown);
            }
        }
        if self.events.pending() as u64 > bounds.event_bytes { Stop::TooLong } else { Stop::Empty }
    }

    /// The provider has ended it: what is left is an event too, but half a one is not passed on.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        let rest = self.events.rest();
        let data = sse::data(rest);
        let Ok(data) = core::str::from_utf8(&data) else { return };
        let is_usage = self.api.event(data, &mut self.tally);
        let is_whole = data == "[DONE]" || json::fields(data, &mut |_, _| {}).is_ok();
        if is_whole && !(is_usage && self.hides_usage) {
            out.extend_from_slice(rest);
        }
    }

    /// What it has used so far.
    pub(crate) fn used(&self, bounds: &Bounds) -> Used {
        bounds.used(&self.tally)
    }

    /// Whether its provider has said what it used.
    pub(crate) fn is_reported(&self) -> bool {
        self.tally.is_reported()
    }

    /// Its count, as far as it has come.
    pub(crate) fn tally(&mut self) -> Tally {
        mem::take(&mut self.tally)
    }

    /// It has been counted.
    pub(crate) fn count(&mut self) {
        self.is_counted = true;
    }

    /// Whether it has been counted.
    pub(crate) fn is_counted(&self) -> bool {
        self.is_counted
    }
}
