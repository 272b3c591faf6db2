//! What calls take of memory, where many threads or entries could make that much.

use allocation_counter::measure;
use thread_budget_core::{Registry, Wanted};

/// A line of 16 threads under ids of 1,000 bytes. Returns the id of the last.
fn deep(registry: &mut Registry) -> String {
    let id = |n: usize| format!("{n:01000}");
    for n in 0usize..16 {
        let parent = n.checked_sub(1).map(id);
        registry.open_thread(&id(n), None, parent.as_deref()).expect("room");
    }
    id(15)
}

/// 4,096 entries of one leaf can cross the thresholds of 16 threads, no more. Sized by entries, the report asked
/// for 225 MB.
#[test]
fn a_batch_asks_for_the_report_of_the_threads_in_it() {
    let mut registry = Registry::new();
    registry.configure(1_000_000);
    let leaf = deep(&mut registry);
    let info = measure(|| {
        let crossed = registry.consume_batch((0..4_096).map(|_| (&*leaf, 1, 1)), 88).expect("room");
        assert_eq!(crossed, []);
    });
    assert!(info.bytes_max < 200_000, "{} bytes", info.bytes_max);
    // It is still enough for everything that they can cross.
    let crossed = registry.consume_batch((0..3).map(|_| (&*leaf, 500_000, 0)), 88).expect("room");
    assert_eq!(crossed.len(), 16 * 3);
}

/// Every level of the deepest tree there is keeps half a MiB free. A tree that was deep and is gone keeps none.
#[test]
fn a_tree_that_is_gone_keeps_no_memory_free() {
    let mut registry = Registry::new();
    let looked_at = |registry: &mut Registry| {
        let id = "x".repeat(1_000);
        // More than may grow before memory is looked at again.
        let info = measure(|| {
            for _ in 0..200 {
                registry.consume(&id, 1, 1).expect("room");
                registry.cleanup_thread(&id);
            }
        });
        info.bytes_max / 1_024
    };
    let shallow = looked_at(&mut registry);
    assert!((500..1_000).contains(&shallow), "{shallow} KiB");
    deep(&mut registry);
    let with_the_tree = looked_at(&mut registry);
    assert!((8_000..9_000).contains(&with_the_tree), "{with_the_tree} KiB");
    registry.cleanup_thread(&format!("{:01000}", 0));
    assert_eq!(looked_at(&mut registry), shallow);
}

#[test]
fn a_refused_hold_leaves_no_memory_behind() {
    let mut registry = Registry::new();
    registry.configure(10);
    let info = measure(|| {
        for n in 0..1_000 {
            let wanted = Wanted {
                prompt_tokens: 11,
                completion_tokens: 0,
                least_completion_tokens: 0,
                holder: 0,
                deadline: 0,
            };
            assert!(registry.hold(&format!("t{n}"), "r", wanted).is_err());
        }
    });
    assert_eq!(info.count_current, 0);
}

/// Neither a hold's end nor its move to an ancestor keeps memory from then on.
#[test]
fn what_ends_leaves_no_memory_behind() {
    let wanted =
        Wanted { prompt_tokens: 1, completion_tokens: 1, least_completion_tokens: 1, holder: 0, deadline: 0 };
    let mut registry = Registry::new();
    let mut come_and_go = |n: usize| {
        registry.open_thread("p", None, None).expect("room");
        registry.open_thread("c", None, Some("p")).expect("room");
        for request in ["held", "lost", "moved", "remembered"] {
            registry.hold("c", format!("{request}{n}"), wanted).expect("it fits");
        }
        registry.release("c", &format!("held{n}"));
        registry.settle_lost("c", &format!("lost{n}"), 1, 1).expect("it is held");
        registry.cleanup_thread("c");
        registry.settle("c", format!("remembered{n}"), 1, 1, true).expect("it is held");
        registry.clear();
    };
    // What an index keeps for the next ones is there after the first.
    come_and_go(0);
    let info = measure(|| (1..100).for_each(come_and_go));
    assert_eq!(info.count_current, 0);
}
