//! No argument traps, however large or senseless.

use crate::instance::{
    Instance, PLENTY, RegistryError, Severity, ThreadOptions, ThreadState, Threshold, ThresholdCrossed,
    UsageEntry, call, state,
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
        let result = call!(&mut instance, call_consume_once, "a", &request_id, 1, 1);
        assert_eq!(result.is_ok(), valid, "{} bytes", request_id.len());
        assert!(valid || matches!(result, Err(RegistryError::InvalidRequestId(_))));
    }
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
fn no_estimate_traps() {
    let mut instance = Instance::new(PLENTY);
    for limit in [0, 1, u64::MAX] {
        call!(&mut instance, call_configure, limit);
        for (n, estimate) in [0, 1, u64::MAX - 1, u64::MAX].into_iter().enumerate() {
            let id = format!("{limit} {n}");
            let reservation = call!(&mut instance, call_reserve, &id, estimate);
            assert_eq!(reservation.is_ok(), limit > 0 && estimate <= limit);
            if let Ok(reservation) = reservation {
                let registry = instance.exports.thread_budget_registry_registry();
                let commit = registry.reservation();
                commit.call_commit(&mut instance.store, reservation, u64::MAX, u64::MAX).expect("no trap");
                assert_eq!(call!(&mut instance, call_held_tokens, &id), 0);
            }
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
        ThreadState { triggered_thresholds: (0..a_million).collect(), ..spoilt() },
        ThreadState { triggered_thresholds: vec![u32::MAX; a_million as usize], ..spoilt() },
        ThreadState { undelivered_thresholds: vec![percent; a_million as usize], ..spoilt() },
        ThreadState { request_ids: vec![String::new(); a_million as usize], ..spoilt() },
        ThreadState { request_ids: (0..a_million).map(|n| n.to_string()).collect(), ..spoilt() },
        ThreadState { request_ids: vec![huge.clone()], ..spoilt() },
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
    most.triggered_thresholds = (1..=100).collect();
    assert!(call!(&mut instance, call_restore, &[most]).is_ok());
    assert!(instance.consume("most", u64::MAX).is_ok());
    let many: Vec<_> = (0..100_000).map(|n| state(&n.to_string())).collect();
    assert!(call!(&mut instance, call_restore, &many).is_ok());
    assert_eq!(instance.number_of_threads(), 100_001);
}
