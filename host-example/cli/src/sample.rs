//! The records that `replay` uses when it is given none: synthetic, the same every time.

use std::fmt::Write;

/// What the sample is called where a file's name would stand.
pub(super) const NAME: &str = "built-in synthetic sample";

const THREADS: u64 = 24;

/// Agents in tool loops: every turn sends the conversation so far and gets a short answer, so that
/// prompts grow until the agent is done. A few never are, which is what budgets are for.
pub(super) fn jsonl() -> String {
    let mut random = Random(0x7468_7265_6164);
    let mut threads: Vec<Thread> = (0..THREADS).map(|number| Thread::new(number, &mut random)).collect();
    let mut text = String::new();
    while threads.iter().any(|thread| thread.turns_left > 0) {
        for thread in threads.iter_mut().filter(|thread| thread.turns_left > 0) {
            // Agents wait for tools and people; some turns of the clock pass without one of theirs.
            if random.below(3) > 0 {
                thread.turn(&mut random, &mut text);
            }
        }
    }
    text
}

struct Thread {
    number: u64,
    turns_left: u64,
    context_tokens: u64,
}

impl Thread {
    fn new(number: u64, random: &mut Random) -> Self {
        let runs_away = number % 8 == 5;
        let turns_left = if runs_away { 24 } else { 2 + random.below(9) };
        Self { number, turns_left, context_tokens: 600 + random.below(2_400) }
    }

    fn turn(&mut self, random: &mut Random, text: &mut String) {
        let prompt_tokens = self.context_tokens;
        let completion_tokens = 40 + random.below(700);
        self.context_tokens += completion_tokens + random.below(900);
        self.turns_left -= 1;
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            r#"{{"thread_id":"synthetic-{:02}","prompt_tokens":{prompt_tokens},"completion_tokens":{completion_tokens}}}"#,
            self.number
        );
    }
}

/// A linear congruential generator (Knuth's MMIX constants): no entropy wanted here.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
