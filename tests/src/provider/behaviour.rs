//! What a model's name says.

use super::answer::{Answer, Asked};
use hyper::StatusCode;
use std::time::Duration;

/// How many words an answer has unless somebody says otherwise.
const WORDS: u64 = 16;

/// What the stub does with a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Behaviour {
    /// How long an answer is.
    words: u64,
    /// Before an answer, or before every event of one.
    pub(super) pause: Duration,
    /// Whether an answer says what it used.
    usage: bool,
    /// Whether every event of a stream says when it was sent.
    pub(super) clock: bool,
    /// How many sub-agents are started first.
    agents: u64,
    /// How many tokens it thinks.
    thought: u64,
    /// How it goes.
    pub(super) course: Course,
}

/// How it goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Course {
    Answer,
    Tool,
    Steps(u64),
    Agent,
    Overlong,
    Endless,
    Error { status: StatusCode, retry_after: Option<u64> },
    FailTwice,
    Drop,
    BrokenJson,
    BrokenStream,
    ChunkBomb,
}

impl Behaviour {
    /// What a model's name says; none when there is no such model.
    pub(super) fn of_model(name: &str) -> Option<Self> {
        let (_, mut rest) = name.split_once("stub")?;
        let mut behaviour = Self {
            words: WORDS,
            pause: Duration::ZERO,
            usage: true,
            clock: false,
            agents: 0,
            thought: 0,
            course: Course::Answer,
        };
        while !rest.is_empty() {
            rest = behaviour.take_part(rest)?;
        }
        Some(behaviour)
    }

    /// Take what `text` begins with; what is left.
    fn take_part<'a>(&mut self, text: &'a str) -> Option<&'a str> {
        for (part, course) in [
            ("-tool", Course::Tool),
            ("-agent", Course::Agent),
            ("-overlong", Course::Overlong),
            ("-endless", Course::Endless),
            ("-fail-twice", Course::FailTwice),
            ("-drop", Course::Drop),
            ("-broken-json", Course::BrokenJson),
            ("-broken-stream", Course::BrokenStream),
            ("-chunk-bomb", Course::ChunkBomb),
        ] {
            if let Some(rest) = text.strip_prefix(part) {
                self.course = course;
                return Some(rest);
            }
        }
        if let Some(rest) = text.strip_prefix("-no-usage") {
            self.usage = false;
            return Some(rest);
        }
        if let Some(rest) = text.strip_prefix("-clock") {
            self.clock = true;
            return Some(rest);
        }
        if let Some(rest) = text.strip_prefix("-fleet-") {
            let (agents, rest) = number(rest)?;
            self.agents = agents;
            return Some(rest);
        }
        if let Some(rest) = text.strip_prefix("-thinks-") {
            let (tokens, rest) = number(rest)?;
            self.thought = tokens;
            return Some(rest);
        }
        if let Some(rest) = text.strip_prefix("-steps-") {
            let (steps, rest) = number(rest)?;
            self.course = Course::Steps(steps);
            return Some(rest);
        }
        if let Some(rest) = text.strip_prefix("-words-") {
            let (words, rest) = number(rest)?;
            self.words = words;
            return Some(rest);
        }
        if let Some(rest) = text.strip_prefix("-slow-") {
            let (milliseconds, rest) = number(rest)?;
            self.pause = Duration::from_millis(milliseconds);
            return rest.strip_prefix("ms");
        }
        if let Some(rest) = text.strip_prefix("-error-") {
            let (status, rest) = number(rest)?;
            let status = StatusCode::from_u16(status.try_into().ok()?).ok()?;
            self.course = Course::Error { status, retry_after: None };
            return Some(rest);
        }
        let rest = text.strip_prefix("-retry-after-")?;
        let Course::Error { retry_after, .. } = &mut self.course else { return None };
        let (seconds, rest) = number(rest)?;
        *retry_after = Some(seconds);
        Some(rest)
    }

    /// What it answers.
    pub(super) fn answer(&self, asked: Asked) -> Answer {
        let words = match (&self.course, asked.max_tokens) {
            (Course::Overlong, limit) => limit.unwrap_or(self.words).saturating_mul(2),
            (_, limit) => self.words.min(limit.unwrap_or(u64::MAX)),
        };
        let mut answer = Answer::new(asked, words);
        answer.tells_usage = self.usage;
        if self.thought > 0 {
            answer.think(self.thought);
        }
        if self.agents > 0 && answer.start_agents(self.agents) {
            return answer;
        }
        match self.course {
            Course::Tool => answer.call_tool(),
            Course::Steps(steps) => answer.run_commands(steps),
            Course::Agent => answer.speak_as_agent(),
            Course::Endless => answer.never_end(),
            _ => {}
        }
        answer
    }
}

/// The number that `text` begins with, and what is left.
fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}
