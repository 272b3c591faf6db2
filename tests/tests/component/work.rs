//! Work that must not grow with what a call is not about. It is counted in instructions of the component, which
//! are the same on every machine, however busy.

use crate::instance::{Instance, PLENTY, ThreadOptions, call};

const THREADS: usize = 300_000;
const LINE: usize = 16;

/// The instructions that a call takes.
fn work(instance: &mut Instance, call: impl FnOnce(&mut Instance)) -> u64 {
    instance.store.set_fuel(u64::MAX).expect("it is counted");
    call(instance);
    u64::MAX - instance.store.get_fuel().expect("it is counted")
}

/// The average of that for some new threads, which are cleaned up again.
fn work_of_creating(instance: &mut Instance) -> u64 {
    const TIMES: u64 = 100;
    let all: u64 = (0..TIMES)
        .map(|n| {
            let id = format!("new-{n}");
            let created = work(instance, |instance| assert!(instance.consume(&id, 1).is_ok()));
            assert!(call!(instance, call_cleanup_thread, &id).is_some());
            created
        })
        .sum();
    all / TIMES
}

fn work_of_the_last_page(instance: &mut Instance, all: &[String]) -> u64 {
    let after = &all[all.len() - 100];
    work(instance, |instance| {
        assert_eq!(call!(instance, call_snapshot, Some(after.as_str()), 4_096).len(), 99);
    })
}

fn ids(instance: &mut Instance) -> Vec<String> {
    instance.states(4_096).into_iter().map(|state| state.thread_id).collect()
}

fn open_line(instance: &mut Instance) {
    for n in 0..LINE {
        let parent = n.checked_sub(1).map(|n| format!("line-{n}"));
        let options = ThreadOptions { max_tokens: None, parent };
        let handle = call!(instance, call_open_thread, &format!("line-{n}"), &options).expect("opened");
        instance.drop(handle);
    }
}

#[test]
fn a_deep_tree_costs_other_threads_nothing_even_when_it_is_gone() {
    let mut instance = Instance::counted(PLENTY);
    let instance = &mut instance;
    for n in 0..THREADS {
        assert!(instance.consume(&format!("conversation-{n:07}"), 1).is_ok());
    }
    let all = ids(instance);
    let (page, creation) = (work_of_the_last_page(instance, &all), work_of_creating(instance));

    open_line(instance);
    let all_and_line = ids(instance);
    let page_beside = work_of_the_last_page(instance, &all_and_line);
    assert!(page_beside <= 2 * page, "{page} instructions before, {page_beside} with a line of {LINE}");

    assert!(call!(instance, call_cleanup_thread, "line-0").is_some());
    let (page_after, creation_after) = (work_of_the_last_page(instance, &all), work_of_creating(instance));
    assert!(page_after <= page + page / 10, "a page: {page} instructions before, {page_after} after");
    let most = creation + creation / 10;
    assert!(creation_after <= most, "a new thread: {creation} instructions before, {creation_after} after");
}

#[test]
fn ending_what_is_not_there_looks_at_nothing_else() {
    let work_beside = |holds: usize| {
        let mut instance = Instance::counted(PLENTY);
        for n in 0..holds {
            assert!(instance.hold(&format!("conversation-{n:07}"), "request", 1).is_ok());
        }
        [
            work(&mut instance, |instance| call!(instance, call_reset_thread, "unknown")),
            work(&mut instance, |instance| {
                assert!(call!(instance, call_cleanup_thread, "unknown").is_none())
            }),
            work(&mut instance, |instance| assert!(!call!(instance, call_release, "unknown", "request"))),
            work(&mut instance, |instance| assert!(instance.settle("unknown", "request", 1, false).is_err())),
        ]
    };
    let (few, many) = (work_beside(20), work_beside(20_000));
    for (few, many) in few.into_iter().zip(many) {
        assert!(many < 2 * few, "{few} instructions beside 20 holds, {many} beside 20,000");
    }
}
