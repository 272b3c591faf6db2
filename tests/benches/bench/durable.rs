//! Registries with a database: a consume counts when it is acknowledged, so when it is on disk.

use crate::component::{builder, consume};
use crate::folder;
use crate::measure::{Group, Row, Unit, calls_per_second, nanoseconds_per_call};
use std::fs::File;
use std::io::{Seek, Write};
use thread_budget_host::Durability;

pub(crate) fn rows() -> Group {
    const SYNC: &str = "the disk: write 4 KiB and sync";
    let rows = vec![
        Row::new(SYNC, Unit::PerSecond, || {
            let mut file = tempfile::tempfile_in(folder("durable")).expect("a folder to write to");
            move || 1e9 / nanoseconds_per_call(|| write_and_sync(&mut file))
        }),
        durable("batched, 1 caller", Durability::Batched, 1).against(SYNC),
        durable("batched, 64 callers", Durability::Batched, 64).at_least(100_000.0),
        durable("immediate, 1 caller", Durability::Immediate, 1).against(SYNC),
        durable("immediate, 64 callers", Durability::Immediate, 64).against(SYNC),
    ];
    Group { title: "acknowledged consumes with a database", rows }
}

fn write_and_sync(file: &mut File) {
    file.rewind()
        .and_then(|()| file.write_all(&[1; 4_096]))
        .and_then(|()| file.sync_data())
        .expect("it writes");
}

fn durable(name: &str, durability: Durability, callers: usize) -> Row {
    Row::new(name, Unit::PerSecond, move || {
        let folder = tempfile::tempdir_in(folder("durable")).expect("a folder to write to");
        let registry = builder().database(folder.path().join("registry")).durability(durability);
        let registry = registry.build().expect("it starts").blocking();
        move || {
            // Is there as long as the registry.
            let _folder = &folder;
            calls_per_second(callers, |caller| {
                let (registry, id) = (registry.clone(), format!("conversation-{caller:07}"));
                move || consume(&registry, &id)
            })
        }
    })
}
