//! OpenAI's completions, `POST /v1/completions`: text that goes on, so nothing can be put at its end.

use super::{Answers, Api, Requests, chat};
use crate::body::{BadRequest, Fields, number};
use crate::tally::Tally;

#[derive(Debug)]
pub(super) struct Completions;

impl Api for Completions {
    fn path(&self) -> &'static str {
        "/v1/completions"
    }
}

impl Requests for Completions {
    fn prompt(&self) -> &'static [&'static str] {
        &["prompt", "suffix"]
    }

    fn ceilings(&self) -> &'static [&'static str] {
        &["max_tokens"]
    }

    fn choices(&self, fields: &Fields<'_>) -> Result<u64, BadRequest> {
        // All of `best_of` are written, and `n` of them are answered.
        let most = number("n", fields.n)?.max(number("best_of", fields.best_of)?);
        Ok(most.unwrap_or(1).max(1))
    }

    fn must_ask_for_usage(&self) -> bool {
        true
    }
}

impl Answers for Completions {
    fn event(&self, data: &str, tally: &mut Tally) -> bool {
        chat::event(data, tally)
    }
}
