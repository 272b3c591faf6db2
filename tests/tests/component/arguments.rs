//! No argument traps, however large or senseless.

use crate::instance::{
    Acknowledgement, Instance, PLENTY, RegistryError, Severity, ThreadOptions, ThreadState, Threshold,
    ThresholdCrossed, UsageEntry, call, hold_state, lost_state, state,
};

#[test]
fn no_id_traps() {
    let mut instance = Instance::new(PLENTY);
    for (id, valid) in [
        (String::new(), false),
        ("x".into(), true),
        ("x".repeat(1_024), true),
        ("x".repeat(1_025), false),
        ("é".repeat(512), true),
        ("é".repeat(513), false),
        ("x".repeat(50 << 20), false),
        ("\0".into(), true),
        ("\u{10FFFF}\u{FEFF}".into(), true),
    ] {
        assert_eq!(instance.consume(&id, 1).is_ok(), valid, "{} bytes", id.len());
        assert_eq!(call!(&mut instance, call_check_budget, &id, 1).is_ok(), valid);
        assert_eq!(instance.hold(&id, "r", 1).is_ok(), valid);
        assert_eq!(call!(&mut instance, call_settle_lost, &id, "r", 1, 1).is_ok(), valid);
        assert_eq!(instance.hold(&id, "r", 1).is_ok(), valid);
        assert_eq!(call!(&mut instance, call_release, &id, "r"), valid);
        assert_eq!(instance.settle(&id, "r", 1, true).is_ok(), valid);
        assert_eq!(call!(&mut instance, call_has_budget, &id), valid);
        assert_eq!(call!(&mut instance, call_cleanup_thread, &id).is_some(), valid);
    }
    assert_eq!(instance.number_of_threads(), 0);
}

#[test]
fn no_count_traps() {
    let mut instance = Instance::new(PLENTY);
    let counts = [0, 1, (1 << 53) + 1, u64::MAX / 100, u64::MAX / 100 + 1, u64::MAX - 1, u64::MAX];
    for limit in counts {
        call!(&mut instance, call_configure, limit);
        for first in counts {
            for second in counts {
                let id = format!("{limit} {first} {second}");
                assert!(instance.consume(&id, first).is_ok());
                assert!(instance.consume(&id, second).is_ok());
                let _ = call!(&mut instance, call_check_budget, &id, first);
            }
        }
    }
}

#[test]
fn no_list_of_thresholds_traps() {
    let mut instance = Instance::new(PLENTY);
    for length in [0, 1, 100, 101, 1_000_000] {
        let many: Vec<_> =
            (0..length).map(|n| Threshold { percent: n + 1, severity: Severity::Warning }).collect();
        assert_eq!(call!(&mut instance, call_set_thresholds, &many).is_ok(), length <= 100);

        let registry = instance.exports.thread_budget_registry_registry();
        let id = length.to_string();
        let budget = registry.call_get_budget(&mut instance.store, &id).expect("no trap").expect("a budget");
        let handle = registry.thread_budget();
        handle.call_consume(&mut instance.store, budget, u64::MAX, 0).expect("no trap");
        handle.call_check_thresholds(&mut instance.store, budget, &many).expect("no trap");
        let fired = handle.call_triggered_thresholds(&mut instance.store, budget).expect("no trap");
        assert!(fired.len() <= 100);
        budget.resource_drop(&mut instance.store).expect("no trap");
    }
}

#[test]
fn no_warning_traps() {
    let mut instance = Instance::new(PLENTY);
    for percent_used in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, -1.0, 5e-324, 0.5, 1e15, 1e300] {
        let crossed = ThresholdCrossed {
            thread_id: "x".repeat(10_000),
            threshold_percent: u32::MAX,
            severity: Severity::Final,
            percent_used,
            tokens_used: u64::MAX,
            tokens_remaining: u64::MAX,
            max_tokens: 0,
            runway: Some(u64::MAX),
        };
        let warnings = instance.exports.thread_budget_registry_warnings();
        let warning = warnings.call_budget_warning(&mut instance.store, &crossed).expect("no trap");
        assert!(warning.message.starts_with("CRITICAL: "), "{}", warning.message);
    }
}

