//! At the memory cap growth is refused, and everything else goes on.

use crate::instance::{
    Instance, RegistryError, Severity, ThreadOptions, ThreadState, Threshold, UsageEntry, call, hold_state,
    lost_state, state,
};

const KIB: usize = 1 << 10;

/// The longest line of threads.
const LINE: usize = 16;

/// What a host may hand over in one call, whatever the instance's memory holds.
const ARGUMENT_BYTES: usize = 128 * KIB;

#[test]
fn a_million_threads() {
    let mut instance = Instance::new(512 << 20);
    for n in 0..1_000_000u32 {
        assert!(instance.consume(&format!("conversation-{n:08}"), 1).is_ok());
    }
    assert_eq!(instance.number_of_threads(), 1_000_000, "512 MiB are enough to list them, too");
    assert!(call!(&mut instance, call_cleanup_thread, "conversation-00777777").is_some());
    call!(&mut instance, call_clear);
    assert_eq!(instance.number_of_threads(), 0);
}

/// Everything that takes memory and keeps it.
#[derive(Clone, Copy, Debug)]
enum Growth {
    Threads,
    Handles,
    Holds,
    Marks,
    Moved,
    Requests,
    Batches,
    Children,
    Limits,
    Restored,
}

const GROWTHS: [Growth; 10] = [
    Growth::Threads,
    Growth::Handles,
    Growth::Holds,
    Growth::Marks,
    Growth::Moved,
    Growth::Requests,
    Growth::Batches,
    Growth::Children,
    Growth::Limits,
    Growth::Restored,
];

/// Threads' ids, all of one length.
#[derive(Clone, Copy)]
struct Ids {
    bytes: usize,
}

impl Ids {
    fn of(self, n: usize) -> String {
        let bytes = self.bytes;
        format!("{n:0bytes$}")
    }

    fn entry(self, n: usize, tokens: u64) -> UsageEntry {
        UsageEntry { thread_id: self.of(n), prompt_tokens: tokens, completion_tokens: 0 }
    }
}

/// An instance in which threads are named by number.
struct Full {
    instance: Instance,
    ids: Ids,
    /// The first of them are a line, each the parent of the next.
    line: usize,
    threads: usize,
    /// Keeps on growing it.
    growth: Growth,
    grown: usize,
    /// What it holds: threads' ids and requests.
    holds: Vec<(String, String)>,
}

impl Full {
    /// Grow until that is refused.
    fn new(max_memory_bytes: usize, id_bytes: usize, line: usize, growth: Growth) -> Self {
        let instance = Instance::new(max_memory_bytes);
        let ids = Ids { bytes: id_bytes };
        let mut full = Self { instance, ids, line, threads: 0, growth, grown: 0, holds: Vec::new() };
        full.instance.set_all_thresholds();
        for n in 0..line {
            full.open(n, n.checked_sub(1)).expect("there is room");
        }
        full.threads = line;
        full.grow();
        // Where one that comes with a large argument does not fit any more, a small one may.
        full.growth = Growth::Threads;
        full.grow();
        full
    }

    fn open(&mut self, n: usize, parent: Option<usize>) -> Result<(), RegistryError> {
        self.open_as(&self.ids.of(n), parent)
    }

    fn open_as(&mut self, id: &str, parent: Option<usize>) -> Result<(), RegistryError> {
        let parent = parent.map(|parent| self.ids.of(parent));
        let options = ThreadOptions { max_tokens: Some(1_000_000), parent };
        let handle = call!(&mut self.instance, call_open_thread, id, &options)?;
        self.instance.drop(handle);
        Ok(())
    }

    fn grow(&mut self) {
        loop {
            match self.grow_once() {
                Ok(()) => self.grown += 1,
                Err(RegistryError::OutOfMemory) => return,
                Err(error) => panic!("{:?} failed: {error:?}", self.growth),
            }
        }
    }

