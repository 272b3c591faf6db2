//! What providers say that an answer used: all the names and places they have for it, and what is meant.

use crate::json;

/// The tokens of an answer, by what they cost. Together they are all that it used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of the prompt, read anew.
    pub input: u64,
    /// Of the prompt, read from a cache.
    pub cached_input: u64,
    /// Of the prompt, written to a cache.
    pub cache_write: u64,
    /// Written by the model for the client.
    pub output: u64,
    /// Written by the model for itself.
    pub reasoning: u64,
}

impl Tokens {
    /// All of the prompt.
    #[must_use]
    pub fn prompt(self) -> u64 {
        self.input.saturating_add(self.cached_input).saturating_add(self.cache_write)
    }

    /// All of the completion.
    #[must_use]
    pub fn completion(self) -> u64 {
        self.output.saturating_add(self.reasoning)
    }

    /// The same with a prompt of so many tokens, nothing of which is known to have been cached.
    pub(crate) fn with_prompt(self, input: u64) -> Self {
        Self { input, cached_input: 0, cache_write: 0, ..self }
    }

    /// The same with so many tokens that the model wrote, how many of them for itself being unknown.
    pub(crate) fn with_completion(self, output: u64) -> Self {
        Self { output, reasoning: 0, ..self }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            cached_input: self.cached_input.saturating_add(other.cached_input),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            output: self.output.saturating_add(other.output),
            reasoning: self.reasoning.saturating_add(other.reasoning),
        }
    }
}

/// What the provider of one answer has reported so far, in one piece or in the events of a stream.
///
/// ```
/// let mut report = thread_budget_router_core::usage::Report::default();
/// report.read(r#"{"usage":{"input_tokens":7,"cache_read_input_tokens":20,"output_tokens":3}}"#);
/// assert_eq!(report.tokens().prompt(), 27);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// From where the API has it.
    usage: Counts,
    /// Every billed call of the answer, where it took several.
    calls: Option<Tokens>,
    /// From a place of some provider's own, which counts where the usual one says nothing.
    aside: Counts,
    /// How much output there was at the start of a stream, at least.
    at_start: u64,
}

impl Report {
    /// Read an answer, or an event of a stream, of any API: a JSON object.
    pub fn read(&mut self, answer: &str) {
        // What comes before an error in it can be read all the same.
        let _ = json::fields(answer, &mut |name, value| self.read_field(name, value));
    }

    /// Read a field of an answer or of an event; one that cannot hold usage changes nothing.
    pub fn read_field(&mut self, name: &str, value: &str) {
        match name {
            "usage" => self.read_usage(value),
            // Groq
            "x_groq" => self.read_aside(value),
            // Moonshot; what a model wrote is not searched for it without need.
            "choices" if value.contains("\"usage\"") => {
                let _ = json::items(value, &mut |choice| self.read_aside(choice));
            }
            // llama.cpp
            "timings" => self.aside.update(Counts::read(value)),
            _ => {}
        }
    }

    /// Read a `usage` object. What it does not say, and zeros, take nothing back of what another one has said.
    pub fn read_usage(&mut self, usage: &str) {
        self.usage.update(Counts::read(usage));
        self.calls = calls(usage).or(self.calls);
    }

    /// Read the `usage` object of the event that a stream starts with: what it says of the completion is not
    /// the last word.
    pub fn read_start(&mut self, usage: &str) {
        let counts = Counts::read(usage);
        self.at_start = counts.tokens().completion();
        self.usage.update(Counts { completion: None, reasoning: None, total: None, ..counts });
        if let Some(calls) = calls(usage) {
            self.at_start = self.at_start.max(calls.completion());
            self.calls = Some(calls.with_completion(0));
        }
    }

    fn read_aside(&mut self, object: &str) {
        if let Some(usage) = json::field(object, "usage") {
            self.aside.update(Counts::read(usage));
        }
    }

