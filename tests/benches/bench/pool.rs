//! Several instances behind one registry, called by several OS threads.

use crate::component::{builder, consume};
use crate::ids::{InTurn, ordinary, scattered};
use crate::measure::{Group, Row, Unit, calls_per_second};

pub(crate) fn rows() -> Group {
    const ONE: &str = "1 instance, 1 OS thread";
    let rows = vec![
        pool(ONE, 1, 1),
        pool("1 instance, 2 OS threads", 1, 2).against(ONE),
        pool("2 instances, 2 OS threads", 2, 2).against(ONE).at_least(1.8),
        pool("16 instances, 2 OS threads", 16, 2).against(ONE).at_least(1.8),
    ];
    Group { title: "consume, several instances in one registry, 1 thousand threads", rows }
}

fn pool(name: &str, instances: usize, callers: usize) -> Row {
    Row::new(name, Unit::PerSecond, move || {
        let registry = builder().instances(instances).build().expect("it starts");
        let ids = ordinary(1_000);
        ids.iter().for_each(|id| consume(&registry, id));
        let ids = scattered(&ids);
        move || {
            calls_per_second(callers, |caller| {
                // Each starts elsewhere among them.
                let (before, after) = ids.split_at(caller * ids.len() / callers);
                let (mut ids, registry) = (InTurn::new([after, before].concat()), registry.clone());
                move || consume(&registry, ids.next())
            })
        }
    })
}