    fn grow_once(&mut self) -> Result<(), RegistryError> {
        let ids = self.ids;
        let id = ids.of(self.threads);
        let instance = &mut self.instance;
        match self.growth {
            Growth::Threads => {
                call!(instance, call_check_budget, &id, 1)?;
                self.threads += 1;
            }
            // Kept by the instance, whether the host remembers them or not.
            Growth::Handles => _ = call!(instance, call_get_budget, &ids.of(0))?,
            Growth::Holds => {
                let (id, request_id) = self.next_request(256);
                self.instance.hold(&id, &request_id, 1)?;
                self.threads += usize::from(id == ids.of(self.threads));
                self.holds.push((id, request_id));
            }
            Growth::Marks => {
                let (id, request_id) = self.next_request(64);
                self.instance.hold(&id, &request_id, 1)?;
                self.threads += usize::from(id == ids.of(self.threads));
                call!(&mut self.instance, call_settle_lost, &id, &request_id, 1, 1).expect("it is held");
            }
            // As many as a thread can have, its own and those of a child that comes and goes.
            Growth::Moved => {
                let (parent, request_id) = self.next_request(2 * 256);
                if parent == id {
                    self.open(self.threads, self.line.checked_sub(3))?;
                    self.threads += 1;
                }
                let child = id.replacen('0', "x", 1);
                let held = if self.grown.is_multiple_of(2) {
                    self.instance.hold(&parent, &request_id, 1)?;
                    parent
                } else {
                    self.open_as(&child, Some(self.threads - 1))?;
                    let held = self.instance.hold(&child, &request_id, 1);
                    call!(&mut self.instance, call_cleanup_thread, &child);
                    held?;
                    child
                };
                self.holds.push((held, request_id));
            }
            Growth::Requests => {
                let (id, request_id) = self.next_request(64);
                self.instance.settle(&id, &request_id, 1, true)?;
                self.threads += usize::from(id == ids.of(self.threads));
            }
            Growth::Batches => {
                let entries: Vec<_> = (0..16).map(|n| ids.entry(self.threads + n, 1)).collect();
                call!(&mut self.instance, call_consume_batch, &entries)?;
                self.threads += entries.len();
            }
            Growth::Children => {
                self.open(self.threads, (self.line > 1).then(|| self.line - 2))?;
                self.threads += 1;
            }
            Growth::Limits => {
                call!(instance, call_set_limit, &id, 1_000_000)?;
                self.threads += 1;
            }
            Growth::Restored => {
                call!(instance, call_restore, &[largest_state(&id)])?;
                self.threads += 1;
            }
        }
        Ok(())
    }

    /// A request, of a new thread for every so many.
    fn next_request(&self, of_a_thread: usize) -> (String, String) {
        let new = self.grown.is_multiple_of(of_a_thread);
        let id = self.ids.of(self.threads - usize::from(!new));
        (id, format!("{:0256}", self.grown % of_a_thread))
    }

    /// Every new thread is refused, again and again. A handle, a hold, a request id or a limit of an old one
    /// may have room.
    fn refuses_to_grow(&mut self) {
        let (old, new) = (self.ids.of(0), self.ids.of(self.threads));
        let parent = Some(self.ids.of(self.line - 1)).filter(|_| self.line < LINE);
        let options = ThreadOptions { max_tokens: None, parent };
        let instance = &mut self.instance;
        let refused = Some(RegistryError::OutOfMemory);
        for _ in 0..3 {
            assert_eq!(call!(instance, call_check_budget, &new, 1).err(), refused);
            assert_eq!(call!(instance, call_consume, &new, 1, 1).err(), refused);
            match call!(instance, call_get_budget, &old) {
                Ok(handle) => instance.drop(handle),
                Err(error) => assert_eq!(Some(error), refused),
            }
            let held = instance.hold(&old, "new", 1);
            assert_eq!(call!(instance, call_release, &old, "new"), held.is_ok());
            assert!(held.is_ok() || held.err() == refused);
            assert_eq!(instance.hold(&new, "new", 1).err(), refused);
            let settled = instance.settle(&old, "remembered", 1, true);
            assert!(settled.is_ok() || settled.err() == refused);
            assert_eq!(instance.settle(&new, "new", 1, true).err(), refused);
            let limited = call!(instance, call_set_limit, &old, 1_000_000);
            assert!(limited.is_ok() || limited.err() == refused);
            assert_eq!(call!(instance, call_set_limit, &new, 1).err(), refused);
            assert_eq!(call!(instance, call_open_thread, &new, &options).err(), refused);
            assert_eq!(call!(instance, call_restore, &[state(&new)]).err(), refused);
            let entries = [UsageEntry { thread_id: new.clone(), prompt_tokens: 1, completion_tokens: 1 }];
            assert_eq!(call!(instance, call_consume_batch, &entries).err(), refused);
            assert!(!call!(instance, call_has_budget, &new));
        }
    }

