//! Several instances behind one registry, called by several OS threads.

use crate::baselines::{Counters, count};
use crate::component::{builder, consume};
use crate::ids::{InTurn, ordinary, scattered};
use crate::measure::{Group, Row, Unit, calls_per_second};
use dashmap::DashMap;
use std::sync::Arc;
use thread_budget_host::blocking::Registry;

/// Which ids an OS thread calls for.
#[derive(Clone, Copy, PartialEq)]
enum Ids {
    All,
    /// Those of the instance of its own number.
    OfOneInstance,
}

pub(crate) fn rows() -> Group {
    const ONE: &str = "1 instance, 1 OS thread";
    const MAP: &str = "DashMap of atomics, what a second OS thread for all ids gains";
    let rows = vec![
        pool(ONE, 1, 1, 1, Ids::All),
        // Nothing is shared: what this machine has to give, and no pool can do better.
        pool("the machine: 2 registries, an OS thread each", 2, 1, 2, Ids::All).against(ONE),
        pool("1 instance, 2 OS threads", 1, 1, 2, Ids::All).against(ONE),
        pool("2 instances, 2 OS threads, each for all ids", 1, 2, 2, Ids::All).against(ONE),
        pool("16 instances, 2 OS threads, each for all ids", 1, 16, 2, Ids::All).against(ONE),
        pool("2 instances, 2 OS threads, each for those of one", 1, 2, 2, Ids::OfOneInstance)
            .against(ONE)
            .at_least(1.8),
        gain(MAP, map),
        gain("16 instances, what a second OS thread for all ids gains", registry_of_16)
            .against(MAP)
            .at_least(0.8),
    ];
    Group { title: "consume, several instances in one registry, 1 thousand threads", rows }
}

/// Makes, of ids, a call that is for each of them in turn.
type CallOf = Box<dyn Fn(Vec<String>) -> Box<dyn FnMut()> + Sync>;

/// How many times as many calls two OS threads make as one, each for all ids.
fn gain(name: &str, call_of: fn(&[String]) -> CallOf) -> Row {
    Row::new(name, Unit::Times, move || {
        let ids = scattered(&ordinary(1_000));
        let call_of = call_of(&ids);
        let rate = move |callers| calls_per_second(callers, |caller| call_of(from(&ids, caller, callers)));
        move || rate(2) / rate(1)
    })
}

fn registry_of_16(ids: &[String]) -> CallOf {
    let registry = start(16, ids);
    Box::new(move |ids| {
        let (registry, mut ids) = (registry.clone(), InTurn::new(ids));
        Box::new(move || consume(&registry, ids.next()))
    })
}

fn map(ids: &[String]) -> CallOf {
    let threads: DashMap<_, _> = ids.iter().map(|id| (id.clone(), Counters::default())).collect();
    let threads = Arc::new(threads);
    Box::new(move |ids| {
        let (threads, mut ids) = (threads.clone(), InTurn::new(ids));
        Box::new(move || count(&threads, ids.next()))
    })
}

/// The ids, each caller's beginning elsewhere among them.
fn from(ids: &[String], caller: usize, callers: usize) -> Vec<String> {
    let (before, after) = ids.split_at(caller * ids.len() / callers);
    [after, before].concat()
}

fn start(instances: usize, ids: &[String]) -> Registry {
    let registry = builder().instances(instances).build().expect("it starts").blocking();
    ids.iter().for_each(|id| consume(&registry, id));
    registry
}

/// Registries of that many instances each, and callers who share them.
fn pool(name: &str, registries: usize, instances: usize, callers: usize, whose: Ids) -> Row {
    Row::new(name, Unit::PerSecond, move || {
        let ids = ordinary(1_000);
        let registries: Vec<_> = (0..registries).map(|_| start(instances, &ids)).collect();
        let ids = scattered(&ids);
        move || {
            calls_per_second(callers, |caller| {
                let registry = registries[caller % registries.len()].clone();
                let mut ids = from(&ids, caller, callers);
                ids.retain(|id| whose == Ids::All || registry.instance_of(id) == caller);
                let mut ids = InTurn::new(ids);
                move || consume(&registry, ids.next())
            })
        }
    })
}
