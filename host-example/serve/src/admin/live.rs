//! What watchers are sent: the threads as they are, and then what happens to them.
//!
//! Each watcher has a task that goes on taking in events while it waits for the registry or for the
//! watcher. A thread that changes often is looked at and sent every 100 milliseconds at most. Whoever is
//! too slow for what happens misses some of it, and gets the threads as they are then.

use super::threads::{MAX_LARGEST, Thread, Threads, Totals};
use crate::events::{Event, Events, Told};
use crate::{UnidentifiedClient, UnidentifiedClients};
use axum::body::{Body, Bytes};
use http_body::Frame;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use thread_budget_host::{BudgetWarning, CallError, Threshold};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, sleep_until};

/// How often a watcher is sent what has changed.
const PACE: Duration = Duration::from_millis(100);

/// How long it may be silent; a watcher that is gone is noticed then at the latest.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How many changed threads, and how many other events, may wait for one watcher.
const MAX_WAITING: usize = 4_096;

/// What `GET /events` tells, each as a server-sent event of the same name with this as its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Live {
    /// The threads as they are: at first, and again when events were missed. It replaces all before it.
    Snapshot {
        /// The thresholds in force.
        thresholds: Vec<Threshold>,
        /// All threads together.
        totals: Totals,
        /// The largest threads, up to 500 and their ancestors, the largest first.
        threads: Vec<Thread>,
        /// The latest that has happened since the router has started, up to 200, in its order.
        news: Vec<News>,
        /// Requests that were refused since then.
        refused: u64,
        /// The clients whose requests named no thread since then.
        unidentified: Vec<UnidentifiedClient>,
    },
    /// A thread changed, or one below it did: as it is now.
    Thread(Thread),
    /// All threads together, when that changed.
    Totals(Totals),
    /// A thread is gone, and all below it.
    Removed {
        /// The thread.
        thread_id: Arc<str>,
    },
    /// A threshold was crossed: what the thread's agent will read.
    Warning(BudgetWarning),
    /// Warnings went to the agent with its request.
    Delivered {
        /// The thread.
        thread_id: Arc<str>,
        /// The warnings.
        warnings: Vec<BudgetWarning>,
    },
    /// A request was refused.
    Refused {
        /// The thread.
        thread_id: Arc<str>,
        /// The thread that has no room, this one or an ancestor.
        exhausted_thread_id: String,
        /// Tokens used so far, of that one.
        used: u64,
        /// Its limit.
        max_tokens: u64,
        /// Tokens asked for.
        requested: u64,
        /// The same in English.
        message: String,
    },
}

/// Something that has happened: a warning, a delivery, a refusal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct News {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    pub what: Live,
}

impl Live {
    /// What an event tells beside that a thread has changed.
    fn of(event: Event) -> Option<Self> {
        Some(match event {
            Event::Changed { .. } => return None,
            Event::Crossed(warning) => Self::Warning(warning),
            Event::Delivered { thread_id, warnings } => Self::Delivered { thread_id, warnings },
            Event::Refused { thread_id, exhausted } => Self::Refused {
                thread_id,
                message: exhausted.to_string(),
                exhausted_thread_id: exhausted.thread_id,
                used: exhausted.used,
                max_tokens: exhausted.max_tokens,
                requested: exhausted.requested,
            },
        })
    }

    /// The event's name.
    fn name(&self) -> &'static str {
        match self {
            Self::Snapshot { .. } => "snapshot",
            Self::Thread(_) => "thread",
            Self::Totals(_) => "totals",
            Self::Removed { .. } => "removed",
            Self::Warning(_) => "warning",
            Self::Delivered { .. } => "delivered",
            Self::Refused { .. } => "refused",
        }
    }

    /// Append it as a server-sent event.
    fn write(&self, frames: &mut Vec<u8>) {
        frames.extend_from_slice(b"event: ");
        frames.extend_from_slice(self.name().as_bytes());
        frames.extend_from_slice(b"\ndata: ");
        // It fails for maps with other keys than strings only, and JSON has no line breaks of its own.
        let _ = serde_json::to_writer(&mut *frames, self);
        frames.extend_from_slice(b"\n\n");
    }
}

/// What there is to be known.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) threads: Arc<Threads>,
    pub(super) events: Events,
    pub(super) unidentified: UnidentifiedClients,
}

/// A stream for a new watcher. `place` is given back when it is gone.
pub(super) fn stream(known: Known, place: OwnedSemaphorePermit) -> Body {
    let (out, frames) = mpsc::channel(1);
    let pending = Pending { missed: Some(Instant::now()), ..Pending::default() };
    let watcher = Watcher { received: known.events.watch(), known, pending, told: None, out };
    tokio::spawn(async move {
        watcher.run().await;
        drop(place);
    });
    Body::new(Frames(frames))
}

