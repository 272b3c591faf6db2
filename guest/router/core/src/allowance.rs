//! How much a request may use: what is held for it at first, what more as it goes on, and what the provider
//! is asked for.

use crate::api::Api;
use crate::body::{BadRequest, Body, number};
use crate::config::LostCalls;
use crate::estimate;
use crate::registry::Held;
use crate::tally::Used;

/// The least output that a request is worth sending for, for each answer: some providers take no less.
const LEAST_OUTPUT: u64 = 16;

/// How long the first answer of a thread may well be, in tokens: agents get some hundred.
const FIRST_ANSWER: u64 = 512;

/// What a request asks for, in tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// The prompt, estimated.
    pub(crate) prompt: u64,
    /// The most output, of all answers together; none when it does not say.
    pub(crate) output: Option<u64>,
    /// How many answers.
    pub(crate) choices: u64,
    /// Whether the answer is to be a stream, which can be ended when it has used enough.
    pub(crate) is_stream: bool,
}

impl Ask {
    /// Read a request.
    pub(crate) fn of(api: &dyn Api, body: &Body) -> Result<Self, BadRequest> {
        let fields = body.fields();
        let mut most = None;
        for &ceiling in api.ceilings() {
            most = most.max(number(ceiling, fields.get(ceiling))?);
        }
        let choices = api.choices(&fields)?;
        Ok(Self {
            prompt: estimate::of_prompt(api.prompt().iter().filter_map(|name| fields.get(name))),
            output: if api.has_output() { most.map(|most| most.saturating_mul(choices)) } else { Some(0) },
            choices,
            is_stream: fields.is_stream()?,
        })
    }

    /// The output to hold at first: a slice of a stream, which grows; what an answer in one asks for.
    pub(crate) fn first(&self, slice: u64) -> u64 {
        match self.output {
            Some(output) if self.is_stream => output.min(slice),
            Some(output) => output,
            None => slice,
        }
    }

    /// The output that it needs to go on as it is meant to: what there is of a slice.
    pub(crate) fn least(&self, slice: u64) -> u64 {
        self.first(slice).min(slice)
    }

    /// The output that it needs to be answered at all.
    pub(crate) fn least_of_last(&self, slice: u64) -> u64 {
        self.first(slice).min(LEAST_OUTPUT.saturating_mul(self.choices))
    }

    /// The most output that the provider may be asked for, for each answer; none where that need not be said.
    /// No more is asked for than is held; of a stream, than is held and left together, as it is ended
    /// where its hold cannot grow.
    pub(crate) fn ceiling(&self, held: &Held, slice: u64) -> Option<u64> {
        let left = held.completion_tokens.saturating_add(held.room);
        let may = if self.is_stream { left } else { held.completion_tokens };
        let says_more = match self.output {
            Some(output) => output > may,
            // Nobody knows how long the answer will be. Far from the limit it may be as long as it is.
            None => {
                held.severity.is_some()
                    || held.completion_tokens < self.first(slice)
                    || left < slice.saturating_mul(4)
            }
        };
        says_more.then_some(may / self.choices)
    }

    /// Whether this is the last request of its size that fits. The next one has this prompt, with what tools add to
    /// it and what the estimate lacks half as long again, the answer to this one, which may be twice as long as
    /// others were, and as long an answer of its own.
    pub(crate) fn is_last(&self, held: &Held) -> bool {
        let left = held.completion_tokens.saturating_add(held.room);
        let average = held.usage.completion_tokens.checked_div(held.usage.request_count);
        let answer = average.map_or(FIRST_ANSWER.min(left / 4), |average| average.saturating_mul(2));
        let answer = answer.min(self.output.unwrap_or(u64::MAX));
        let prompt = self.prompt.saturating_add(self.prompt / 2);
        left < prompt.saturating_add(answer.saturating_mul(2)).saturating_add(LEAST_OUTPUT)
    }
}

/// What is held for an attempt, in tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    prompt: u64,
    completion: u64,
    /// How much of the completion came with the latest hold.
    latest: u64,
}

impl Allowance {
    /// What the first hold gave.
    pub(crate) fn new(prompt: u64, completion: u64) -> Self {
        Self { prompt, completion, latest: completion }
    }

    /// All of it.
    pub(crate) fn total(&self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    /// Whether so much may be used.
    pub(crate) fn covers(&self, used: Used) -> bool {
        used.total() <= self.total()
    }

    /// What to hold where more has been used: prompt, completion and least completion.
    pub(crate) fn grown(&self, used: Used, slice: u64) -> [u64; 3] {
        let prompt = self.prompt.max(used.prompt);
        let slices = used.completion.saturating_sub(self.completion).div_ceil(slice).max(1);
        [
            prompt,
            self.completion.saturating_add(slices.saturating_mul(slice)),
            used.completion.max(self.completion),
        ]
    }

    /// A larger hold gives this.
    pub(crate) fn grow(&mut self, prompt: u64, completion: u64) {
        self.latest = completion.saturating_sub(self.completion);
        self.prompt = prompt;
        self.completion = completion;
    }

    /// What a call is charged that got no definite answer; none where it is charged nothing.
    pub(crate) fn lost(&self, rule: LostCalls) -> Option<Used> {
        let Self { prompt, completion, latest } = *self;
        match rule {
            LostCalls::Prompt => Some(Used { prompt, completion: completion.saturating_sub(latest) }),
            LostCalls::All => Some(Used { prompt, completion }),
            LostCalls::Nothing => None,
        }
    }
}
