//! Several instances behind one registry, called by several OS threads.

use crate::component::{builder, consume};
use crate::ids::{InTurn, ordinary, scattered};
use crate::measure::{Group, Row, Unit, calls_per_second};

pub(crate) fn rows() -> Group {
    const ONE: &str = "1 instance, 1 OS thread";
    let rows = vec![
        pool(ONE, 1, 1, 1),
        // Nothing is shared: what this machine has to give, and no pool can do better.
        pool("the machine: 2 registries, an OS thread each", 2, 1, 2).against(ONE),
        pool("1 instance, 2 OS threads", 1, 1, 2).against(ONE),
        pool("2 instances, 2 OS threads", 1, 2, 2).against(ONE).at_least(1.8),
        pool("16 instances, 2 OS threads", 1, 16, 2).against(ONE).at_least(1.8),
    ];
    Group { title: "consume, several instances in one registry, 1 thousand threads", rows }
}

/// Registries of that many instances each, and callers who share them.
fn pool(name: &str, registries: usize, instances: usize, callers: usize) -> Row {
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
                // Each starts elsewhere among them.
                let (before, after) = ids.split_at(caller * ids.len() / callers);
                let (mut ids, registry) =
                    (InTurn::new([after, before].concat()), registries[caller % registries.len()].clone());
                move || consume(&registry, ids.next())
            })
        }
    })
}
