//! Bytes as threads' states, put to a registry that has some threads already.

use super::source::Source;
use crate::agreement;
use crate::call::Call;
use crate::model::Model;
use crate::subject::{Core, Subject};
use thread_budget_host::{ThreadOptions, ThreadState};

pub(super) fn check(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let max_threads = u32::from(source.below(20));
    let states = source.list(12, |source| source.state(Source::any_count));
    let restore = Call::Restore { states };
    let (mut core, mut model) = (Core::default(), Model::default());
    for subject in [&mut core as &mut dyn Subject, &mut model] {
        let parents = [("a", None), ("h0", Some("a"))];
        for (thread_id, parent) in parents {
            let options = ThreadOptions { max_tokens: Some(100), parent: parent.map(str::to_owned) };
            let open = Call::OpenThread { thread_id: thread_id.into(), options, r#as: "h".into() };
            assert!(subject.call(&open).is_ok());
        }
        assert!(subject.call(&Call::SetMaxThreads { max_threads }).is_ok());
    }

    let before = all(&mut core);
    let outcome = core.call(&restore);
    assert_eq!(outcome, model.call(&restore), "{restore:?}");
    let after = all(&mut core);
    if outcome.is_err() {
        assert_eq!(after, before, "refused with {outcome:?}, and yet something changed: {restore:?}");
    }
    assert_eq!(by_id(after.clone()), by_id(all(&mut model)), "{restore:?}");

    let mut fresh = Core::default();
    let again = fresh.call(&Call::Restore { states: after.clone() });
    assert!(again.is_ok(), "{again:?} of a snapshot: {after:?}");
    assert_eq!(all(&mut fresh), after);
}

fn all(subject: &mut dyn Subject) -> Vec<ThreadState> {
    agreement::snapshot(subject, None, u32::MAX).unwrap_or_else(|error| panic!("{error}"))
}

fn by_id(mut states: Vec<ThreadState>) -> Vec<ThreadState> {
    states.sort_by(|a, b| a.thread_id.cmp(&b.thread_id));
    states
}