    /// All that was reported; 0 for what was not.
    #[must_use]
    pub fn tokens(&self) -> Tokens {
        let tokens = self.last_word();
        if tokens.completion() == 0 { tokens.with_completion(self.at_start) } else { tokens }
    }

    /// The same without what was said at the start of the completion.
    pub(crate) fn last_word(&self) -> Tokens {
        let [usage, aside] = [self.usage.tokens(), self.aside.tokens()];
        let calls = self.calls.unwrap_or_default();
        // The sum of all calls is more than the one that the rest of the report is about.
        let mut prompt = if calls.prompt() > usage.prompt() { calls } else { usage };
        let mut completion = if calls.completion() > usage.completion() { calls } else { usage };
        if prompt.prompt() == 0 {
            prompt = aside;
        }
        if completion.completion() == 0 {
            completion = aside;
        }
        Tokens { output: completion.output, reasoning: completion.reasoning, ..prompt }
    }

    /// Tokens of which nothing is said but how many there are, prompt and completion together; 0 when there
    /// are none such.
    #[must_use]
    pub fn undivided(&self) -> u64 {
        if self.last_word() == Tokens::default() { self.usage.total.unwrap_or(0) } else { 0 }
    }

    /// Whether both prompt and completion have been reported, be it as 0.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.calls.is_some() || self.usage.is_whole() || self.aside.is_whole()
    }
}

/// The sum of the calls that a `usage` object lists; none where it lists none.
fn calls(usage: &str) -> Option<Tokens> {
    let mut sum = Tokens::default();
    json::items(json::field(usage, "iterations")?, &mut |call| sum = sum.plus(Counts::read(call).tokens()))
        .ok()?;
    (sum != Tokens::default()).then_some(sum)
}

/// One report of usage, as it is written.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// The prompt, with what was cached of it: OpenAI's chat completions.
    prompt: Option<u64>,
    /// The prompt, without what was cached of it unless `is_cached_within`: Anthropic, OpenAI's responses.
    input: Option<u64>,
    /// Whether what was read from a cache is told as a part of the prompt.
    is_cached_within: bool,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    completion: Option<u64>,
    reasoning: Option<u64>,
    /// All of it. Where that is more than the rest, something of it is said nowhere else.
    total: Option<u64>,
}

impl Counts {
    /// Read an object. What is no number of tokens in it is passed over.
    fn read(usage: &str) -> Self {
        let mut counts = Self::default();
        let _ = json::fields(usage, &mut |name, value| counts.read_field(name, value));
        counts
    }

    fn read_field(&mut self, name: &str, value: &str) {
        let place = match name {
            "prompt_tokens" => &mut self.prompt,
            "input_tokens" | "prompt_n" => &mut self.input,
            "prompt_tokens_details" | "input_tokens_details" => return self.read_prompt_details(value),
            "cached_tokens" | "prompt_cache_hit_tokens" => {
                self.is_cached_within = true;
                &mut self.cache_read
            }
            // Codex's record of a response
            "cached_input_tokens" => {
                self.is_cached_within = true;
                &mut self.cache_read
            }
            "cache_write_input_tokens" => {
                self.is_cached_within = true;
                &mut self.cache_write
            }
            "cache_read_input_tokens" | "cache_n" => &mut self.cache_read,
            "cache_creation_input_tokens" => &mut self.cache_write,
            "cache_creation" => return self.read_cache_creation(value),
            "completion_tokens" | "output_tokens" | "predicted_n" => {
                // Whoever gives both means the same by them.
                self.completion = self.completion.max(whole_number(value));
                return;
            }
            "completion_tokens_details" | "output_tokens_details" => {
                if let Some(tokens) = json::field(value, "reasoning_tokens").and_then(whole_number) {
                    self.reasoning = Some(tokens);
                }
                return;
            }
            "reasoning_tokens" | "reasoning_output_tokens" => &mut self.reasoning,
            "total_tokens" => &mut self.total,
            _ => return,
        };
        if let Some(tokens) = whole_number(value) {
            *place = Some(tokens);
        }
    }

