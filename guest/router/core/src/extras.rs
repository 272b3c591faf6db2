//! What the router puts into a request, and what of it is taken back where a provider refuses it.

use crate::api::Api;
use crate::body::{BadRequest, Body, Fields, present};
use crate::json;
use crate::splice::Splice;
use alloc::string::{String, ToString};

/// The least budget for thinking that Anthropic takes.
const LEAST_THINKING: u64 = 1_024;

/// What a request carries beside what the client wrote.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    /// Whether a stream is asked to say what it used.
    pub(crate) asks_for_usage: bool,
    /// What the agent is told; empty when nothing.
    note: String,
    /// Whether the model's tools are taken away.
    no_tools: bool,
    /// Whether a provider has refused the request for either.
    is_refused: bool,
    /// The most output that may be asked for, for each answer.
    pub(crate) ceiling: Option<u64>,
    /// Which of the API's fields the ceiling is added in, where the client gives none of them.
    ceiling_field: usize,
}

impl Extras {
    /// What a request needs whatever its budget. What the router adds to must be readable in one way only.
    pub(crate) fn of(api: &dyn Api, fields: &Fields<'_>) -> Result<Self, BadRequest> {
        let is_asked = include_usage(fields)?.is_some_and(|value| value == "true");
        let asks_for_usage = api.must_ask_for_usage() && fields.is_stream()? && !is_asked;
        Ok(Self { asks_for_usage, ..Self::default() })
    }

    /// What a request needs for the budget that it was granted.
    pub(crate) fn admit(&mut self, note: String, no_tools: bool, ceiling: Option<u64>) {
        if !self.is_refused {
            self.note = note;
            self.no_tools = no_tools;
        }
        self.ceiling = ceiling;
    }

    /// Whether a request gives the model tools that can be taken away.
    pub(crate) fn has_tools(api: &dyn Api, fields: &Fields<'_>) -> bool {
        tools_off(api, fields).next().is_some()
    }

    /// Whether the request carries a note.
    pub(crate) fn has_note(&self) -> bool {
        !self.note.is_empty()
    }

    /// The body with all that in it; none when it is what the client sent. Where there is no place for a note,
    /// there is none.
    pub(crate) fn apply(&mut self, api: &dyn Api, body: &Body) -> Option<String> {
        let fields = body.fields();
        let mut splice = Splice::new(body.text());
        if self.asks_for_usage {
            ask_for_usage(&fields, &mut splice);
        }
        if let Some(ceiling) = self.ceiling {
            self.lower(api, &fields, ceiling, &mut splice);
        }
        if self.no_tools {
            for &[_, name, off] in tools_off(api, &fields) {
                splice.set_field(fields.get(name), name, off);
            }
        }
        if !self.note.is_empty() && !api.add_note(&fields, &self.note, &mut splice) {
            self.note.clear();
        }
        splice.finish()
    }

