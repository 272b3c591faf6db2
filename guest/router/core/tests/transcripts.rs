//! Plays the transcripts of `tests/transcripts` with the rules themselves.

#[expect(unreachable_pub, reason = "it is a part of another crate as well")]
#[path = "../../../../tests/src/transcript.rs"]
mod transcript;

use serde_json::Value;
use std::path::Path;
use thread_budget_router_core::{Config, Event, Exchange};

/// The rules, natively.
struct Native(Option<Exchange>);

impl transcript::Policy for Native {
    fn begin(&mut self, config: &Value) {
        self.0 = Some(Exchange::new(Config::from_json(&config.to_string()).unwrap()));
    }

    fn step(&mut self, now_ms: u64, event: Value) -> Value {
        let event: Event =
            serde_json::from_value(event.clone()).unwrap_or_else(|error| panic!("{event}: {error}"));
        serde_json::to_value(self.0.as_mut().unwrap().step(now_ms, event)).unwrap()
    }
}

#[test]
fn every_transcript_is_followed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/transcripts");
    let wrong = transcript::run(&folder, &mut Native(None));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
