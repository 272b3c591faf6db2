//! What a registry tells the `metrics` facade.

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use std::collections::BTreeMap;
use thread_budget_host::{Registry, UsageEntry};

/// Every counter and gauge as `name{label=value,…}`, and every histogram by how many values it has.
fn told(use_it: impl FnOnce()) -> BTreeMap<String, f64> {
    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, use_it);
    let mut told = BTreeMap::new();
    for (key, unit, description, value) in recorder.snapshotter().snapshot().into_vec() {
        let (_, key) = key.into_parts();
        assert!(unit.is_some() && description.is_some(), "{key} is described");
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(values) => values.len() as f64,
        };
        told.insert(format!("{}{{{}}}", key.name(), labels.join(",")), value);
    }
    told
}

#[test]
fn tokens_crossings_refusals_holds_and_latency() {
    let told = told(|| {
        let registry = Registry::builder().tokens_per_thread(1_000).metrics().build().expect("it loads");
        let registry = registry.blocking();
        let hold = registry.hold("a", 400, 100, 100).expect("it fits");
        assert!(registry.check_budget("a", 501).is_err());
        drop(registry.hold("a", 1, 0, 0).expect("it fits"));
        hold.settle(700, 60).expect("recorded");
        registry.settle("a", "r", 100, 0, true).expect("recorded");
        registry.settle("a", "r", 100, 0, true).expect("a repeat");
        let entry =
            |tokens| UsageEntry { thread_id: "a".into(), prompt_tokens: tokens, completion_tokens: 1 };
        registry.consume_batch(&[entry(100), entry(5)]).expect("recorded");
        registry.get_budget("a").and_then(|budget| budget.consume(0, 7)).expect("recorded");
        assert!(registry.consume("", 1, 1).is_err());
        let mut lost = registry.hold("b", 20, 10, 10).expect("it fits");
        lost.sent();
        drop(lost);
        // Kept until the end.
        std::mem::forget(registry.hold("b", 1, 0, 0).expect("it fits"));
    });
    for (name, expected) in [
        ("thread_budget.tokens{kind=prompt}", 925.0),
        ("thread_budget.tokens{kind=completion}", 69.0),
        ("thread_budget.crossings{severity=warning}", 1.0),
        ("thread_budget.crossings{severity=critical}", 1.0),
        ("thread_budget.crossings{severity=final}", 1.0),
        ("thread_budget.holds{}", 1.0),
        ("thread_budget.call.errors{call=check-budget,kind=refused}", 1.0),
        ("thread_budget.call.errors{call=consume,kind=failed}", 1.0),
        ("thread_budget.call.duration_seconds{call=hold}", 4.0),
        ("thread_budget.call.duration_seconds{call=settle}", 3.0),
    ] {
        assert_eq!(told.get(name), Some(&expected), "{name} of {told:#?}");
    }
}

#[test]
fn nothing_unless_asked_for() {
    let told = told(|| {
        let registry = Registry::builder().build().expect("it loads").blocking();
        registry.consume("a", 1, 1).expect("recorded");
        drop(registry.hold("a", 1, 0, 0).expect("it fits"));
    });
    assert!(told.is_empty(), "{told:?}");
}
