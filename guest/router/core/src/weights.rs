//! What tokens count for in a budget: some cost more than others.

use crate::config::{Config, Upstream};
use crate::registry::{Held, Usage};
use crate::usage::Tokens;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What one token counts for: a decimal number from 0 to 1,000, of which six places behind the point count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Weight {
    millionths: u32,
}

/// A number that is no weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a weight is a number from 0 to 1000")]
pub struct NoWeight;

const ONE: u32 = 1_000_000;
const MOST: f64 = 1_000.0;

impl Default for Weight {
    fn default() -> Self {
        Self { millionths: ONE }
    }
}

impl TryFrom<f64> for Weight {
    type Error = NoWeight;

    fn try_from(number: f64) -> Result<Self, NoWeight> {
        if !(0.0..=MOST).contains(&number) {
            return Err(NoWeight);
        }
        Ok(Self { millionths: (number * f64::from(ONE) + 0.5) as u32 })
    }
}

impl From<Weight> for f64 {
    fn from(weight: Weight) -> Self {
        Self::from(weight.millionths) / Self::from(ONE)
    }
}

impl Weight {
    fn of(self, tokens: u64) -> u128 {
        u128::from(self.millionths) * u128::from(tokens)
    }
}

/// What the tokens of some models count for, by their kind. What is not said is 1, or what a kind that is a part
/// of another counts for with that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Weights {
    /// Models that begin with one of these; all models when there are none.
    pub models: Vec<String>,
    /// Tokens of the prompt that are read anew.
    pub input: Weight,
    /// Tokens of the prompt that are read from a cache; as `input` when it is not said.
    pub cached_input: Option<Weight>,
    /// Tokens of the prompt that are written to a cache; as `input` when it is not said.
    pub cache_write: Option<Weight>,
    /// Tokens that the model writes.
    pub output: Weight,
    /// Tokens that the model writes for itself; as `output` when it is not said.
    pub reasoning: Option<Weight>,
}

impl Weights {
    /// With what is not said.
    #[must_use]
    pub fn rates(&self) -> Rates {
        let &Self { input, cached_input, cache_write, output, reasoning, .. } = self;
        Rates {
            input,
            cached_input: cached_input.unwrap_or(input),
            cache_write: cache_write.unwrap_or(input),
            output,
            reasoning: reasoning.unwrap_or(output),
        }
    }
}

/// What the tokens of a model count for at a provider, by their kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    input: Weight,
    cached_input: Weight,
    cache_write: Weight,
    output: Weight,
    reasoning: Weight,
}

impl Rates {
    /// What a model's tokens count for at an upstream.
    pub(crate) fn of(upstream: &Upstream, model: &str) -> Self {
        Self::by(&upstream.weights, model)
    }

    /// What a model's tokens count for: by the first weights that name the model, or 1.
    #[must_use]
    pub fn by(weights: &[Weights], model: &str) -> Self {
        let names = |weights: &&Weights| {
            weights.models.is_empty()
                || weights.models.iter().any(|prefix| model.starts_with(prefix.as_str()))
        };
        weights.iter().find(names).map(Weights::rates).unwrap_or_default()
    }

    /// What these tokens count for: prompt and completion, together rounded up once.
    #[must_use]
    pub fn weigh(self, tokens: Tokens) -> [u64; 2] {
        let prompt = self.input.of(tokens.input)
            + self.cached_input.of(tokens.cached_input)
            + self.cache_write.of(tokens.cache_write);
        rounded_up(prompt, self.output.of(tokens.output) + self.reasoning.of(tokens.reasoning))
    }
}

/// Prompt and completion in millionths, as whole tokens. Rounded up once: the sum is not more than the next whole.
fn rounded_up(prompt: u128, completion: u128) -> [u64; 2] {
    let whole = |millionths: u128| u64::try_from(millionths.div_ceil(ONE.into())).unwrap_or(u64::MAX);
    let rounded = whole(prompt);
    [rounded, whole(prompt.saturating_add(completion)).saturating_sub(rounded)]
}

/// What tokens count for before they are used: as the dearest kind at the dearest upstream that may answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dearest {
    prompt: Weight,
    completion: Weight,
}

impl Dearest {
    /// Of these upstreams, places in the configuration's list.
    pub(crate) fn of(config: &Config, upstreams: &[usize], model: &str) -> Self {
        let upstreams = upstreams.iter().filter_map(|&at| config.upstreams.get(at));
        let each = upstreams.map(|upstream| {
            let Rates { input, cached_input, cache_write, output, reasoning } = Rates::of(upstream, model);
            Self { prompt: input.max(cached_input).max(cache_write), completion: output.max(reasoning) }
        });
        let dearer = |one: Self, other: Self| Self {
            prompt: one.prompt.max(other.prompt),
            completion: one.completion.max(other.completion),
        };
        each.reduce(dearer).unwrap_or_default()
    }

    /// Whether nothing counts.
    pub(crate) fn is_free(self) -> bool {
        self.prompt.millionths == 0 && self.completion.millionths == 0
    }

