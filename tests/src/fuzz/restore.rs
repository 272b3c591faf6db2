//! Bytes as threads' states, put to a registry that has some threads already.

use super::source::Source;
use crate::agreement::{comparable, snapshot};
use crate::call::Call;
use crate::model::Model;
use crate::subject::{Core, Subject};
use serde_json::{Value, json};

pub(super) fn check(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let max_threads = source.below(20);
    let states = source.list(12, |source| source.state(Source::any_count));
    let restore = Call::new("restore", json!({ "states": states }));
    let (mut core, mut model) = (Core::default(), Model::default());
    for subject in [&mut core as &mut dyn Subject, &mut model] {
        let parents = [("a", None), ("h0", Some("a"))];
        for (thread_id, parent) in parents {
            let options = json!({ "max_tokens": 100, "parent": parent });
            let open = json!({ "thread_id": thread_id, "options": options, "as": "h" });
            assert!(subject.call(&Call::new("open-thread", open)).is_ok());
        }
        let max_threads = json!({ "max_threads": max_threads });
        assert!(subject.call(&Call::new("set-max-threads", max_threads)).is_ok());
    }

    let before = all(&mut core);
    let outcome = core.call(&restore);
    // Of several faults the contract does not say which is named.
    assert_eq!(outcome.is_ok(), model.call(&restore).is_ok(), "{outcome:?} of {restore:?}");
    let after = all(&mut core);
    if outcome.is_err() {
        assert_eq!(after, before, "refused with {outcome:?}, and yet something changed: {restore:?}");
    }
    assert_eq!(comparable(after.clone()), comparable(all(&mut model)), "{restore:?}");

    let mut fresh = Core::default();
    let again = fresh.call(&Call::new("restore", json!({ "states": after })));
    assert!(again.is_ok(), "{again:?} of a snapshot: {after:?}");
    assert_eq!(all(&mut fresh), after);
}

fn all(subject: &mut dyn Subject) -> Vec<Value> {
    snapshot(subject, &Value::Null, u32::MAX).unwrap_or_else(|error| panic!("{error}"))
}
