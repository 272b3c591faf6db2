//! Rows, and how they are measured: one sample of each in every round, so that whatever else the
//! machine does meets all of them. A ratio is taken within a round.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Takes one sample of a row.
pub(crate) type Sampler = Box<dyn FnMut() -> f64>;

/// What a number counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    /// Nanoseconds a call, or an entry of a batch.
    Nanoseconds,
    Microseconds,
    Milliseconds,
    /// Calls a second, of all callers.
    PerSecond,
    Bytes,
    /// As many times as something else.
    Times,
}

/// A value or a ratio to be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

/// Something to measure.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    /// The row that this one is divided by.
    pub(crate) against: Option<String>,
    /// Of the ratio when there is one, else of the value.
    pub(crate) target: Option<Target>,
    setup: Box<dyn FnOnce() -> Result<Sampler, String>>,
}

impl Row {
    /// A row whose sampler is made, once, by `setup`; or cannot be made, for a reason.
    pub(crate) fn optional(
        name: impl Into<String>,
        unit: Unit,
        setup: impl FnOnce() -> Result<Sampler, String> + 'static,
    ) -> Self {
        Self { name: name.into(), unit, against: None, target: None, setup: Box::new(setup) }
    }

    /// A row whose sampler can always be made.
    pub(crate) fn new<S: FnMut() -> f64 + 'static>(
        name: impl Into<String>,
        unit: Unit,
        setup: impl FnOnce() -> S + 'static,
    ) -> Self {
        Self::optional(name, unit, || Ok(Box::new(setup())))
    }

    /// Nanoseconds of a call.
    pub(crate) fn call<C: FnMut() + 'static>(
        name: impl Into<String>,
        setup: impl FnOnce() -> C + 'static,
    ) -> Self {
        Self::new(name, Unit::Nanoseconds, || {
            let mut call = setup();
            move || nanoseconds_per_call(&mut call)
        })
    }

    /// Of a call that has that many entries, the time of one.
    pub(crate) fn per_entry(self, entries: usize) -> Self {
        let Self { name, unit, against, target, setup } = self;
        let setup = move || {
            let mut sample = setup()?;
            Ok::<Sampler, String>(Box::new(move || sample() / entries as f64))
        };
        Self { name, unit, against, target, setup: Box::new(setup) }
    }

    pub(crate) fn against(self, row: &str) -> Self {
        Self { against: Some(row.into()), ..self }
    }

    pub(crate) fn at_most(self, most: f64) -> Self {
        Self { target: Some(Target::AtMost(most)), ..self }
    }

    pub(crate) fn at_least(self, least: f64) -> Self {
        Self { target: Some(Target::AtLeast(least)), ..self }
    }
}

/// Rows that belong together.
pub(crate) struct Group {
    pub(crate) title: &'static str,
    pub(crate) rows: Vec<Row>,
}

/// A row with one sample a round, or why there are none.
pub(crate) struct Measured {
    pub(crate) group: &'static str,
    pub(crate) name: String,
    pub(crate) unit: Unit,
    pub(crate) against: Option<String>,
    pub(crate) target: Option<Target>,
    pub(crate) samples: Result<Vec<f64>, String>,
}

/// Measure all rows; `progress` hears of every step, `steps` of them.
pub(crate) fn measure(groups: Vec<Group>, rounds: usize, progress: impl Fn(&str)) -> Vec<Measured> {
    let mut rows: Vec<(Measured, Option<Sampler>)> = Vec::new();
    for Group { title, rows: of_group } in groups {
        for Row { name, unit, against, target, setup } in of_group {
            progress(&format!("set up: {name}"));
            let (sampler, samples) = match setup() {
                Ok(sampler) => (Some(sampler), Ok(Vec::new())),
                Err(reason) => (None, Err(reason)),
            };
            rows.push((Measured { group: title, name, unit, against, target, samples }, sampler));
        }
    }
    for round in 1..=rounds {
        for (row, sampler) in &mut rows {
            progress(&format!("round {round} of {rounds}: {}", row.name));
            if let (Some(sampler), Ok(samples)) = (sampler, &mut row.samples) {
                samples.push(sampler());
            }
        }
    }
    rows.into_iter().map(|(row, _)| row).collect()
}

/// How many times `measure` reports progress.
pub(crate) fn steps(groups: &[Group], rounds: usize) -> usize {
    groups.iter().map(|group| group.rows.len()).sum::<usize>() * (1 + rounds)
}

/// How long a sample takes, after a warm-up of a quarter of that.
const SAMPLE: Duration = Duration::from_millis(20);

/// The same where callers wait for each other, or for a disk.
const LONG_SAMPLE: Duration = Duration::from_millis(150);

/// The time of one call, called over and over.
pub(crate) fn nanoseconds_per_call(mut call: impl FnMut()) -> f64 {
    repeat(SAMPLE / 4, &mut call);
    repeat(SAMPLE, &mut call)
}

fn repeat(duration: Duration, call: &mut impl FnMut()) -> f64 {
    let started = Instant::now();
    let (mut calls, mut until_next_look) = (0u32, 1);
    loop {
        (0..until_next_look).for_each(|_| call());
        calls += until_next_look;
        let elapsed = started.elapsed();
        if elapsed >= duration {
            return elapsed.as_nanos() as f64 / f64::from(calls);
        }
        until_next_look = (until_next_look * 2).min(64);
    }
}

/// How long something takes that is done once.
pub(crate) fn duration_of<R>(once: impl FnOnce() -> R) -> Duration {
    let started = Instant::now();
    let result = once();
    let elapsed = started.elapsed();
    drop(result);
    elapsed
}

/// Calls a second of that many OS threads together, each with a call of its own, made from its number.
pub(crate) fn calls_per_second<C: FnMut()>(callers: usize, call_of: impl Fn(usize) -> C + Sync) -> f64 {
    let (stop, calls, start) = (AtomicBool::new(false), AtomicU64::new(0), Barrier::new(callers + 1));
    let run = |caller| {
        let mut call = call_of(caller);
        start.wait();
        let mut made = 0;
        while !stop.load(Ordering::Relaxed) {
            call();
            made += 1;
        }
        calls.fetch_add(made, Ordering::Relaxed);
    };
    let elapsed = thread::scope(|scope| {
        let threads: Vec<_> = (0..callers).map(|caller| scope.spawn(move || run(caller))).collect();
        start.wait();
        let started = Instant::now();
        thread::sleep(LONG_SAMPLE);
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().expect("a caller does not panic");
        }
        started.elapsed()
    });
    calls.into_inner() as f64 / elapsed.as_secs_f64()
}