    /// A provider has refused the request: take something back that may be why, and say what; none where
    /// nothing of this can be why.
    pub(crate) fn take_back(
        &mut self,
        api: &dyn Api,
        fields: &Fields<'_>,
        status: u16,
        answer: &[u8],
    ) -> Option<&'static str> {
        // Of these the reason is known: the key, the path, the money, the time, the number of requests.
        let may_be_why = (400..600).contains(&status) && !matches!(status, 401..=404 | 407 | 408 | 429);
        if !may_be_why {
            return None;
        }
        let answer = String::from_utf8_lossy(answer);
        let is_bad_request = matches!(status, 400 | 422);
        let added = self.added_ceiling(api, fields);
        if self.asks_for_usage && answer.contains("stream_options") {
            self.asks_for_usage = false;
            Some("the request for usage")
        } else if let Some(field) = added
            && answer.contains(field)
        {
            self.next_ceiling(api)
        } else if !self.note.is_empty() || self.no_tools {
            self.note.clear();
            self.no_tools = false;
            self.is_refused = true;
            Some("the note")
        } else if self.asks_for_usage && is_bad_request {
            self.asks_for_usage = false;
            Some("the request for usage")
        } else if added.is_some() && is_bad_request {
            self.next_ceiling(api)
        } else {
            None
        }
    }

    /// The field that a ceiling is added in; none when none is.
    fn added_ceiling(&self, api: &dyn Api, fields: &Fields<'_>) -> Option<&'static str> {
        self.ceiling?;
        let is_given = api.ceilings().iter().any(|name| present(fields.get(name)).is_some());
        if is_given { None } else { api.ceilings().get(self.ceiling_field).copied() }
    }

    fn next_ceiling(&mut self, api: &dyn Api) -> Option<&'static str> {
        self.ceiling_field += 1;
        if self.ceiling_field >= api.ceilings().len() {
            self.ceiling = None;
        }
        Some("the limit of output")
    }

    /// Ask for no more output than that.
    fn lower<'a>(&self, api: &dyn Api, fields: &Fields<'a>, ceiling: u64, splice: &mut Splice<'a>) {
        let json = ceiling.to_string();
        if let Some(name) = self.added_ceiling(api, fields) {
            splice.set_field(fields.get(name), name, &json);
        }
        for name in api.ceilings() {
            let is_more = |value: &&str| value.parse().is_ok_and(|asked: u64| asked > ceiling);
            if let Some(value) = present(fields.get(name)).filter(is_more) {
                splice.replace(value, json.clone());
            }
        }
        if let Some(thinking) = fields.thinking {
            lower_thinking(thinking, ceiling, splice);
        }
    }
}

/// What takes the tools of a request away.
fn tools_off<'a>(
    api: &dyn Api,
    fields: &'a Fields<'_>,
) -> impl Iterator<Item = &'static [&'static str; 3]> + use<'a> {
    let are_some =
        |list| fields.get(list).is_some_and(|tools| json::is_array(tools) && !json::is_empty_array(tools));
    api.tools_off().iter().filter(move |[list, ..]| are_some(list))
}

/// Keep a budget for thinking below the output that it is part of: three quarters of that, or none.
fn lower_thinking<'a>(thinking: &'a str, ceiling: u64, splice: &mut Splice<'a>) {
    let Some(value) = json::field(thinking, "budget_tokens") else { return };
    let Some(budget) = value.parse::<u64>().ok().filter(|&budget| budget >= ceiling) else { return };
    let within = budget.min(ceiling / 4 * 3);
    if within >= LEAST_THINKING {
        splice.replace(value, within.to_string());
    } else {
        splice.replace(thinking, r#"{"type":"disabled"}"#.into());
    }
}

fn include_usage<'a>(fields: &Fields<'a>) -> Result<Option<&'a str>, BadRequest> {
    Fields::inner(fields.stream_options, "include_usage")
}

