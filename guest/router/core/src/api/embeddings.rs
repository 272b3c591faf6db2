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
}

impl Answers for Embeddings {
    fn whole(&self, body: &str, tally: &mut Tally) {
        read(body, &["usage"], &[], tally);
    }

    fn event(&self, _: &str, _: &mut Tally) -> bool {
        false
    }
}