    fn read_prompt_details(&mut self, details: &str) {
        let _ = json::fields(details, &mut |name, value| {
            let place = match name {
                "cached_tokens" => &mut self.cache_read,
                "cache_write_tokens" | "cache_creation_tokens" => &mut self.cache_write,
                _ => return,
            };
            if let Some(tokens) = whole_number(value) {
                *place = Some(tokens);
                self.is_cached_within = true;
            }
        });
    }

    /// The kinds of what was written to a cache, which are together what `cache_creation_input_tokens` says.
    fn read_cache_creation(&mut self, kinds: &str) {
        let mut sum = None;
        let _ = json::fields(kinds, &mut |_, value| {
            if let Some(tokens) = whole_number(value) {
                sum = Some(tokens.saturating_add(sum.unwrap_or(0)));
            }
        });
        self.cache_write = self.cache_write.max(sum);
    }

    /// Take a later report of the same answer.
    fn update(&mut self, later: Self) {
        let over = |place: &mut Option<u64>, value: Option<u64>| {
            if value.is_some_and(|value| value > 0) || place.is_none() {
                *place = value.or(*place);
            }
        };
        let is_cached = later.cache_read.max(later.cache_write).is_some_and(|tokens| tokens > 0);
        if is_cached && later.input.is_some() {
            self.input = later.input;
        }
        over(&mut self.prompt, later.prompt);
        over(&mut self.input, later.input);
        over(&mut self.cache_read, later.cache_read);
        over(&mut self.cache_write, later.cache_write);
        self.is_cached_within |= later.is_cached_within;
        if later.completion_tokens() > 0 || self.completion.is_none() {
            self.completion = later.completion.or(self.completion);
            self.reasoning = later.reasoning;
            self.total = later.total;
        } else if self.total.is_none() {
            self.total = later.total;
        }
    }

    fn is_whole(&self) -> bool {
        let has_completion = self.completion.is_some() || self.reasoning.is_some();
        (self.prompt.is_some() || self.input.is_some()) && has_completion
    }

    /// What was cached, and is said beside the prompt and not within it.
    fn cached_beside(&self) -> u64 {
        let cached = self.cache_read.unwrap_or(0).saturating_add(self.cache_write.unwrap_or(0));
        let prompt = self.prompt.max(self.input).unwrap_or(0);
        let is_beside = match self.prompt {
            // What is more than the prompt is no part of it.
            Some(_) => cached > prompt,
            None => !self.is_cached_within || cached > prompt,
        };
        if is_beside { cached } else { 0 }
    }

    fn prompt_tokens(&self) -> u64 {
        let input = self.input.unwrap_or(0);
        let stated = self.prompt.unwrap_or(0).max(input);
        stated.saturating_add(self.cached_beside())
    }

    /// The completion without a total: what was thought is a part of it, or stands beside it where it is more.
    fn stated_completion(&self) -> u64 {
        let [completion, reasoning] = [self.completion.unwrap_or(0), self.reasoning.unwrap_or(0)];
        if completion < reasoning { completion.saturating_add(reasoning) } else { completion }
    }

    /// What the total has beyond prompt and completion.
    fn excess(&self) -> u64 {
        if self.prompt.is_none() && self.input.is_none() && self.completion.is_none() {
            return 0;
        }
        let stated = self.prompt_tokens().saturating_add(self.stated_completion());
        self.total.unwrap_or(0).saturating_sub(stated)
    }

    fn completion_tokens(&self) -> u64 {
        self.tokens().completion()
    }