fn ask_for_usage<'a>(fields: &Fields<'a>, splice: &mut Splice<'a>) {
    const ASK: &str = r#"{"include_usage":true}"#;
    match (fields.stream_options.filter(|options| json::is_object(options)), include_usage(fields)) {
        (Some(_), Ok(Some(value))) => splice.replace(value, "true".into()),
        (Some(options), _) => splice.add_field(options, "include_usage", "true"),
        (None, _) => splice.set_field(fields.stream_options, "stream_options", ASK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::vec::Vec;

    fn applied(path: &str, body: &Value, set: impl FnOnce(&mut Extras)) -> Value {
        let api = crate::api::of(path).unwrap();
        let body = Body::read(body.to_string().into_bytes()).unwrap();
        let mut extras = Extras::of(api, &body.fields()).unwrap();
        set(&mut extras);
        extras.apply(api, &body).map_or(Value::Null, |body| serde_json::from_str(&body).unwrap())
    }

    const CHAT: &str = "/v1/chat/completions";
    const MESSAGES: &str = "/v1/messages";
    const RESPONSES: &str = "/v1/responses";

    #[test]
    fn usage_is_asked_for_where_the_client_has_not() {
        let asked = |options: Option<Value>| {
            let mut body = json!({"messages": [], "stream": true});
            if let Some(options) = options {
                body["stream_options"] = options;
            }
            applied(CHAT, &body, |_| {})["stream_options"].clone()
        };
        let usage = json!({"include_usage": true});
        for options in [
            None,
            Some(json!(null)),
            Some(json!({})),
            Some(json!({"include_usage": false})),
            Some(json!({"include_usage": null})),
        ] {
            assert_eq!(asked(options), usage);
        }
        assert_eq!(asked(Some(json!({"x": 1}))), json!({"include_usage": true, "x": 1}));
        assert_eq!(asked(Some(usage)), json!(null), "nothing changes");
        assert_eq!(applied(CHAT, &json!({"messages": []}), |_| {}), json!(null));
        assert_eq!(applied(MESSAGES, &json!({"messages": [], "stream": true}), |_| {}), json!(null));
    }

    #[test]
    fn a_ceiling_is_lowered_where_it_stands_and_added_where_none_does() {
        let lowered = |path, body: Value| applied(path, &body, |extras| extras.ceiling = Some(50));
        assert_eq!(
            lowered(CHAT, json!({"max_tokens": 60, "max_completion_tokens": 40}))["max_tokens"],
            json!(50)
        );
        assert_eq!(lowered(CHAT, json!({"max_completion_tokens": 40})), json!(null));
        assert_eq!(
            lowered(CHAT, json!({"max_tokens": null})),
            json!({"max_tokens": null, "max_completion_tokens": 50})
        );
        assert_eq!(
            lowered(CHAT, json!({"max_completion_tokens": null})),
            json!({"max_completion_tokens": 50})
        );
        assert_eq!(lowered(RESPONSES, json!({})), json!({"max_output_tokens": 50}));
        assert_eq!(lowered(MESSAGES, json!({"max_tokens": 64_000})), json!({"max_tokens": 50}));
        assert_eq!(lowered("/v1/embeddings", json!({"input": "x"})), json!(null));
    }

    #[test]
    fn thinking_stays_below_the_ceiling() {
        let thinking = |budget: u64, ceiling: u64| {
            let body =
                json!({"max_tokens": 64_000, "thinking": {"type": "enabled", "budget_tokens": budget}});
            applied(MESSAGES, &body, |extras| extras.ceiling = Some(ceiling))["thinking"].clone()
        };
        let enabled = |budget: u64| json!({"type": "enabled", "budget_tokens": budget});
        assert_eq!(thinking(10_000, 20_000), enabled(10_000));
        assert_eq!(thinking(32_000, 20_000), enabled(15_000));
        assert_eq!(thinking(2_000, 2_000), enabled(1_500));
        assert_eq!(thinking(1_024, 1_024), json!({"type": "disabled"}));
    }

    #[test]
    fn tools_are_off_where_there_are_any() {
        let off = |path, body: Value| applied(path, &body, |extras| extras.no_tools = true);
        assert_eq!(off(CHAT, json!({"tools": [{}], "tool_choice": "auto"}))["tool_choice"], json!("none"));
        assert_eq!(off(CHAT, json!({"functions": [{}]}))["function_call"], json!("none"));
        assert_eq!(off(RESPONSES, json!({"tools": [{}]}))["tool_choice"], json!("none"));
        assert_eq!(off(MESSAGES, json!({"tools": [{}]}))["tool_choice"], json!({"type": "none"}));
        for body in [json!({}), json!({"tools": []}), json!({"tools": null})] {
            assert_eq!(off(CHAT, body), json!(null));
        }
    }

    fn noted(path: &str, conversation: Value) -> Value {
        let name = if path == RESPONSES { "input" } else { "messages" };
        applied(path, &json!({name: conversation}), |extras| extras.note = "N".into())[name].clone()
    }

    #[test]
    fn a_note_ends_what_the_user_or_a_tool_said_last() {
        let call = json!({"role": "assistant", "content": null, "tool_calls": [{"id": "a"}, {"id": "b"}]});
        let system = json!({"role": "system", "content": "s"});
        for (role, content, expected) in [
            ("user", json!("hi"), json!("hi\n\nN")),
            (
                "user",
                json!([{"type": "image_url"}]),
                json!([{"type": "image_url"}, {"type": "text", "text": "N"}]),
            ),
            ("tool", json!("42"), json!("42\n\nN")),
            ("function", json!("42"), json!("42\n\nN")),
        ] {
            let message = |content: &Value| json!({"role": role, "content": content});
            assert_eq!(noted(CHAT, json!([call, message(&content)])), json!([call, message(&expected)]));
            assert_eq!(noted(CHAT, json!([message(&content), system])), json!([message(&expected), system]));
        }
        for nowhere in [
            json!([]),
            json!([call]),
            json!([system]),
            json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": "I"}]),
            json!(7),
            json!([{"role": "user"}]),
        ] {
            assert_eq!(noted(CHAT, nowhere.clone()), json!(null), "{nowhere}");
        }
    }

    #[test]
    fn a_note_is_a_block_of_its_own_behind_the_last() {
        let user = |content: Value| json!([{"role": "user", "content": content}]);
        let block = |text: &str| json!({"type": "text", "text": text});
        assert_eq!(noted(MESSAGES, user(json!("hi"))), user(json!([block("hi"), block("N")])));
        let result = json!({"type": "tool_result", "tool_use_id": "t", "content": "42", "cache_control": {"type": "ephemeral"}});
        assert_eq!(noted(MESSAGES, user(json!([result]))), user(json!([result, block("N")])));
        assert_eq!(
            noted(MESSAGES, json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": "{"}])),
            json!(null)
        );
    }

    #[test]
    fn a_note_is_an_item_behind_the_last() {
        let item =
            json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "N"}]});
        assert_eq!(noted(RESPONSES, json!("hi")), json!("hi\n\nN"));
        for last in [
            json!({"role": "user", "content": "hi"}),
            json!({"type": "function_call_output", "call_id": "a", "output": "x"}),
            json!({"type": "local_shell_call_output", "id": "a", "output": "x"}),
        ] {
            assert_eq!(noted(RESPONSES, json!([last])), json!([last, item]));
        }
        for last in [
            json!({"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}),
            json!({"type": "reasoning"}),
            json!({"role": "assistant", "content": "I"}),
        ] {
            assert_eq!(noted(RESPONSES, json!([last])), json!(null), "{last}");
        }
        assert_eq!(noted(RESPONSES, json!([])), json!(null));
    }

    #[test]
    fn what_a_provider_refuses_is_taken_back_one_by_one() {
        let api = crate::api::of(CHAT).unwrap();
        let body =
            Body::read(br#"{"stream":true,"messages":[{"role":"user","content":"x"}]}"#.to_vec()).unwrap();
        let fields = body.fields();
        let all = || Extras {
            note: "N".into(),
            no_tools: true,
            ceiling: Some(9),
            ..Extras::of(api, &fields).unwrap()
        };
        let mut extras = all();
        for status in [401, 403, 404, 429, 200] {
            assert_eq!(extras.take_back(api, &fields, status, b"stream_options"), None, "{status}");
        }
        let mut taken = Vec::new();
        while let Some(what) = extras.take_back(api, &fields, 400, b"") {
            taken.push((what, extras.ceiling));
        }
        assert_eq!(
            taken,
            [
                ("the note", Some(9)),
                ("the request for usage", Some(9)),
                ("the limit of output", Some(9)),
                ("the limit of output", None)
            ]
        );
        let mut extras = all();
        assert_eq!(
            extras.take_back(api, &fields, 422, b"extra: stream_options"),
            Some("the request for usage")
        );
        assert_eq!(
            extras.take_back(api, &fields, 400, b"max_completion_tokens?"),
            Some("the limit of output")
        );
        assert_eq!(extras.take_back(api, &fields, 500, b"template"), Some("the note"));
        assert_eq!(extras.take_back(api, &fields, 500, b""), None);
    }
}