    /// What so much of a prompt and of a completion counts for.
    pub(crate) fn weigh(self, prompt: u64, completion: u64) -> [u64; 2] {
        rounded_up(self.prompt.of(prompt), self.completion.of(completion))
    }

    /// How many tokens of a completion there may be where the whole counts for at most `all`, a prompt of so many
    /// tokens included.
    fn completion_within(self, prompt: u64, all: u64) -> u64 {
        let left = (u128::from(all) * u128::from(ONE)).saturating_sub(self.prompt.of(prompt));
        let tokens = left.checked_div(self.completion.millionths.into());
        tokens.and_then(|tokens| u64::try_from(tokens).ok()).unwrap_or(u64::MAX)
    }

    /// What was held for a prompt of so many tokens and its completion, in tokens of the completion.
    pub(crate) fn unweigh(self, prompt: u64, held: &Held) -> Held {
        let [held_prompt, _] = self.weigh(prompt, 0);
        let usage = Usage {
            completion_tokens: self.completion_within(0, held.usage.completion_tokens),
            ..held.usage
        };
        Held {
            completion_tokens: self
                .completion_within(prompt, held_prompt.saturating_add(held.completion_tokens)),
            room: self.completion_within(0, held.room),
            usage,
            severity: held.severity,
            ..Held::default()
        }
    }

    /// A prompt of so many tokens in tokens of the completion.
    pub(crate) fn in_completion(self, prompt: u64) -> u64 {
        self.completion_within(0, self.weigh(prompt, 0)[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(number: f64) -> Weight {
        Weight::try_from(number).unwrap()
    }

    #[test]
    fn decimals_are_exact_and_what_is_no_weight_is_refused() {
        let read = |json: &str| serde_json::from_str::<Weight>(json);
        for (json, millionths) in
            [("1", 1_000_000), ("0", 0), ("0.1", 100_000), ("1.25", 1_250_000), ("1e3", 1_000_000_000)]
        {
            assert_eq!(read(json).unwrap().millionths, millionths, "{json}");
        }
        for json in ["-0.1", "1000.1", "\"1\"", "null", "1e999"] {
            assert!(read(json).is_err(), "{json}");
        }
        assert!(Weight::try_from(f64::NAN).is_err());
    }

    #[test]
    fn what_is_not_said_is_1_or_as_the_whole_is() {
        let rates = |json: &str| serde_json::from_str::<Weights>(json).unwrap().rates();
        assert_eq!(rates("{}"), Rates::default());
        let one = weight(1.0);
        assert_eq!(
            rates(r#"{"input":0.5,"cached_input":0.1,"output":4}"#),
            Rates {
                input: weight(0.5),
                cached_input: weight(0.1),
                cache_write: weight(0.5),
                output: weight(4.0),
                reasoning: weight(4.0)
            }
        );
        assert_eq!(rates(r#"{"reasoning":2}"#), Rates { reasoning: weight(2.0), ..Rates::default() });
        assert_eq!(rates("{}").output, one);
        assert!(serde_json::from_str::<Weights>(r#"{"inputs":1}"#).is_err());
    }

    #[test]
    fn a_sum_is_rounded_up_once() {
        let rates =
            Rates { input: weight(0.1), cached_input: weight(0.01), output: weight(0.3), ..Rates::default() };
        let tokens = Tokens { input: 7, cached_input: 50, output: 5, ..Tokens::default() };
        // 0.7 + 0.5 + 1.5
        assert_eq!(rates.weigh(tokens), [2, 1]);
        assert_eq!(rates.weigh(Tokens { output: 1, ..Tokens::default() }), [0, 1]);
        assert_eq!(rates.weigh(Tokens::default()), [0, 0]);
        let most = Tokens { input: u64::MAX, reasoning: u64::MAX, ..Tokens::default() };
        let thousand = Rates { input: weight(1_000.0), reasoning: weight(1_000.0), ..Rates::default() };
        assert_eq!(thousand.weigh(most), [u64::MAX, 0]);
        assert_eq!(Rates::default().weigh(Tokens { input: 7, output: 3, ..Tokens::default() }), [7, 3]);
    }

    #[test]
    fn what_was_weighed_holds_as_many_tokens_again() {
        for completion in [0.001, 0.3, 1.0, 2.5, 1_000.0] {
            for tokens in [0, 1, 7, 900, 123_457] {
                let dearest = Dearest { prompt: weight(0.7), completion: weight(completion) };
                let [prompt, weighed] = dearest.weigh(13, tokens);
                let held = Held { completion_tokens: weighed, ..Held::default() };
                let again = dearest.unweigh(13, &held).completion_tokens;
                assert!(again >= tokens, "{tokens} at {completion} are {again}");
                assert!(dearest.weigh(13, again)[1] <= weighed, "{tokens} at {completion} are {again}");
                assert_eq!(prompt, 10);
            }
        }
        assert_eq!(Dearest { prompt: weight(1.0), completion: weight(0.0) }.in_completion(7), u64::MAX);
    }
}