#[test]
fn no_request_id_traps() {
    let mut instance = Instance::new(PLENTY);
    for (request_id, valid) in [
        (String::new(), false),
        ("x".repeat(256), true),
        ("x".repeat(257), false),
        ("é".repeat(128), true),
        ("x".repeat(50 << 20), false),
        ("\0".into(), true),
    ] {
        let held = instance.hold("a", &request_id, 1);
        assert_eq!(held.is_ok(), valid, "{} bytes", request_id.len());
        assert!(valid || matches!(held, Err(RegistryError::InvalidRequestId(_))));
        assert_eq!(call!(&mut instance, call_settle_lost, "a", &request_id, 1, 1).is_ok(), valid);
        assert!(!call!(&mut instance, call_release, "a", &request_id));
        assert_eq!(instance.settle("a", &request_id, 1, true).is_ok(), valid);
    }
}

#[test]
fn no_acknowledgement_traps() {
    let mut instance = Instance::new(PLENTY);
    instance.consume("a", 95_000).expect("there is room");
    for length in [0, 1, 100, 1_000_000] {
        let many: Vec<_> = (0..length)
            .map(|n| Acknowledgement { threshold_percent: u32::MAX - n, max_tokens: 100_000 })
            .collect();
        call!(&mut instance, call_acknowledge_warnings, "a", &many);
        assert_eq!(call!(&mut instance, call_pending_warnings, "a").len(), 3);
    }
    let many: Vec<_> =
        (0..1_000_000).map(|n| Acknowledgement { threshold_percent: n, max_tokens: 100_000 }).collect();
    call!(&mut instance, call_acknowledge_warnings, "a", &many);
    assert!(call!(&mut instance, call_pending_warnings, "a").is_empty());
}

#[test]
fn no_batch_traps() {
    let mut instance = Instance::new(PLENTY);
    for (entries, id_bytes, valid) in [
        (0, 4, true),
        (4_096, 4, true),
        (4_096, 1_024, true),
        (4_097, 4, false),
        (200_000, 4, false),
        (20_000, 1_024, false),
        (1, 0, false),
        (1, 100 << 20, false),
    ] {
        let entries: Vec<_> = (0..entries)
            .map(|n| UsageEntry {
                thread_id: format!("{n:x<4}").repeat(id_bytes / 4),
                prompt_tokens: u64::MAX,
                completion_tokens: u64::MAX,
            })
            .collect();
        let result = call!(&mut instance, call_consume_batch, &entries);
        assert_eq!(result.is_ok(), valid, "{} entries of {id_bytes} bytes", entries.len());
        assert_eq!(result.map_or(0, |crossed| crossed.len()), if valid { entries.len() * 3 } else { 0 });
    }
    assert_eq!(instance.number_of_threads(), 2 * 4_096);
}

#[test]
fn no_parent_traps() {
    let mut instance = Instance::new(PLENTY);
    for parent in ["", "unknown", "a", &"x".repeat(1_025), &"x".repeat(50 << 20)] {
        let options = ThreadOptions { max_tokens: None, parent: Some(parent.into()) };
        assert!(call!(&mut instance, call_open_thread, "a", &options).is_err());
    }
    let options = ThreadOptions { max_tokens: Some(u64::MAX), parent: None };
    assert!(call!(&mut instance, call_open_thread, &"x".repeat(50 << 20), &options).is_err());
    assert_eq!(instance.number_of_threads(), 0);
}

#[test]
fn no_hold_traps() {
    let mut instance = Instance::new(PLENTY);
    let counts = [0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX];
    for limit in [0, 1, u64::MAX] {
        call!(&mut instance, call_configure, limit);
        for (n, prompt) in counts.into_iter().enumerate() {
            for completion in counts {
                for least in counts {
                    let id = format!("{limit} {n}");
                    let held = call!(
                        &mut instance,
                        call_hold,
                        &id,
                        "r",
                        prompt,
                        completion,
                        least,
                        u64::MAX,
                        u64::MAX
                    );
                    let fits = prompt.checked_add(least.min(completion)).is_some_and(|least| least <= limit);
                    assert_eq!(held.is_ok(), limit > 0 && fits, "{prompt} {completion} {least} of {limit}");
                    let _ = call!(&mut instance, call_hold, &id, "r", completion, prompt, least, 0, 0);
                    call!(&mut instance, call_release, &id, "r");
                    assert_eq!(call!(&mut instance, call_held_tokens, &id), 0);
                }
            }
        }
        for n in 0..4 {
            let request_id = n.to_string();
            if instance.hold("all", &request_id, limit / 4).is_ok() {
                let settled =
                    call!(&mut instance, call_settle, "all", &request_id, u64::MAX, u64::MAX, n > 1);
                settled.expect("it is held");
                instance.consume("all", u64::MAX).expect("it exists");
            }
        }
        call!(&mut instance, call_clear);
    }
}

