//! Snapshots come back as they were; what no snapshot can have given does not.

use thread_budget_core::{
    HoldState, LostState, Registry, RestoreError, Severity, ThreadState, Threshold, Wanted,
};

/// A parent of 1,000 tokens and its child, each with a hold, a mark, a remembered id and a crossed threshold;
/// the parent also with a hold and a mark that moved to it.
fn busy() -> Registry {
    let mut registry = Registry::new();
    registry.open_thread("p", Some(1_000), None).expect("room");
    for id in ["gone", "c"] {
        registry.open_thread(id, Some(100), Some("p")).expect("room");
    }
    let wanted =
        Wanted { prompt_tokens: 5, completion_tokens: 5, least_completion_tokens: 5, holder: 3, deadline: 4 };
    for id in ["gone", "p", "c"] {
        for request in ["lost", "held"] {
            registry.hold(id, request, wanted).expect("it fits");
        }
        registry.settle_lost(id, "lost", 5, 5).expect("it is held");
        registry.settle(id, "known", 40, 30, true).expect("room");
    }
    registry.cleanup_thread("gone");
    registry.consume("p", 600, 0).expect("room");
    registry.acknowledge_warnings("c", [(75, 100)]);
    registry
}

fn states() -> [ThreadState; 2] {
    busy().snapshot(None, u32::MAX, 0).try_into().expect("two threads")
}

#[test]
fn everything_comes_back() {
    let before = busy();
    let states = before.snapshot(None, u32::MAX, 0);
    let [p, c] = &states[..] else { panic!("two threads") };
    assert_eq!(
        (p.holds.len(), p.lost.len(), p.request_ids.len(), p.triggered_thresholds.len()),
        (2, 2, 1, 1)
    );
    assert_eq!((c.holds.len(), c.lost.len(), c.request_ids.len(), c.pending_thresholds.len()), (1, 1, 1, 0));
    let mut after = Registry::new();
    after.restore(&states).expect("a snapshot is valid");
    assert_eq!(after.snapshot(None, u32::MAX, 0), states);
    for id in ["p", "c"] {
        assert_eq!(after.held_tokens(id), before.held_tokens(id));
        assert_eq!(after.pending_warnings(id), before.pending_warnings(id));
    }
    assert!(after.release("gone", "held") && after.release("p", "held") && after.release("c", "held"));
    assert_eq!(after.settle("gone", "lost", 5, 6, false).map(|it| it.usage.request_count), Ok(7));
    assert_eq!((after.held_tokens("p"), after.held_tokens("c")), (0, 0));
}

