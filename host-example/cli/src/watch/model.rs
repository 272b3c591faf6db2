//! What is known of the router's threads, and what of it is looked at.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use thread_budget_host::{Severity, Threshold};
use thread_budget_serve::admin::{Live, Thread, Totals};

/// The most threads that are kept; of more the smallest go.
const MAX_THREADS: usize = 20_000;

/// The most messages that are kept.
const MAX_FEED: usize = 200;

pub(super) struct Model {
    pub(super) url: String,
    pub(super) has_colour: bool,
    /// Why there is no connection, if there is none.
    pub(super) status: Option<String>,
    pub(super) thresholds: Vec<Threshold>,
    pub(super) totals: Totals,
    pub(super) threads: HashMap<Arc<str>, Thread>,
    /// The latest first.
    pub(super) feed: VecDeque<Message>,
    pub(super) refused: u64,
    pub(super) order: Order,
    /// The threads as they are listed, with how many ancestors are above each.
    pub(super) lines: Vec<(Arc<str>, usize)>,
    are_lines_old: bool,
    selected: Option<Arc<str>>,
    /// The first line that is shown, and how many are.
    pub(super) first: usize,
    pub(super) shown: usize,
}

/// Something that happened.
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) thread_id: Arc<str>,
    pub(super) text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Crossed(Severity),
    Told,
    Refused,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    MostUsed,
    NearestLimit,
    Id,
}

/// By how many lines.
pub(super) enum Move {
    Up(usize),
    Down(usize),
}

impl Model {
    pub(super) fn new(url: &str, has_colour: bool) -> Self {
        Self {
            url: url.into(),
            has_colour,
            status: Some("connecting".into()),
            thresholds: Vec::new(),
            totals: Totals::default(),
            threads: HashMap::new(),
            feed: VecDeque::new(),
            refused: 0,
            order: Order::MostUsed,
            lines: Vec::new(),
            are_lines_old: false,
            selected: None,
            first: 0,
            shown: 0,
        }
    }

    pub(super) fn take(&mut self, event: Live) {
        match event {
            Live::Snapshot { thresholds, totals, threads, news, refused, .. } => {
                self.feed.clear();
                news.into_iter().for_each(|news| self.take(news.what));
                (self.thresholds, self.totals, self.refused) = (thresholds, totals, refused);
                self.threads =
                    threads.into_iter().map(|thread| (Arc::clone(&thread.thread_id), thread)).collect();
                self.are_lines_old = true;
            }
            Live::Thread(thread) => self.keep(thread),
            Live::Totals(totals) => self.totals = totals,
            Live::Removed { thread_id } => self.remove(thread_id),
            Live::Warning(warning) => {
                self.note(Kind::Crossed(warning.severity), warning.thread_id.into(), warning.message);
            }
            Live::Delivered { thread_id, warnings } => {
                for warning in warnings {
                    self.note(Kind::Told, Arc::clone(&thread_id), warning.message);
                }
            }
            Live::Refused { thread_id, message, .. } => {
                self.refused += 1;
                self.note(Kind::Refused, thread_id, message);
            }
        }
    }

    fn keep(&mut self, thread: Thread) {
        self.threads.insert(Arc::clone(&thread.thread_id), thread);
        self.are_lines_old = true;
        if self.threads.len() > MAX_THREADS {
            let smallest = self.threads.values().min_by_key(|thread| thread.total_tokens);
            if let Some(thread_id) = smallest.map(|thread| Arc::clone(&thread.thread_id)) {
                self.threads.remove(&thread_id);
            }
        }
    }

    /// Forget a thread and all below it.
    fn remove(&mut self, thread_id: Arc<str>) {
        let mut gone = HashSet::from([thread_id]);
        let mut before = 0;
        while before < gone.len() {
            before = gone.len();
            let is_below =
                |thread: &&Thread| thread.parent.as_ref().is_some_and(|parent| gone.contains(parent));
            let below: Vec<_> =
                self.threads.values().filter(is_below).map(|thread| Arc::clone(&thread.thread_id)).collect();
            gone.extend(below);
        }
        self.threads.retain(|thread_id, _| !gone.contains(thread_id));
        self.are_lines_old = true;
    }

    fn note(&mut self, kind: Kind, thread_id: Arc<str>, text: String) {
        self.feed.push_front(Message { kind, thread_id, text });
        self.feed.truncate(MAX_FEED);
    }

    pub(super) fn next_order(&mut self) {
        self.order = match self.order {
            Order::MostUsed => Order::NearestLimit,
            Order::NearestLimit => Order::Id,
            Order::Id => Order::MostUsed,
        };
        self.are_lines_old = true;
    }

    pub(super) fn page(&self) -> usize {
        self.shown.saturating_sub(1).max(1)
    }

    pub(super) fn go(&mut self, by: Move) {
        let at = self.selected_line().unwrap_or_default();
        let to = match by {
            Move::Up(lines) => at.saturating_sub(lines),
            Move::Down(lines) => at.saturating_add(lines).min(self.lines.len().saturating_sub(1)),
        };
        self.selected = self.lines.get(to).map(|(thread_id, _)| Arc::clone(thread_id));
    }

    /// Where the selected thread is; at first, or when it is gone, there is none.
    pub(super) fn selected_line(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        self.lines.iter().position(|(thread_id, _)| thread_id == selected)
    }

    /// Put all in order, when something changed, and the selected thread among the `shown` lines.
    pub(super) fn arrange(&mut self, shown: usize) {
        if self.are_lines_old {
            self.list();
            self.are_lines_old = false;
        }
        self.shown = shown;
        if let Some(at) = self.selected_line() {
            self.first = self.first.min(at).max((at + 1).saturating_sub(shown));
        }
        self.first = self.first.min(self.lines.len().saturating_sub(shown));
    }

    fn list(&mut self) {
        let mut threads: Vec<&Thread> = self.threads.values().collect();
        threads.sort_unstable_by(|a, b| {
            let by_order = match self.order {
                Order::MostUsed => b.total_tokens.cmp(&a.total_tokens),
                Order::NearestLimit => b.percent_used.total_cmp(&a.percent_used),
                Order::Id => std::cmp::Ordering::Equal,
            };
            by_order.then_with(|| a.thread_id.cmp(&b.thread_id))
        });
        let mut below: HashMap<Option<&Arc<str>>, Vec<&Arc<str>>> = HashMap::new();
        for thread in threads {
            let parent = thread.parent.as_ref().filter(|parent| self.threads.contains_key(*parent));
            below.entry(parent).or_default().push(&thread.thread_id);
        }
        let mut lines = Vec::with_capacity(self.threads.len());
        // The next to be listed is at the end.
        let mut rest: Vec<_> =
            below.remove(&None).unwrap_or_default().into_iter().rev().map(|id| (id, 0)).collect();
        while let Some((thread_id, depth)) = rest.pop() {
            lines.push((Arc::clone(thread_id), depth));
            let children = below.remove(&Some(thread_id)).unwrap_or_default();
            rest.extend(children.into_iter().rev().map(|child| (child, depth + 1)));
        }
        self.lines = lines;
    }
}
