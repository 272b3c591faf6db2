//! What the hot calls allocate: nothing.

use allocation_counter::measure;
use thread_budget_core::Registry;

#[test]
fn calls_on_an_existing_thread_allocate_nothing() {
    let mut registry = Registry::new();
    registry.configure(1_000_000);
    for n in 0..1_000 {
        registry.consume(&format!("thread-{n}"), 1, 1).expect("room for it");
    }
    let handle = registry.get_budget("thread-500").expect("room for it");

    let info = measure(|| {
        for _ in 0..100 {
            registry.consume("thread-500", 100, 10).expect("it exists");
            registry.check_budget("thread-500", 1_000).expect("it fits");
            registry.consume_of(&handle, 1, 1);
            assert!(registry.has_budget("thread-500"));
            assert!(registry.get_usage("thread-500").is_some());
        }
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn a_crossing_allocates_its_report_only() {
    let mut registry = Registry::new();
    registry.consume("thread", 74_000, 0).expect("room for it");
    let info = measure(|| {
        let consumed = registry.consume("thread", 1_000, 0).expect("it exists");
        assert_eq!(consumed.crossed.len(), 1);
    });
    assert_eq!(info.count_total, 2, "the list and the thread id in it");
}
