//! What is asked and answered, in no provider's form.

use serde_json::{Map, Value};
use std::sync::atomic::{AtomicU64, Ordering};

/// When every answer was made, in seconds since 1970.
pub(super) const CREATED: u64 = 1_795_000_000;

/// What a request asks for.
#[derive(Debug)]
pub(super) struct Asked {
    /// Its number among all requests: what is written down of an answer is known by its id.
    pub(super) number: u64,
    pub(super) model: String,
    pub(super) stream: bool,
    /// Whether a stream of chat completions is to tell its usage.
    pub(super) include_usage: bool,
    /// The most that the answer may have.
    pub(super) max_tokens: Option<u64>,
    /// The end user.
    pub(super) user: Option<String>,
    /// The tools that may be called.
    pub(super) tools: Vec<Tool>,
    /// Whether what is to be answered is a tool's result.
    pub(super) tool_has_answered: bool,
    /// How many results of tools the conversation has.
    pub(super) results: u64,
    /// How many answers the model has given before.
    pub(super) steps: usize,
    /// What the model reads, in tokens.
    pub(super) prompt_tokens: u64,
    /// How many of those are put into the cache, and how many come from there.
    pub(super) cache: (u64, u64),
    /// Whether the model reads that its token budget runs low.
    pub(super) budget_runs_low: bool,
    /// Whether the model is that of an agent which another one has started.
    pub(super) is_sub_agent: bool,
}

/// A tool that may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tool {
    pub(super) name: String,
    /// The set of tools that it belongs to, of clients that have such.
    pub(super) namespace: Option<String>,
    /// The JSON schema of its arguments.
    schema: Value,
}

/// What sub-agents are told to do.
const TASK: &str = "Do your part of the work of this fleet.";

impl Tool {
    /// A function as a request describes it, with its schema in `schema`; none when it is something else.
    pub(super) fn of(function: &Value, schema: &str) -> Option<Self> {
        let name = function["name"].as_str()?.to_owned();
        Some(Self { name, namespace: None, schema: function[schema].clone() })
    }

    /// It as one of a set.
    pub(super) fn within(self, namespace: Option<&str>) -> Self {
        Self { namespace: namespace.map(Into::into), ..self }
    }

    fn takes(&self, argument: &str) -> bool {
        self.schema["properties"].get(argument).is_some()
    }

    /// What it is called with: what it needs, and what it is for.
    fn arguments(&self) -> String {
        let is_required = |name: &str| {
            self.schema["required"].as_array().is_some_and(|names| names.iter().any(|other| other == name))
        };
        let mut arguments = Map::new();
        for name in self.schema["properties"].as_object().into_iter().flat_map(Map::keys) {
            let value = match name.as_str() {
                "command" | "cmd" => "echo done",
                "prompt" | "message" => TASK,
                "subagent_type" => "general",
                _ => "a part of the work",
            };
            if is_required(name) || value == TASK {
                arguments.insert(name.clone(), value.into());
            }
        }
        Value::Object(arguments).to_string()
    }
}

impl Asked {
    /// A plain request of which the model reads these fields.
    pub(super) fn reading(body: &Value, fields: &[&str]) -> Self {
        let mut characters = 0;
        let mut warnings = Vec::new();
        for field in fields {
            for_each_string(&body[field], &mut |text| {
                characters += text.chars().count() as u64;
                warnings.extend(text.contains("of the token budget is used").then(|| text.to_owned()));
            });
        }
        let prompt_tokens = characters.div_ceil(4).max(1);
        // What is read grows with every turn: less than two more of this one is the time to come to an end.
        let budget_runs_low = warnings.iter().any(|text| {
            text.contains("Consider wrapping up")
                || text.contains("next request may fail")
                || tokens_left(text).is_some_and(|left| left < 2 * prompt_tokens)
        });
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            model: body["model"].as_str().unwrap_or_default().into(),
            stream: body["stream"] == true,
            include_usage: body["stream_options"]["include_usage"] == true,
            max_tokens: None,
            user: body["user"].as_str().map(Into::into),
            tools: Vec::new(),
            tool_has_answered: false,
            results: 0,
            steps: 0,
            prompt_tokens,
            cache: (0, 0),
            budget_runs_low,
            is_sub_agent: false,
        }
    }

    /// Take the tools away where the request says that none may be called.
    pub(super) fn without_tools_unless(mut self, may_call: bool) -> Self {
        if !may_call {
            self.tools.clear();
        }
        self
    }
}

/// Whether what a user says, a text or a list of parts with one, is the task of a sub-agent.
pub(super) fn is_task(content: &Value) -> bool {
    let says = |text: &Value| text.as_str().is_some_and(|text| text.contains(TASK));
    says(content) || content.as_array().is_some_and(|parts| parts.iter().any(|part| says(&part["text"])))
}

/// Of a warning such as `Note: 76% of the token budget is used, 23,843 tokens are left.`
fn tokens_left(warning: &str) -> Option<u64> {
    let (before, _) = warning.split_once(" tokens are left")?;
    before.rsplit(' ').next()?.replace(',', "").parse().ok()
}

fn for_each_string(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(values) => values.iter().for_each(|value| for_each_string(value, visit)),
        Value::Object(fields) => fields.values().for_each(|value| for_each_string(value, visit)),
        _ => {}
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) asked: Asked,
    said: Said,
    /// None when it never ends.
    pub(super) completion_tokens: Option<u64>,
    /// What the model wrote for itself, which nobody is shown.
    pub(super) thought_tokens: u64,
    pub(super) finish: Finish,
    pub(super) tells_usage: bool,
}

