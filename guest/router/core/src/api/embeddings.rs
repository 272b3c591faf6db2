//! OpenAI's embeddings, `POST /v1/embeddings`: a prompt and no output.

use super::{Answers, Api, Requests, read};
use crate::tally::Tally;

#[derive(Debug)]
pub(super) struct Embeddings;

impl Api for Embeddings {
    fn path(&self) -> &'static str {
        "/v1/embeddings"
    }
}

impl Requests for Embeddings {
    fn prompt(&self) -> &'static [&'static str] {
        &["input"]
    }

    fn ceilings(&self) -> &'static [&'static str] {
        &[]
    }

    fn has_output(&self) -> bool {
        false
    }
}

impl Answers for Embeddings {
    fn whole(&self, body: &str, tally: &mut Tally) {
        tally.reports(r#"{"completion_tokens":0}"#);
        read(body, &[], tally);
    }

    fn event(&self, _: &str, _: &mut Tally) -> bool {
        false
    }
}