    /// All that a full registry must still do, with the largest arguments and the largest answers.
    fn goes_on(&mut self) {
        self.takes_large_arguments();
        self.ends_holds();
        for n in (0..self.threads).rev() {
            let (id, all) = (self.ids.of(n), n >= self.line);
            // Every threshold at once, with the id in each, of every ancestor too.
            let crossed = self.instance.consume(&id, 2_000_000).expect("the thread exists");
            assert!(!all || crossed.len() >= 99, "{} crossed", crossed.len());
            let refusal = call!(&mut self.instance, call_check_budget, &id, 1);
            assert!(matches!(refusal, Err(RegistryError::Exhausted(_))));
            if n.is_multiple_of(2) {
                assert!(call!(&mut self.instance, call_pending_warnings, &id).len() >= 99);
            }
        }
        let listed = self.instance.number_of_threads();
        assert!(listed == self.threads || listed == 0, "{listed} of {} are listed", self.threads);
        assert_eq!(self.instance.states(u32::MAX).len(), self.threads);
        self.takes_large_arguments();
        for n in 0..self.threads.min(100) {
            let id = self.ids.of(n);
            call!(&mut self.instance, call_reset_thread, &id);
            call!(&mut self.instance, call_held_tokens, &id);
        }
        self.takes_large_arguments();
    }

    /// The end of a hold takes no memory, and changing one takes none. Some go on, moved by what follows.
    fn ends_holds(&mut self) {
        let holds = std::mem::take(&mut self.holds);
        for (n, (id, request_id)) in holds.iter().enumerate() {
            match n % 5 {
                0 => _ = self.instance.settle(id, request_id, 1, false).expect("it is held"),
                1 => {
                    let lost = call!(&mut self.instance, call_settle_lost, id, request_id, 1, 1);
                    assert!(!lost.expect("it is held").repeated);
                }
                2 => assert!(call!(&mut self.instance, call_release, id, request_id)),
                3 => _ = self.instance.hold(id, request_id, 0).expect("less always fits"),
                _ => {}
            }
        }
    }

    /// The largest batch and the largest page that a host may hand over: done or refused, no trap.
    fn takes_large_arguments(&mut self) {
        let entries = (ARGUMENT_BYTES / self.ids.bytes).min(4_096);
        for first in [0, self.threads] {
            let batch: Vec<_> = (0..entries).map(|n| self.ids.entry(first + n % self.threads, 1)).collect();
            let result = call!(&mut self.instance, call_consume_batch, &batch);
            assert!(matches!(result, Ok(_) | Err(RegistryError::OutOfMemory)));
            if first > 0 && result.is_ok() {
                for entry in batch {
                    call!(&mut self.instance, call_cleanup_thread, &entry.thread_id);
                }
            }
        }
        let mut page: Vec<ThreadState> = Vec::new();
        while page.iter().map(bytes_of).sum::<usize>() < ARGUMENT_BYTES - 20 * KIB {
            let id = self.ids.of(self.threads + page.len());
            page.push(if page.len().is_multiple_of(2) { largest_state(&id) } else { state(&id) });
        }
        let restored = call!(&mut self.instance, call_restore, &page);
        assert!(matches!(restored, Ok(()) | Err(RegistryError::OutOfMemory)), "{restored:?}");
        for state in page {
            let existed = call!(&mut self.instance, call_cleanup_thread, &state.thread_id).is_some();
            assert_eq!(existed, restored.is_ok(), "all of a page or nothing");
        }
    }
}

/// With something of all that a state can have.
fn largest_state(thread_id: &str) -> ThreadState {
    ThreadState {
        request_count: 64,
        request_ids: (0..64).map(|n| format!("{n:0256}")).collect(),
        holds: (64..72).map(|n| hold_state(None, &format!("{n:0256}"))).collect(),
        lost: (72..80).map(|n| lost_state(None, &format!("{n:0256}"))).collect(),
        ..state(thread_id)
    }
}

/// As the host library counts what a state takes as an argument.
fn bytes_of(state: &ThreadState) -> usize {
    let holds = state.holds.iter().map(|hold| &hold.request_id);
    let ids = holds.chain(state.lost.iter().map(|lost| &lost.request_id)).chain(&state.request_ids);
    160 + state.thread_id.len() + ids.map(|id| id.len() + 64).sum::<usize>()
}

fn fill_and_go_on(max_memory_bytes: usize, line: usize) {
    for id_bytes in [8, 40, 1_024] {
        for growth in GROWTHS {
            eprintln!("{growth:?} to {max_memory_bytes} bytes, ids of {id_bytes}, a line of {line}");
            let mut full = Full::new(max_memory_bytes, id_bytes, line, growth);
            assert!(full.grown > 15, "{} fit", full.grown);
            full.refuses_to_grow();
            full.goes_on();
        }
    }
}

/// Different caps and lengths hit the end at different places.
#[test]
fn memory_cap_reached_while_growing() {
    for max_memory_bytes in [1_536 * KIB, (1_536 + 64) * KIB, 4_096 * KIB] {
        fill_and_go_on(max_memory_bytes, 1);
    }
}