/// What the task sends, as a response's body.
struct Frames(mpsc::Receiver<Bytes>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

struct Watcher {
    received: Receiver<Told>,
    known: Known,
    pending: Pending,
    /// The totals that were sent last.
    told: Option<Totals>,
    out: mpsc::Sender<Bytes>,
}

/// What is to be told.
#[derive(Default)]
struct Pending {
    /// The number of the latest news that a snapshot has told.
    told_until: u64,
    /// What is told as it is, with its number.
    news: Vec<(u64, Live)>,
    /// Threads to look at.
    changed: HashSet<Arc<str>>,
    /// Threads that were told of with a census from before they changed, which had by then: what they are
    /// related to may be new.
    behind: HashMap<Arc<str>, Instant>,
    /// Since when events are missing. A census from before may lack what they said.
    missed: Option<Instant>,
}

impl Pending {
    fn note(&mut self, told: Result<Told, RecvError>) {
        let Ok(Told { number, event, .. }) = told else { return self.miss() };
        if let Event::Changed { thread_id } = event {
            self.changed.insert(thread_id);
            if self.changed.len() + self.behind.len() > MAX_WAITING {
                self.miss();
            }
        } else if let Some(news) = Live::of(event)
            && number > self.told_until
            && self.news.len() < MAX_WAITING
        {
            self.news.push((number, news));
        }
    }

    fn miss(&mut self) {
        self.changed.clear();
        self.behind.clear();
        self.missed = Some(Instant::now());
    }

    fn wants_look(&self) -> bool {
        self.missed.is_some() || !self.changed.is_empty() || !self.behind.is_empty()
    }
}

/// What a look at the registry came to.
struct Looked {
    frames: Vec<u8>,
    behind: HashMap<Arc<str>, Instant>,
    /// Still missing, since no new census was due.
    missed: Option<Instant>,
    totals: Totals,
    /// The number of the latest news in the snapshot, if there is one.
    told_until: Option<u64>,
}

impl Watcher {
    /// Until the watcher is gone or the registry fails.
    async fn run(mut self) -> Option<()> {
        let mut next_look = tokio::time::Instant::now();
        loop {
            let mut frames = Vec::new();
            self.pending.news.drain(..).for_each(|(_, news)| news.write(&mut frames));
            if self.pending.wants_look() && tokio::time::Instant::now() >= next_look {
                frames.extend(self.look().await?);
                next_look = tokio::time::Instant::now() + PACE;
            }
            if frames.is_empty() {
                tokio::select! {
                    event = self.received.recv() => self.pending.note(event),
                    () = sleep_until(next_look), if self.pending.wants_look() => {}
                    () = sleep(HEARTBEAT) => frames.extend_from_slice(b":\n\n"),
                    () = self.out.closed() => return None,
                }
            }
            if !frames.is_empty() {
                let sent = self.out.send(frames.into());
                noting(&mut self.received, &mut self.pending, sent).await.ok()?;
            }
        }
    }

    /// What has changed, or everything when events are missing.
    async fn look(&mut self) -> Option<Vec<u8>> {
        let Pending { changed, behind, missed, .. } = &mut self.pending;
        let (changed, behind, missed) = (std::mem::take(changed), std::mem::take(behind), missed.take());
        let (known, told) = (self.known.clone(), self.told.take());
        let work = spawn_blocking(move || look(&known, changed, behind, missed, told));
        let Looked { frames, behind, missed, totals, told_until } =
            noting(&mut self.received, &mut self.pending, work).await.ok()?.ok()?;
        if let Some(told_until) = told_until {
            // What came meanwhile the snapshot may have, too.
            self.pending.told_until = told_until;
            self.pending.news.retain(|(number, _)| *number > told_until);
        }
        self.pending.behind.extend(behind);
        // What was missed later is missed still.
        self.pending.missed = self.pending.missed.or(missed);
        self.told = Some(totals);
        Some(frames)
    }
}

/// Take in events while something else is waited for.
async fn noting<T>(received: &mut Receiver<Told>, pending: &mut Pending, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            event = received.recv() => pending.note(event),
        }
    }
}

fn look(
    known: &Known,
    changed: HashSet<Arc<str>>,
    behind: HashMap<Arc<str>, Instant>,
    missed: Option<Instant>,
    told: Option<Totals>,
) -> Result<Looked, CallError> {
    let now = Instant::now();
    let threads = &*known.threads;
    let census = threads.census()?;
    let (caught_up, behind): (HashMap<_, _>, _) =
        behind.into_iter().partition(|(_, changed_by)| *changed_by <= census.begun);
    let mut looked =
        Looked { frames: Vec::new(), behind, missed, totals: census.totals.clone(), told_until: None };
    let is_first = told.is_none();
    let catches_up = missed.is_some_and(|missed| missed <= census.begun);
    if catches_up {
        looked.missed = None;
    }
    // Nobody waits for the first until a census is due; should it lack something another follows.
    if is_first || catches_up {
        let past = known.events.past();
        looked.told_until = Some(past.count);
        let news = past.told.into_iter();
        let snapshot = Live::Snapshot {
            thresholds: threads.registry.thresholds()?,
            totals: census.totals.clone(),
            threads: threads.largest(&census, MAX_LARGEST)?,
            news: news
                .filter_map(|Told { at_ms, event, .. }| Some(News { at_ms, what: Live::of(event)? }))
                .collect(),
            refused: past.refused,
            unidentified: known.unidentified.clients(),
        };
        snapshot.write(&mut looked.frames);
    }

    if now > census.begun {
        looked.behind.extend(changed.iter().map(|thread_id| (Arc::clone(thread_id), now)));
    }
    let mut seen = HashSet::new();
    let mut rest: Vec<Arc<str>> = changed.into_iter().chain(caught_up.into_keys()).collect();
    while let Some(thread_id) = rest.pop() {
        if !seen.insert(Arc::clone(&thread_id)) {
            continue;
        }
        if let Some(thread) = threads.find(&thread_id, &census)? {
            rest.extend(census.parent(&thread_id).cloned());
            Live::Thread(thread).write(&mut looked.frames);
        } else {
            looked.behind.remove(&thread_id);
            Live::Removed { thread_id }.write(&mut looked.frames);
        }
    }
    if told.is_some_and(|told| told != census.totals) {
        Live::Totals(census.totals.clone()).write(&mut looked.frames);
    }
    Ok(looked)
}