#[derive(Debug)]
enum Said {
    /// Words that are the same every time.
    Words,
    Text(String),
    /// So many calls of the tool with these arguments.
    Calls {
        tool: Tool,
        arguments: String,
        times: u64,
    },
}

/// Why an answer is at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    Stop,
    Length,
    Tool,
}

impl Answer {
    /// So many words.
    pub(super) fn new(asked: Asked, words: u64) -> Self {
        let finish =
            if asked.max_tokens.is_some_and(|limit| words >= limit) { Finish::Length } else { Finish::Stop };
        Self {
            asked,
            said: Said::Words,
            completion_tokens: Some(words),
            thought_tokens: 0,
            finish,
            tells_usage: true,
        }
    }

    /// Think first; what is allowed is for both.
    pub(super) fn think(&mut self, tokens: u64) {
        let limit = self.asked.max_tokens.unwrap_or(u64::MAX);
        self.thought_tokens = tokens.min(limit);
        let left = limit - self.thought_tokens;
        self.completion_tokens = self.completion_tokens.map(|words| words.min(left));
        if left == 0 {
            self.finish = Finish::Length;
        }
    }

    /// All that it takes, shown or not. Not for one that never ends.
    pub(super) fn output_tokens(&self) -> u64 {
        self.completion_tokens.unwrap_or(0) + self.thought_tokens
    }

    /// Call the first tool instead, when there is one and it has not been called just now.
    pub(super) fn call_tool(&mut self) {
        if let Some(tool) = self.asked.tools.first().cloned().filter(|_| !self.asked.tool_has_answered) {
            self.call(tool, r#"{"city": "Oslo", "unit": "celsius"}"#.into(), 1);
        }
    }

    /// Run a command instead, unless that has been done so often.
    pub(super) fn run_commands(&mut self, times: u64) {
        let tool = self.asked.tools.iter().find(|tool| tool.takes("command") || tool.takes("cmd"));
        if let Some(tool) = tool.cloned().filter(|_| self.asked.results < times) {
            let arguments = tool.arguments();
            self.call(tool, arguments, 1);
        }
    }

    /// Start so many sub-agents instead; false when that has been done, or cannot be.
    pub(super) fn start_agents(&mut self, agents: u64) -> bool {
        let starts =
            |tool: &&Tool| tool.name == "spawn_agent" || tool.takes("prompt") && tool.takes("subagent_type");
        let is_first = self.asked.results == 0 && !self.asked.is_sub_agent;
        let tool = self.asked.tools.iter().find(starts).cloned().filter(|_| is_first);
        let Some(tool) = tool else { return false };
        let arguments = tool.arguments();
        self.call(tool, arguments, agents);
        true
    }

    fn call(&mut self, tool: Tool, arguments: String, times: u64) {
        self.say(Said::Calls { tool, arguments, times });
        self.finish = Finish::Tool;
    }

    /// Say what an agent's model would instead.
    pub(super) fn speak_as_agent(&mut self) {
        let step = self.asked.steps + 1;
        let text = if self.asked.budget_runs_low {
            format!("Summary: {} parts are read, the rest is for whoever goes on from here. FINISH", step - 1)
        } else {
            let words: String = self.pieces().take(40).collect();
            format!("Part {step} is about {words}. CONTINUE")
        };
        self.say(Said::Text(text));
    }

    /// Go on for ever.
    pub(super) fn never_end(&mut self) {
        self.completion_tokens = None;
    }

    /// Within what is allowed, or cut off where that ends.
    fn say(&mut self, said: Said) {
        self.said = said;
        self.completion_tokens = None;
        let pieces = self.pieces().count() as u64;
        let limit = self.asked.max_tokens.unwrap_or(u64::MAX);
        if pieces * self.parts() > limit
            && let Said::Calls { times, .. } = &mut self.said
        {
            *times = 1;
        }
        self.finish = if pieces < limit { Finish::Stop } else { Finish::Length };
        self.completion_tokens = Some(pieces.min(limit) * self.parts());
    }

    /// How many parts it has: calls, all the same, or one text.
    pub(super) fn parts(&self) -> u64 {
        match &self.said {
            Said::Calls { times, .. } => *times,
            Said::Words | Said::Text(_) => 1,
        }
    }

    /// The tokens of a part: words, with the space after them, of its text or of the arguments of its call.
    pub(super) fn pieces(&self) -> Box<dyn Iterator<Item = &str> + Send + '_> {
        let words: Box<dyn Iterator<Item = &str> + Send> = match &self.said {
            Said::Words => {
                Box::new("tokens flow where budgets let them go on, ".split_inclusive(' ').cycle())
            }
            Said::Text(text) => Box::new(text.split_inclusive(' ')),
            Said::Calls { arguments, .. } => Box::new(arguments.split_inclusive(' ')),
        };
        match self.completion_tokens.map(|tokens| tokens / self.parts().max(1)) {
            Some(tokens) => Box::new(words.take(usize::try_from(tokens).unwrap_or(usize::MAX))),
            None => words,
        }
    }

    /// All of a part; not for one that never ends.
    pub(super) fn text(&self) -> String {
        self.pieces().collect()
    }

    /// The tool that it calls.
    pub(super) fn tool(&self) -> Option<&Tool> {
        match &self.said {
            Said::Calls { tool, .. } => Some(tool),
            Said::Words | Said::Text(_) => None,
        }
    }
}