#[test]
fn memory_cap_reached_with_a_deep_tree() {
    fill_and_go_on(2_560 * KIB, 2);
    for max_memory_bytes in [9_984 * KIB, (9_984 + 64) * KIB] {
        fill_and_go_on(max_memory_bytes, LINE);
    }
}

#[test]
fn what_is_cleaned_up_makes_room() {
    for id_bytes in [8, 40, 1_024] {
        let mut full = Full::new(1_536 * KIB, id_bytes, 1, Growth::Threads);
        for n in 0..full.threads {
            let id = full.ids.of(n);
            assert!(call!(&mut full.instance, call_cleanup_thread, &id).is_some());
        }
        // A few less than before may fit, since what is free is in other pieces now.
        for n in 0..full.threads * 95 / 100 {
            let id = full.ids.of(n);
            assert!(full.instance.consume(&id, 1).is_ok(), "thread {n} of {} fits again", full.threads);
        }
    }
}

/// Whichever threads go: those that come fit where others were, mostly, as the allocator's classes of
/// sizes have it. Holds go on all the while.
#[test]
fn a_full_registry_lives_on_by_cleaning_up() {
    for id_bytes in [8, 40, 1_024] {
        let mut full = Full::new(4_096 * KIB, id_bytes, 1, Growth::Threads);
        let (first, busy) = (full.threads, full.ids.of(full.threads - 1));
        let mut cleaned_up = 0;
        while full.threads < first + 1_000 {
            let goes_on = full.instance.hold(&busy, "request", 1).is_ok();
            assert_eq!(call!(&mut full.instance, call_release, &busy, "request"), goes_on);
            if !goes_on || full.grow_once().is_err() {
                let oldest = full.ids.of(cleaned_up);
                assert!(call!(&mut full.instance, call_cleanup_thread, &oldest).is_some());
                cleaned_up += 1;
            }
        }
        assert!(cleaned_up < 2_000, "{cleaned_up} threads of {id_bytes} bytes went for 1,000 that came");
    }
}

/// Handles that are dropped give their memory back.
#[test]
fn handles_do_not_leak() {
    let mut instance = Instance::new(1 << 20);
    for n in 0..200_000u32 {
        let id = if n.is_multiple_of(2) { "same" } else { &n.to_string() };
        let handle = call!(&mut instance, call_get_budget, id).expect("there is room");
        call!(&mut instance, call_reset_thread, id);
        instance.drop(handle);
    }
}

/// Holds and marks give theirs back when they end, wherever they have moved.
#[test]
fn holds_do_not_leak() {
    let mut instance = Instance::new(2 << 20);
    call!(&mut instance, call_configure, u64::MAX);
    let options = ThreadOptions { max_tokens: None, parent: Some("parent".into()) };
    for n in 0..100_000u32 {
        instance.consume("parent", 1).expect("there is room");
        let handle = call!(&mut instance, call_open_thread, "child", &options).expect("there is room");
        let request_id = n.to_string();
        instance.hold("child", &request_id, 1).expect("there is room");
        match n % 4 {
            0 => call!(&mut instance, call_reset_thread, "child"),
            1 => _ = call!(&mut instance, call_cleanup_thread, "child"),
            2 => _ = call!(&mut instance, call_cleanup_thread, "parent"),
            _ => {}
        }
        match n % 5 {
            0 => _ = call!(&mut instance, call_release, "child", &request_id),
            1 => _ = call!(&mut instance, call_settle_lost, "child", &request_id, 1, 1),
            // Not where the hold has ended: that would make a thread.
            _ => _ = instance.settle("child", &request_id, 1, n % 5 == 2 && n % 4 != 2),
        }
        instance.drop(handle);
        assert_eq!(call!(&mut instance, call_held_tokens, "parent"), 0);
    }
}

