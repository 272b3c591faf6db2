//! What has changed, for a host that keeps the threads elsewhere too.

use crate::memory::has_room;
use crate::state::ThreadState;
use crate::thread::ThreadBudget;
use crate::threads::Threads;
use alloc::string::String;
use alloc::vec::Vec;

/// What has changed since somebody was told last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Changes {
    /// The states of now, ascending by thread id.
    pub changed: Vec<ThreadState>,
    /// The ids of threads that there are no longer, ascending.
    pub gone: Vec<String>,
}

/// What is to be told. Nothing until somebody asks.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    is_on: bool,
    /// Each says itself whether it is still to be told.
    changed: Vec<ThreadBudget>,
    gone: Vec<ThreadBudget>,
    /// There was no memory for something.
    is_short: bool,
}

impl Noted {
    pub(crate) const fn new() -> Self {
        Self { is_on: false, changed: Vec::new(), gone: Vec::new(), is_short: false }
    }

    /// The thread has changed.
    #[inline]
    pub(crate) fn change(&mut self, thread: &ThreadBudget) {
        if self.is_on && thread.note() {
            push(&mut self.changed, thread, &mut self.is_short);
        }
    }

    /// The thread and its ancestors have changed.
    #[inline]
    pub(crate) fn change_line(&mut self, thread: &ThreadBudget) {
        if self.is_on {
            thread.line().for_each(|thread| self.change(&thread));
        }
    }

    /// The thread is about to go.
    pub(crate) fn go(&mut self, thread: &ThreadBudget) {
        if self.is_on {
            push(&mut self.gone, thread, &mut self.is_short);
        }
    }

    /// The thread and those below it are about to go.
    pub(crate) fn go_with_all_below(&mut self, thread: &ThreadBudget) {
        if !self.is_on {
            return;
        }
        self.go(thread);
        let mut child = thread.child_after(None);
        while let Some(gone) = child {
            self.go_with_all_below(&gone);
            child = thread.child_after(Some(gone.thread_id()));
        }
    }

    /// Tell up to `limit` of them, fewer when memory is short; none when not all could be noted. From now on
    /// there is something to tell.
    pub(crate) fn tell(&mut self, threads: &Threads, limit: usize, row_bytes: usize) -> Option<Changes> {
        if self.is_short {
            *self = Self { is_on: true, ..Self::new() };
            threads.iter().for_each(ThreadBudget::tell);
            return None;
        }
        self.is_on = true;
        let mut told = Changes::default();
        let (mut looked_at, mut bytes) = (0, 0);
        for thread in &self.changed {
            if thread.is_noted() {
                let state = ThreadState::of(thread);
                bytes += state.bytes() + row_bytes;
                let room = told.changed.is_empty() || has_room(bytes);
                if told.changed.len() == limit || !room || told.changed.try_reserve(1).is_err() {
                    break;
                }
                thread.tell();
                let at = told.changed.partition_point(|other| other.thread_id < state.thread_id);
                told.changed.insert(at, state);
            }
            looked_at += 1;
        }
        self.changed.drain(..looked_at);
        if !self.changed.is_empty() {
            return Some(told);
        }
        let mut looked_at = 0;
        for thread in &self.gone {
            let id = thread.thread_id();
            if threads.get(id).is_none() {
                bytes += id.len() + row_bytes;
                let number = told.changed.len() + told.gone.len();
                let room = number == 0 || has_room(bytes);
                if number >= limit || !room || told.gone.try_reserve(1).is_err() {
                    break;
                }
                let at = told.gone.partition_point(|other| other.as_str() < id);
                // It may have gone twice.
                if told.gone.get(at).is_none_or(|other| other != id) {
                    told.gone.insert(at, id.into());
                }
            }
            looked_at += 1;
        }
        self.gone.drain(..looked_at);
        Some(told)
    }
}

fn push(list: &mut Vec<ThreadBudget>, thread: &ThreadBudget, is_short: &mut bool) {
    match list.try_reserve(1) {
        Ok(()) => list.push(thread.clone()),
        Err(_) => *is_short = true,
    }
}
