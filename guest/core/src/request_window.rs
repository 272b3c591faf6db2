//! The requests that a thread has counted lately, so that none is counted twice.

use crate::same::is_same;
use alloc::boxed::Box;
use alloc::collections::VecDeque;

/// How many requests of a thread are remembered, the latest. The 65th makes the first a stranger.
pub const WINDOW: usize = 64;

/// Request ids, oldest first.
#[derive(Debug, Default)]
pub(crate) struct RequestWindow(VecDeque<Box<str>>);

impl RequestWindow {
    pub(crate) fn contains(&self, request_id: &str) -> bool {
        self.0.iter().any(|known| is_same([known], [request_id]))
    }

    /// Remember one that is not known yet.
    pub(crate) fn push(&mut self, request_id: &str) {
        if self.0.len() == WINDOW {
            self.0.pop_front();
        }
        self.0.push_back(request_id.into());
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|id| &**id)
    }
}