/// What is held deep in a tree is settled when the memory is full, there and wherever it moves.
#[test]
fn holds_are_settled_without_memory() {
    let mut full = Full::new(12 << 20, 1_024, LINE, Growth::Threads);
    full.line = 0;
    let last = full.ids.of(LINE - 1);
    let requests = ["settled", "lost", "moved", "moved and lost"];
    for request_id in requests {
        let freed = full.ids.of(full.threads - 1);
        assert!(call!(&mut full.instance, call_cleanup_thread, &freed).is_some());
        full.threads -= 1;
        full.instance.hold(&last, request_id, 1).expect("there is room");
    }
    full.grow();
    let crossed = full.instance.settle(&last, "settled", 1_000_000, false).expect("it is held").crossed;
    assert_eq!(crossed.len(), LINE * 100);
    call!(&mut full.instance, call_settle_lost, &last, "lost", 1, 1).expect("it is held");
    for n in (1..LINE).rev() {
        call!(&mut full.instance, call_cleanup_thread, &full.ids.of(n)).expect("it exists");
    }
    let moved = full.instance.settle(&last, "moved", 5, true).expect("it is held");
    assert_eq!(moved.usage.request_count, 3);
    call!(&mut full.instance, call_settle_lost, &last, "moved and lost", 1, 1).expect("it is held");
    assert!(!call!(&mut full.instance, call_has_budget, &last));
}

/// A batch whose report is about as large as what is free is done or refused.
#[test]
fn reports_of_batches_that_hardly_fit() {
    for (threads, id_bytes, percents) in [(4_096, 4, 10), (128, 1_024, 100), (2_000, 30, 30)] {
        let ids = Ids { bytes: id_bytes };
        let thresholds: Vec<_> =
            (1..=percents).map(|percent| Threshold { percent, severity: Severity::Warning }).collect();
        let (mut refused, mut done) = (0, 0);
        for max_memory_bytes in (1_024 * KIB..).step_by(64 * KIB) {
            let mut instance = Instance::new(max_memory_bytes);
            call!(&mut instance, call_set_thresholds, &thresholds).expect("valid thresholds");
            let idle: Vec<_> = (0..threads).map(|n| ids.entry(n, 0)).collect();
            if !idle.chunks(64).all(|part| call!(&mut instance, call_consume_batch, part).is_ok()) {
                continue;
            }
            let busy: Vec<_> = (0..threads).map(|n| ids.entry(n, 100_000)).collect();
            match call!(&mut instance, call_consume_batch, &busy) {
                Ok(crossed) => {
                    assert_eq!(crossed.len(), threads * percents as usize);
                    done += 1;
                }
                Err(error) => {
                    assert_eq!(error, RegistryError::OutOfMemory);
                    refused += 1;
                }
            }
            if done == 10 {
                break;
            }
        }
        eprintln!("{threads} ids of {id_bytes} bytes: {refused} refused");
        assert!(refused > 0, "{threads} ids of {id_bytes} bytes never were too many");
    }
}

/// Where there is no memory for a fresh budget, an opened thread starts over in the old one.
#[test]
fn reset_without_memory() {
    let mut instance = Instance::new(2_560 * KIB);
    let opened = ThreadOptions { max_tokens: Some(100), parent: Some("parent".into()) };
    instance.consume("parent", 0).expect("there is room");
    let handle = call!(&mut instance, call_open_thread, "child", &opened).expect("there is room");
    instance.hold("child", "held", 5).expect("there is room");
    instance.settle("child", "request", 90, true).expect("there is room");
    let mut threads = 0;
    while instance.consume(&threads.to_string(), 1).is_ok() {
        threads += 1;
    }
    // What new threads leave to spare is for handles.
    let mut handles = Vec::new();
    while let Ok(handle) = call!(&mut instance, call_get_budget, "child") {
        handles.push(handle);
    }

    call!(&mut instance, call_reset_thread, "child");
    let registry = instance.exports.thread_budget_registry_registry();
    let budget = registry.thread_budget();
    assert!(!budget.call_is_detached(&mut instance.store, handle).expect("no trap"));
    assert_eq!(budget.call_usage(&mut instance.store, handle).expect("no trap").total_tokens, 0);
    assert!(budget.call_triggered_thresholds(&mut instance.store, handle).expect("no trap").is_empty());
    assert!(call!(&mut instance, call_pending_warnings, "child").is_empty());
    assert_eq!(call!(&mut instance, call_get_usage, "parent").map(|usage| usage.total_tokens), Some(90));
    assert_eq!(call!(&mut instance, call_held_tokens, "child"), 0, "the hold has moved");
    assert_eq!(call!(&mut instance, call_held_tokens, "parent"), 5);
    instance.settle("child", "held", 4, false).expect("it is held");
    handles.into_iter().for_each(|handle| instance.drop(handle));

    for n in 0..threads {
        call!(&mut instance, call_cleanup_thread, &n.to_string());
    }
    let again = instance.settle("child", "request", 90, true).expect("there is room");
    assert!(!again.repeated, "a reset forgets requests");
    assert_eq!(again.crossed.len(), 2);
    assert_eq!(call!(&mut instance, call_get_usage, "parent").map(|usage| usage.total_tokens), Some(184));
}