#[test]
fn no_birth_traps() {
    let mut instance = Instance::new(PLENTY);
    for birth in [0, u64::MAX - 1, u64::MAX] {
        call!(&mut instance, call_set_next_birth, birth);
        for n in 0..4 {
            instance.consume(&format!("{birth} {n}"), 1).expect("there is room");
            call!(&mut instance, call_reset_thread, &format!("{birth} 0"));
        }
    }
}

#[test]
fn no_page_traps() {
    let mut instance = Instance::new(PLENTY);
    assert!(call!(&mut instance, call_snapshot, None, u32::MAX).is_empty());
    for n in 0..10_000 {
        instance.consume(&n.to_string(), 1).expect("there is room");
    }
    assert!(call!(&mut instance, call_snapshot, None, 0).is_empty());
    assert!(call!(&mut instance, call_snapshot, Some("0"), 0).is_empty());
    assert_eq!(call!(&mut instance, call_snapshot, None, u32::MAX).len(), 4_096, "the longest page");
    for after in ["", "unknown", &"x".repeat(50 << 20)] {
        call!(&mut instance, call_snapshot, Some(after), u32::MAX);
    }
    for limit in [3_333, u32::MAX] {
        let mut ids: Vec<_> = instance.states(limit).into_iter().map(|state| state.thread_id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 10_000);
    }
}

#[test]
fn no_state_traps() {
    let mut instance = Instance::new(PLENTY);
    let huge = "x".repeat(10 << 20);
    let a_million = 1_000_000;
    let percent = Threshold { percent: u32::MAX, severity: Severity::Final };
    let spoilt = || state("spoilt");
    for (number, spoilt) in [
        ThreadState { thread_id: String::new(), ..spoilt() },
        ThreadState { thread_id: huge.clone(), ..spoilt() },
        ThreadState { parent: Some(huge.clone()), opened: true, ..spoilt() },
        ThreadState { triggered_thresholds: vec![percent; a_million as usize], ..spoilt() },
        ThreadState { pending_thresholds: (0..a_million).collect(), ..spoilt() },
        ThreadState { pending_thresholds: vec![u32::MAX; a_million as usize], ..spoilt() },
        ThreadState { request_ids: vec![String::new(); a_million as usize], ..spoilt() },
        ThreadState { request_ids: (0..a_million).map(|n| n.to_string()).collect(), ..spoilt() },
        ThreadState { request_ids: vec![huge.clone()], ..spoilt() },
        ThreadState { holds: vec![hold_state(None, "r"); a_million as usize], ..spoilt() },
        ThreadState { holds: vec![hold_state(Some(&huge), "r")], ..spoilt() },
        ThreadState { holds: vec![hold_state(None, &huge)], ..spoilt() },
        ThreadState { lost: vec![lost_state(Some("gone"), "r"); a_million as usize], ..spoilt() },
        ThreadState { lost: vec![lost_state(Some(&huge), "r")], ..spoilt() },
        ThreadState { lost: vec![lost_state(None, &huge)], ..spoilt() },
    ]
    .into_iter()
    .enumerate()
    {
        let states = [state("fine"), spoilt, state("fine as well")];
        assert!(call!(&mut instance, call_restore, &states).is_err(), "number {number}");
        assert_eq!(instance.number_of_threads(), 0, "number {number}");
    }
    let mut most = state("most");
    (most.prompt_tokens, most.completion_tokens, most.request_count) = (u64::MAX, u64::MAX, u64::MAX);
    most.average_tokens = u64::MAX;
    most.triggered_thresholds =
        (1..=100).map(|percent| Threshold { percent, severity: Severity::Final }).collect();
    most.pending_thresholds = (1..=100).collect();
    most.holds = (0..50_000).map(|n| hold_state(Some("gone"), &n.to_string())).collect();
    most.lost = (0..64).map(|n| lost_state(None, &n.to_string())).collect();
    assert!(call!(&mut instance, call_restore, &[most]).is_ok());
    assert!(instance.consume("most", u64::MAX).is_ok());
    assert_eq!(call!(&mut instance, call_snapshot, None, 1)[0].holds.len(), 50_000);
    let many: Vec<_> = (0..100_000).map(|n| state(&n.to_string())).collect();
    assert!(call!(&mut instance, call_restore, &many).is_ok());
    assert_eq!(instance.number_of_threads(), 100_001);
}
