//! Several instances behind one registry, called by several OS threads.

use crate::component::{builder, consume};
use crate::ids::{InTurn, ordinary, scattered};
use crate::measure::{Group, Row, Unit, calls_per_second};

/// Which ids an OS thread calls for.
#[derive(Clone, Copy, PartialEq)]
enum Ids {
    All,
    /// Those of the instance of its own number.
    OfOneInstance,
}

pub(crate) fn rows() -> Group {
    const ONE: &str = "1 instance, 1 OS thread";
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
    ];
    Group { title: "consume, several instances in one registry, 1 thousand threads", rows }
}

/// Registries of that many instances each, and callers who share them.
fn pool(name: &str, registries: usize, instances: usize, callers: usize, whose: Ids) -> Row {
    Row::new(name, Unit::PerSecond, move || {
        let ids = ordinary(1_000);
        let start = || {
            let registry = builder().instances(instances).build().expect("it starts");
            ids.iter().for_each(|id| consume(&registry, id));
            registry
        };
        let registries: Vec<_> = (0..registries).map(|_| start()).collect();
        let ids = scattered(&ids);
        move || {
            calls_per_second(callers, |caller| {
                let registry = registries[caller % registries.len()].clone();
                // Each starts elsewhere among them.
                let (before, after) = ids.split_at(caller * ids.len() / callers);
                let mut ids = [after, before].concat();
                ids.retain(|id| whose == Ids::All || registry.instance_of(id) == caller);
                let mut ids = InTurn::new(ids);
                move || consume(&registry, ids.next())
            })
        }
    })
}