    fn tokens(&self) -> Tokens {
        let [read, written] = [self.cache_read.unwrap_or(0), self.cache_write.unwrap_or(0)];
        let (mut prompt, mut completion) = (self.prompt_tokens(), self.stated_completion());
        let mut reasoning = self.reasoning.unwrap_or(0);
        let excess = self.excess();
        let is_of_prompt = prompt == 0
            || self.cached_beside() == 0 && [read, written, read.saturating_add(written)].contains(&excess);
        if is_of_prompt {
            prompt = prompt.saturating_add(excess);
        } else {
            // It was thought.
            completion = completion.saturating_add(excess);
            reasoning = reasoning.max(excess);
        }
        let cached_input = read.min(prompt);
        let cache_write = written.min(prompt - cached_input);
        let reasoning = reasoning.min(completion);
        Tokens {
            input: prompt - cached_input - cache_write,
            cached_input,
            cache_write,
            output: completion - reasoning,
            reasoning,
        }
    }
}

/// A number of tokens: whole, or written as a float or a string by whoever is not strict about that. None for
/// what is no such number.
fn whole_number(value: &str) -> Option<u64> {
    /// The most that every reader of JSON takes as it is written.
    const MOST: u64 = 1 << 53;
    let text = json::text(value);
    let digits = text.as_deref().unwrap_or(value).trim();
    let number = match digits.parse() {
        Ok(number) => number,
        Err(_) => {
            let number = digits.parse::<f64>().ok().filter(|number| *number >= 0.0 && number.is_finite())?;
            // The cast drops a part of a token, which is one.
            let whole = number as u64;
            whole.saturating_add(u64::from(number > whole as f64))
        }
    };
    (number <= MOST).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(usages: &[&str]) -> Report {
        let mut report = Report::default();
        for usage in usages {
            report.read_usage(usage);
        }
        report
    }

    /// Prompt and completion.
    fn said(usages: &[&str]) -> (u64, u64) {
        let tokens = report(usages).tokens();
        (tokens.prompt(), tokens.completion())
    }

    fn of_answer(answer: &str) -> (u64, u64) {
        let mut report = Report::default();
        report.read(answer);
        (report.tokens().prompt(), report.tokens().completion())
    }

    #[test]
    fn every_api_has_its_own_names() {
        for (usage, prompt, completion) in [
            (r#"{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}"#, 7, 3),
            (r#"{"prompt_tokens":7,"total_tokens":7}"#, 7, 0),
            (r#"{"input_tokens":7,"input_tokens_details":{"cached_tokens":5},"output_tokens":3}"#, 7, 3),
            (r#"{"input_tokens":7,"cache_creation_input_tokens":20,"cache_read_input_tokens":null}"#, 27, 0),
            (r#"{"input_tokens":7,"cache_creation":{"ephemeral_5m_input_tokens":1,"x":2}}"#, 10, 0),
            (r#"{"prompt_tokens":7,"input_tokens":7,"completion_tokens":3,"output_tokens":3}"#, 7, 3),
            (r#"{"prompt_tokens":100,"cached_tokens":90,"completion_tokens":3}"#, 100, 3),
            (r#"{"prompt_tokens":100,"prompt_cache_hit_tokens":90,"prompt_cache_miss_tokens":10}"#, 100, 0),
        ] {
            assert_eq!(said(&[usage]), (prompt, completion), "{usage}");
        }
    }

    #[test]
    fn tokens_are_told_apart_by_what_they_cost() {
        for (usage, expected) in [
            (
                r#"{"prompt_tokens":100,"prompt_tokens_details":{"cached_tokens":90,"cache_write_tokens":4},
                    "completion_tokens":30,"completion_tokens_details":{"reasoning_tokens":20}}"#,
                [6, 90, 4, 10, 20],
            ),
            (
                r#"{"input_tokens":6,"cache_read_input_tokens":90,"cache_creation_input_tokens":4,"output_tokens":30}"#,
                [6, 90, 4, 30, 0],
            ),
            (r#"{"prompt_tokens":20,"completion_tokens":198,"total_tokens":623}"#, [20, 0, 0, 198, 405]),
            (
                r#"{"completion_tokens":2,"completion_tokens_details":{"reasoning_tokens":320}}"#,
                [0, 0, 0, 2, 320],
            ),
            (
                r#"{"input_tokens":100,"cached_input_tokens":60,"cache_write_input_tokens":10,"output_tokens":30,
                    "reasoning_output_tokens":20,"total_tokens":130}"#,
                [30, 60, 10, 10, 20],
            ),
        ] {
            let Tokens { input, cached_input, cache_write, output, reasoning } = report(&[usage]).tokens();
            assert_eq!([input, cached_input, cache_write, output, reasoning], expected, "{usage}");
        }
    }

    #[test]
    fn what_was_thought_counts_wherever_it_is_told() {
        const DETAILS: &str = r#""completion_tokens_details":{"reasoning_tokens":60}"#;
        for (rest, completion) in [
            (r#""completion_tokens":80,"total_tokens":100"#, 80),
            (r#""completion_tokens":80,"total_tokens":160"#, 140),
            (r#""completion_tokens":80"#, 80),
            (r#""completion_tokens":0"#, 60),
            (r#""completion_tokens":5"#, 65),
            (r#""total_tokens":90"#, 70),
        ] {
            let usage = std::format!(r#"{{"prompt_tokens":20,{rest},{DETAILS}}}"#);
            assert_eq!(said(&[&usage]), (20, completion), "{usage}");
        }
        assert_eq!(said(&[r#"{"prompt_tokens":20,"completion_tokens":5,"reasoning_tokens":60}"#]), (20, 65));
    }

    #[test]
    fn what_a_total_has_beyond_the_rest_is_of_the_prompt_where_a_cache_explains_it() {
        const COMPLETION: &str = r#""completion_tokens":3,"total_tokens":193"#;
        for (prompt, expected) in [
            (r#""prompt_tokens":100,"cache_read_input_tokens":90"#, (190, 3)),
            (r#""prompt_tokens":10,"cache_read_input_tokens":180"#, (190, 3)),
            (r#""prompt_tokens":100,"cache_read_input_tokens":20"#, (100, 93)),
            (r#""prompt_tokens":100"#, (100, 93)),
            (r#""x":1"#, (190, 3)),
        ] {
            assert_eq!(said(&[&std::format!("{{{prompt},{COMPLETION}}}")]), expected, "{prompt}");
        }
        assert_eq!(said(&[r#"{"prompt_tokens":7,"completion_tokens":3,"total_tokens":1}"#]), (7, 3));
        assert_eq!(said(&[r#"{"total_tokens":9}"#]), (0, 0));
        assert_eq!(report(&[r#"{"total_tokens":9}"#]).undivided(), 9);
    }

    #[test]
    fn numbers_are_numbers_however_they_are_written() {
        for (written, number) in [
            ("7", Some(7)),
            ("7.0", Some(7)),
            ("7.2", Some(8)),
            ("7e2", Some(700)),
            ("\"7\"", Some(7)),
            ("\" 7.0 \"", Some(7)),
            (r#""\u0037""#, Some(7)),
            ("0.0", Some(0)),
            ("9007199254740992", Some(1 << 53)),
            ("9007199254740993", None),
            ("1e300", None),
            ("-1", None),
            ("null", None),
            ("true", None),
            ("\"\"", None),
            ("\"NaN\"", None),
            ("\"inf\"", None),
            ("[7]", None),
            ("{}", None),
        ] {
            assert_eq!(whole_number(written), number, "{written}");
        }
        const ODD: &str =
            r#"{"prompt_tokens":7,"cached_tokens":"x","completion_tokens":3,"total_tokens":-1}"#;
        assert_eq!(said(&[ODD]), (7, 3));
    }

    #[test]
    fn every_billed_call_counts() {
        const CALLS: &str = r#"{"input_tokens":23,"output_tokens":10,"iterations":[
            {"type":"compaction","input_tokens":180,"output_tokens":35},
            {"type":"message","input_tokens":20,"cache_read_input_tokens":3,"output_tokens":10}]}"#;
        assert_eq!(said(&[CALLS]), (203, 45));
        assert_eq!(report(&[CALLS]).tokens().cached_input, 3);
        for none in ["[]", "null", "{}", "[null]", "7"] {
            let usage = std::format!(r#"{{"input_tokens":23,"output_tokens":10,"iterations":{none}}}"#);
            assert_eq!(said(&[&usage]), (23, 10), "{none}");
        }
    }

    #[test]
    fn calls_before_a_stream_starts_count_too() {
        let mut report = Report::default();
        report.read_start(
            r#"{"input_tokens":23,"output_tokens":1,"iterations":[{"input_tokens":180,"output_tokens":35}]}"#,
        );
        assert_eq!((report.tokens().prompt(), report.tokens().completion()), (180, 35));
        assert_eq!(report.last_word().completion(), 0);
    }

    #[test]
    fn the_last_report_counts_and_zeros_take_nothing_back() {
        for (usages, expected) in [
            (&[r#"{"input_tokens":9,"output_tokens":1}"#, r#"{"output_tokens":70}"#][..], (9, 70)),
            (
                &[r#"{"input_tokens":9,"output_tokens":70}"#, r#"{"input_tokens":0,"output_tokens":0}"#],
                (9, 70),
            ),
            (
                &[
                    r#"{"prompt_tokens":9,"completion_tokens":70}"#,
                    r#"{"prompt_tokens":8,"completion_tokens":60}"#,
                ],
                (8, 60),
            ),
            (
                &[
                    r#"{"input_tokens":9,"cache_read_input_tokens":90}"#,
                    r#"{"input_tokens":9,"output_tokens":3}"#,
                ],
                (99, 3),
            ),
            (
                &[
                    r#"{"input_tokens":99}"#,
                    r#"{"input_tokens":0,"cache_read_input_tokens":99,"output_tokens":3}"#,
                ],
                (99, 3),
            ),
            (
                &[
                    r#"{"prompt_tokens":9,"completion_tokens":7,"total_tokens":26}"#,
                    r#"{"completion_tokens":30}"#,
                ],
                (9, 30),
            ),
            (&[r#"{"prompt_tokens":9,"completion_tokens":7}"#, "null", "{", "[]"], (9, 7)),
            (&[r#"{"prompt_tokens":1,"prompt_tokens":9,"completion_tokens":7}"#], (9, 7)),
        ] {
            assert_eq!(said(usages), expected, "{usages:?}");
        }
    }

    #[test]
    fn usage_is_found_where_providers_put_it() {
        for (answer, expected) in [
            (r#"{"usage":null,"usage":{"prompt_tokens":9,"completion_tokens":7}}"#, (9, 7)),
            (
                r#"{"x_groq":{"id":"r","usage":{"prompt_tokens":9,"completion_tokens":7}},"choices":[]}"#,
                (9, 7),
            ),
            (r#"{"choices":[{"index":0,"usage":{"prompt_tokens":9,"completion_tokens":7}}]}"#, (9, 7)),
            (r#"{"timings":{"prompt_n":3,"cache_n":6,"predicted_n":7,"predicted_ms":1.5}}"#, (9, 7)),
            // The usual place counts where it says something.
            (
                r#"{"timings":{"prompt_n":3,"predicted_n":7},"usage":{"prompt_tokens":9,"completion_tokens":7}}"#,
                (9, 7),
            ),
            (
                r#"{"usage":{"prompt_tokens":0,"completion_tokens":0},"x_groq":{"usage":{"prompt_tokens":9,"completion_tokens":7}}}"#,
                (9, 7),
            ),
            (r#"{"choices":[{"message":{"content":"the \"usage\" of it"}}]}"#, (0, 0)),
            ("{\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":7},\"x\":NaN}", (9, 7)),
        ] {
            assert_eq!(of_answer(answer), expected, "{answer}");
        }
    }
}
