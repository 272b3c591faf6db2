//! From nothing to a registry that answers.

use crate::folder;
use crate::measure::{Group, Row, Unit, duration_of};
use crate::raw;
use thread_budget_host::{Cache, Registry};

pub(crate) fn rows() -> Group {
    let start = |name: &str, cache: fn() -> Cache| {
        Row::new(name, Unit::Milliseconds, move || {
            let start = move || Registry::builder().cache(cache()).build().expect("it starts");
            // So that what is to be cached is.
            drop(start());
            move || duration_of(start).as_secs_f64() * 1e3
        })
    };
    let rows = vec![
        start("cold start, compiling", || Cache::Off),
        start("cold start, compiled code in the cache", || Cache::Folder(folder("cache"))),
        raw::instantiate(),
    ];
    Group { title: "start", rows }
}
