//! An answer that is a stream: its events, each read before it is passed on.

use crate::allowance::Allowance;
use crate::api::Api;
use crate::sse::{self, Events};
use crate::tally::{Tally, Used};
use crate::weights::Rates;
use alloc::string::String;
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
    /// What its tokens count for.
    pub(crate) rates: Rates,
    /// The longest event, in bytes.
    pub(crate) event_bytes: u64,
}

impl Bounds {
    /// What an answer has used so far; none where it is an error and nothing else.
    pub(crate) fn used(&self, tally: &Tally) -> Option<Used> {
        (!tally.is_free()).then(|| Used::of(self.rates.weigh(tally.used(self.prompt, self.most))))
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
            let is_usage = read_event(self.api, event, &mut self.tally);
            let shown = if is_usage && self.hides_usage { &[][..] } else { event };
            if self.is_counted {
                out.extend_from_slice(shown);
            } else if self.tally.has_ended() {
                self.back.extend_from_slice(shown);
                return Stop::Ended;
            } else if let (Some(allowance), Some(used)) = (allowance, bounds.used(&self.tally))
                && !allowance.covers(used)
                && !self.tally.has_stopped()
            {
                self.back.extend_from_slice(shown);
                return Stop::Exceeds(used);
            } else {
                out.extend_from_slice(shown);
            }
        }
        if self.events.pending() as u64 > bounds.event_bytes { Stop::TooLong } else { Stop::Empty }
    }

    /// The provider has ended it: what is left is an event too, but half a one is not passed on. What is no
    /// stream is an answer all the same.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        let rest = self.events.rest();
        let text = String::from_utf8_lossy(sse::without_mark(rest));
        if text.trim_start().starts_with('{') {
            self.api.whole(&text, &mut self.tally);
            self.tally.ends();
            out.extend_from_slice(rest);
            return;
        }
        let is_usage = read_event(self.api, rest, &mut self.tally);
        if sse::is_whole(rest) && !(is_usage && self.hides_usage) {
            out.extend_from_slice(rest);
        }
    }

    /// What it has used so far; none where it is an error and nothing else.
    pub(crate) fn used(&self, bounds: &Bounds) -> Option<Used> {
        bounds.used(&self.tally)
    }

    /// Whether its provider has said what it used.
    pub(crate) fn is_reported(&self) -> bool {
        self.tally.is_reported()
    }

    /// Whether it has said all that it uses.
    pub(crate) fn has_ended(&self) -> bool {
        self.tally.has_ended()
    }

    /// What its provider calls the answer of which it is only the beginning.
    pub(crate) fn name_of_rest(&self) -> Option<&str> {
        self.tally.name_of_rest()
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

/// Count what an event says; true when it carries the usage and nothing else.
fn read_event(api: &dyn Api, event: &[u8], tally: &mut Tally) -> bool {
    if sse::is_error(event) {
        tally.fails();
    }
    // A byte that is no text makes one character of an answer unreadable, and not all it says.
    api.event(&String::from_utf8_lossy(&sse::data(event)), tally)
}