/// Each of these changes breaks the parent's state, or the child's. Nothing comes back then, and the error
/// names the thread and says why.
#[test]
fn what_contradicts_itself_is_refused() {
    type Break = fn(&mut ThreadState);
    let of_parent: &[(&str, Break)] = &[
        ("percents from 1 to 100", |p| p.triggered_thresholds[0].percent = 0),
        ("percents from 1 to 100", |p| p.triggered_thresholds[0].percent = 101),
        ("percents from 1 to 100, ascending", |p| {
            p.triggered_thresholds.push(Threshold { percent: 1, severity: Severity::Final })
        }),
        ("percents from 1 to 100, ascending", |p| p.triggered_thresholds.push(p.triggered_thresholds[0])),
        ("is not reached", |p| {
            p.triggered_thresholds[0].percent = 95;
            p.pending_thresholds.clear();
        }),
        ("are among those triggered", |p| p.pending_thresholds.push(90)),
        ("are among those triggered", |p| p.pending_thresholds.push(75)),
        ("its average", |p| p.average_tokens = u64::MAX),
        ("its average", |p| p.request_count = 0),
        ("at most 64 request ids", |p| p.request_ids = (0..65).map(|n| n.to_string()).collect()),
        ("request id has 1 to 256", |p| p.request_ids.push(String::new())),
        ("remembers a request twice", |p| p.request_ids.push("known".into())),
        ("remembers a request twice", |p| p.request_ids = vec!["a".into(), "a".into()]),
        ("is remembered, too", |p| p.request_ids.push("held".into())),
        ("is remembered, too", |p| p.request_ids.push("lost".into())),
        ("request id has 1 to 256", |p| p.holds[0].request_id = "r".repeat(257)),
        ("request id has 1 to 256", |p| p.lost[0].request_id = String::new()),
        ("thread id has 1 to 1,024", |p| p.holds[0].made_for = Some(String::new())),
        ("thread id has 1 to 1,024", |p| p.lost[0].made_for = Some("t".repeat(1_025))),
        ("made for a thread below it", |p| p.holds[0].made_for = Some("p".into())),
        ("has one hold", |p| p.holds.push(p.holds[0].clone())),
        ("has one hold", |p| p.holds.push(p.holds[1].clone())),
        ("has one mark", |p| p.lost.push(p.lost[0].clone())),
        ("at most 64 marks", |p| p.lost = (0..65).map(|n| mark("x", &n.to_string())).collect()),
        ("a mark says more than was used", |p| {
            let own = p.lost.iter_mut().find(|lost| lost.made_for.is_none()).expect("there is one");
            own.completion_tokens = 1_000;
        }),
        ("at most 256 holds of its own", |p| {
            p.holds = (0..257).map(|n| hold(None, &n.to_string(), 1)).collect()
        }),
        ("256 holds that moved", |p| {
            p.holds = (0..257).map(|n| hold(Some("x"), &n.to_string(), 1)).collect()
        }),
        ("a hold passes 2^64-1 tokens", |p| p.holds[0].prompt_tokens = u64::MAX),
        ("had more before", |p| p.holds[0].completion_before = p.holds[0].completion_tokens + 1),
        ("what is held passes 2^64-1", |p| {
            p.holds.extend([hold(None, "1", u64::MAX / 2), hold(None, "2", u64::MAX / 2 + 2)])
        }),
    ];
    let of_child: &[(&str, Break)] = &[
        ("a thread with a parent was opened", |c| c.opened = false),
        ("has one elsewhere, too", |c| c.holds.push(hold(Some("gone"), "held", 1))),
        ("has one elsewhere, too", |c| c.lost.push(mark("gone", "lost"))),
        ("made for a thread below it", |c| c.holds.push(hold(Some("p"), "new", 1))),
        ("what is held passes 2^64-1", |c| c.holds.push(hold(None, "new", u64::MAX - 25))),
        ("exists already", |c| c.thread_id = "p".into()),
        ("has one elsewhere, too", |c| c.thread_id = "gone".into()),
    ];
    let cases = of_parent.iter().map(|case| (0, case)).chain(of_child.iter().map(|case| (1, case)));
    for (which, (why, break_it)) in cases {
        let mut states = states();
        break_it(&mut states[which]);
        let mut registry = Registry::new();
        let Err(RestoreError::InvalidState(text)) = registry.restore(&states) else {
            panic!("{why}: was restored");
        };
        assert!(text.starts_with(&format!("thread {}: ", states[which].thread_id)), "{text}");
        assert!(text.contains(why), "{text}: not {why}");
        assert_eq!(registry.snapshot(None, u32::MAX, 0), [], "{why}: something is left");
        registry.restore(&self::states()).expect("nothing of the failed one is in the way");
    }
}

/// What is there already stays as it is, its holds, its children and its next birth among it.
#[test]
fn a_failed_restore_leaves_everything_as_it_was() {
    let mut registry = busy();
    let [p, mut c] = states();
    c.thread_id = "d".into();
    c.birth = 1_000;
    let before = registry.snapshot(None, u32::MAX, 0);
    let held = registry.held_tokens("p");
    assert!(matches!(registry.restore(&[c, p]), Err(RestoreError::InvalidState(_))));
    assert_eq!(registry.snapshot(None, u32::MAX, 0), before);
    assert_eq!(registry.held_tokens("p"), held);
    registry.consume("new", 0, 0).expect("room");
    let states = registry.snapshot(None, u32::MAX, 0);
    assert!(states.iter().all(|state| state.birth < 1_000));
}

fn hold(made_for: Option<&str>, request_id: &str, prompt_tokens: u64) -> HoldState {
    HoldState {
        made_for: made_for.map(Into::into),
        request_id: request_id.into(),
        prompt_tokens,
        completion_tokens: 0,
        completion_before: 0,
        holder: 0,
        deadline: 0,
    }
}

fn mark(made_for: &str, request_id: &str) -> LostState {
    LostState {
        made_for: Some(made_for.into()),
        request_id: request_id.into(),
        prompt_tokens: 1,
        completion_tokens: 1,
    }
}
