//! A small world around exchanges: a registry that is naive, a provider with a will of its own, and a host that
//! carries out what the policy decides, whichever exchange comes next.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use thread_budget_router_core::{
    Acknowledgement, Action, Answer, BudgetExhausted, BudgetWarning, Config, Consumed, Event, Exchange,
    Failure, FailureKind, Held, Hold, Next, ProviderRequest, RegistryError, Request, RequestBody,
    ResponseBody, Severity, Usage,
};

/// A registry as its contract says, without regard for speed.
#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) max_tokens: u64,
    threads: BTreeMap<String, Thread>,
    /// Prompt and completion tokens held, by thread and request.
    pub(crate) holds: BTreeMap<(String, String), [u64; 2]>,
}

#[derive(Default)]
struct Thread {
    max: u64,
    prompt: u64,
    completion: u64,
    requests: u64,
    parent: Option<String>,
    /// Thresholds that were crossed and nobody has acknowledged.
    pending: Vec<u32>,
    crossed: Vec<u32>,
}

const THRESHOLDS: [(u32, Severity); 3] =
    [(75, Severity::Warning), (90, Severity::Critical), (95, Severity::Final)];

impl Registry {
    /// What a thread has used.
    pub(crate) fn used(&self, id: &str) -> u64 {
        self.threads.get(id).map_or(0, |thread| thread.prompt + thread.completion)
    }

    fn open(&mut self, id: &str, max: Option<u64>, parent: Option<String>) {
        let max = max.unwrap_or(self.max_tokens);
        self.threads.entry(id.into()).or_insert_with(|| Thread { max, parent, ..Thread::default() });
    }

    /// A thread and its ancestors, nearest first.
    fn line(&self, id: &str) -> Vec<String> {
        let mut line = vec![id.to_owned()];
        while let Some(parent) = &self.threads[line.last().unwrap()].parent {
            line.push(parent.clone());
        }
        line
    }

    /// What is held in a thread and below it, but for one hold.
    fn held_in(&self, id: &str, but: Option<&(String, String)>) -> u64 {
        let is_below = |thread: &str| self.line(thread).iter().any(|ancestor| ancestor == id);
        let others = self.holds.iter().filter(|(name, _)| Some(*name) != but && is_below(&name.0));
        others.map(|(_, held)| held[0] + held[1]).sum()
    }

    fn left(&self, id: &str, but: Option<&(String, String)>) -> u64 {
        let left = |id: &String| {
            self.threads[id].max.saturating_sub(self.used(id)).saturating_sub(self.held_in(id, but))
        };
        self.line(id).iter().map(left).min().unwrap()
    }

    pub(crate) fn hold(&mut self, hold: Hold) -> Event {
        for opening in hold.open {
            if let Some(parent) = &opening.options.parent {
                self.open(parent, None, None);
            }
            self.open(&opening.thread_id, opening.options.max_tokens, opening.options.parent);
        }
        let id = hold.thread_id;
        self.open(&id, None, None);
        let name = (id.clone(), hold.request_id);
        let old = self.holds.get(&name).copied().unwrap_or_default();
        let left = self.left(&id, Some(&name));
        let least = hold.least_completion_tokens.min(hold.completion_tokens);
        let is_more = hold.prompt_tokens + hold.completion_tokens > old[0] + old[1];
        let completion = if is_more {
            hold.completion_tokens.min(left.saturating_sub(hold.prompt_tokens)).max(old[1])
        } else {
            hold.completion_tokens
        };
        if is_more && (left < hold.prompt_tokens + least || left == 0) {
            let line = self.line(&id);
            let thread = |id: &&String| {
                let (max, used) = (self.threads[*id].max, self.used(id));
                max.saturating_sub(used).saturating_sub(self.held_in(id, Some(&name)))
                    < hold.prompt_tokens + least
                    || max <= used
            };
            let full = line.iter().find(thread).unwrap_or(&line[0]);
            return Event::NotHeld(RegistryError::Exhausted(BudgetExhausted {
                thread_id: full.clone(),
                used: self.used(full),
                held: self.held_in(full, Some(&name)),
                max_tokens: self.threads[full].max,
                requested: hold.prompt_tokens + least,
            }));
        }
        self.holds.insert(name, [hold.prompt_tokens, completion]);
        let thread = &self.threads[&id];
        Event::Held(Held {
            completion_tokens: completion,
            usage: self.usage(&id),
            room: self.left(&id, None),
            severity: self.severity(&id),
            runway: None,
            pending: thread
                .pending
                .iter()
                .map(|&percent| BudgetWarning {
                    threshold_percent: percent,
                    max_tokens: thread.max,
                    message: format!("Warning of {percent}."),
                })
                .collect(),
            repeated: false,
        })
    }

    fn usage(&self, id: &str) -> Usage {
        let &Thread { max, prompt, completion, requests, .. } = &self.threads[id];
        Usage {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: prompt + completion,
            remaining: max.saturating_sub(prompt + completion),
            max_tokens: max,
            request_count: requests,
        }
    }

    fn severity(&self, id: &str) -> Option<Severity> {
        let crossed = &self.threads[id].crossed;
        THRESHOLDS
            .iter()
            .filter(|(percent, _)| crossed.contains(percent))
            .map(|&(_, severity)| severity)
            .max()
    }

    fn settle(&mut self, id: &str, request: &str, used: [u64; 2]) -> Event {
        assert!(self.holds.remove(&(id.into(), request.into())).is_some(), "{request} of {id} is not held");
        for id in self.line(id) {
            let thread = self.threads.get_mut(&id).unwrap();
            thread.prompt += used[0];
            thread.completion += used[1];
            thread.requests += 1;
            for (percent, _) in THRESHOLDS {
                let is_reached = (thread.prompt + thread.completion) * 100 >= u64::from(percent) * thread.max;
                if is_reached && !thread.crossed.contains(&percent) {
                    thread.crossed.push(percent);
                    thread.pending.push(percent);
                }
            }
        }
        Event::Settled(Consumed {
            usage: self.usage(id),
            room: self.left(id, None),
            severity: self.severity(id),
            repeated: false,
        })
    }

    fn acknowledge(&mut self, id: &str, warnings: &[Acknowledgement]) {
        let thread = self.threads.get_mut(id).unwrap();
        thread.pending.retain(|&percent| !warnings.iter().any(|it| it.threshold_percent == percent));
    }
}

/// What a provider does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Does {
    /// It answers with so many tokens, or as many as it was asked for at most. It counts the prompt as this.
    Answers { prompt: u64, completion: u64 },
    /// The status is an error, and nothing is used.
    Refuses(u16),
    /// Nothing comes of it, in this way.
    Fails(FailureKind),
    /// It answers with so many tokens, and breaks off at half.
    Breaks { prompt: u64, completion: u64 },
}

/// A client's request, as it goes on.
pub(crate) struct Call {
    exchange: Exchange,
    api: Api,
    body: Value,
    next: Next,
    /// What the provider was last sent.
    pub(crate) sent: Vec<Sent>,
    /// What is still to come of the answer.
    pieces: Vec<Event>,
    /// The status of the response, once there is one.
    pub(crate) status: Option<u16>,
    pub(crate) is_stream: bool,
    asks_for_stream: bool,
    /// What the client gets.
    pub(crate) received: Vec<u8>,
    wakes_at: u64,
    /// The most that a provider may be asked for, as of the latest hold.
    may: u64,
}

/// A request that a provider got.
pub(crate) struct Sent {
    pub(crate) body: Value,
    /// What the provider used, as it tells.
    pub(crate) used: [u64; 2],
}

/// How a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    Chat,
    Messages,
    Responses,
}

impl Api {
    fn target(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Messages => "/v1/messages",
            Self::Responses => "/v1/responses",
        }
    }

    /// The most output that a request asks for.
    pub(crate) fn ceiling(self, body: &Value) -> Option<u64> {
        match self {
            Self::Chat => {
                [&body["max_completion_tokens"], &body["max_tokens"]].into_iter().find_map(Value::as_u64)
            }
            Self::Messages => body["max_tokens"].as_u64(),
            Self::Responses => body["max_output_tokens"].as_u64(),
        }
    }

    fn answer(self, [prompt, completion]: [u64; 2]) -> String {
        let text = "word".repeat(usize::try_from(completion).unwrap());
        let chat = json!({"prompt_tokens": prompt, "completion_tokens": completion});
        let other = json!({"input_tokens": prompt, "output_tokens": completion});
        match self {
            Self::Chat => json!({"choices": [{"message": {"content": text}}], "usage": chat}),
            Self::Messages => json!({"content": [{"type": "text", "text": text}], "usage": other}),
            Self::Responses => {
                json!({"output": [{"type": "message", "content": [{"text": text}]}], "usage": other})
            }
        }
        .to_string()
    }

    fn events(self, [prompt, completion]: [u64; 2]) -> Vec<String> {
        let event = |event: Value| format!("data: {event}\n\n");
        let mut events = Vec::new();
        if self == Self::Messages {
            events.push(event(json!({"type": "message_start", "message": {"usage": {"input_tokens": prompt, "output_tokens": 1}}})));
        }
        for start in (0..completion).step_by(50) {
            let text = "word".repeat(usize::try_from(50.min(completion - start)).unwrap());
            events.push(event(match self {
                Self::Chat => json!({"choices": [{"delta": {"content": text}}]}),
                Self::Messages => {
                    json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}})
                }
                Self::Responses => json!({"type": "response.output_text.delta", "delta": text}),
            }));
        }
        let other = json!({"input_tokens": prompt, "output_tokens": completion});
        match self {
            Self::Chat => {
                events.push(event(json!({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}})));
                events.push("data: [DONE]\n\n".into());
            }
            Self::Messages => {
                events.push(event(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": completion}})));
                events.push(event(json!({"type": "message_stop"})));
            }
            Self::Responses => {
                events.push(event(json!({"type": "response.completed", "response": {"usage": other}})))
            }
        }
        events
    }
}

/// All of it.
pub(crate) struct World {
    pub(crate) registry: Registry,
    pub(crate) now: u64,
    config: Config,
    exchanges: u64,
}

impl World {
    pub(crate) fn new(max_tokens: u64, config: &Value) -> Self {
        let mut all =
            json!({"upstreams": [{"url": "https://a"}, {"url": "https://b"}], "allow_thread_options": true});
        all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        Self {
            registry: Registry { max_tokens, ..Registry::default() },
            now: 0,
            config: Config::from_json(&all.to_string()).unwrap(),
            exchanges: 0,
        }
    }

    /// A client asks.
    pub(crate) fn call(&mut self, thread: &str, parent: Option<&str>, api: Api, body: &Value) -> Call {
        self.exchanges += 1;
        let parent = parent.map(|parent| format!("x-parent-thread-id: {parent}\n")).unwrap_or_default();
        let mut call = Call {
            exchange: Exchange::new(self.config.clone()),
            api,
            body: body.clone(),
            next: Next::Done,
            sent: Vec::new(),
            pieces: Vec::new(),
            status: None,
            is_stream: false,
            asks_for_stream: body["stream"] == true,
            received: Vec::new(),
            wakes_at: 0,
            may: 0,
        };
        let request = Request {
            id: format!("e{}", self.exchanges),
            chance: self.exchanges,
            date: "2026-11-25".into(),
            method: "POST".into(),
            target: api.target().into(),
            headers: format!("x-thread-id: {thread}\n{parent}").into(),
            body: RequestBody::Whole(body.to_string().into()),
        };
        self.tell(&mut call, Event::Request(request));
        call
    }

    /// Whether a call waits for time to pass.
    pub(crate) fn waits(&self, call: &Call) -> bool {
        matches!(call.next, Next::Wait(_)) && call.wakes_at > self.now
    }

    /// Whether there is nothing left to do.
    pub(crate) fn is_done(call: &Call) -> bool {
        call.next == Next::Done
    }

    /// Do what comes next; `does` is what a provider does with a request, for each that it gets.
    pub(crate) fn go_on(&mut self, call: &mut Call, does: &mut dyn FnMut(&Value) -> Does) {
        let event = match std::mem::replace(&mut call.next, Next::Done) {
            Next::Hold(hold) => {
                let event = self.registry.hold(hold);
                if let Event::Held(held) = &event {
                    call.may = held.completion_tokens + if call.asks_for_stream { held.room } else { 0 };
                }
                event
            }
            Next::Settle(settle) => {
                let used = [settle.prompt_tokens, settle.completion_tokens];
                self.registry.settle(&settle.thread_id, &settle.request_id, used)
            }
            Next::Send(send) => self.send(call, &send, does),
            Next::Read(_) => call.pieces.remove(0),
            Next::Wait(_) => {
                self.now = self.now.max(call.wakes_at);
                Event::Woke
            }
            Next::Recall(_) | Next::Claim(_) => panic!("nobody here has a key, or asks for what was kept"),
            Next::Resume | Next::Done => panic!("there is nothing to go on with"),
        };
        self.tell(call, event);
    }

    /// Tell what has happened, and carry out what can be at once.
    pub(crate) fn tell(&mut self, call: &mut Call, event: Event) {
        let turn = call.exchange.step(self.now, event);
        for action in turn.actions {
            match action {
                Action::Respond(response) => {
                    assert_eq!(call.status, None, "there is one response");
                    call.status = Some(response.status);
                    match response.body {
                        ResponseBody::Whole(body) => call.received = body,
                        ResponseBody::Pieces => call.is_stream = true,
                        ResponseBody::Received => {}
                    }
                }
                Action::Bytes(bytes) => {
                    assert!(call.is_stream, "only a stream has pieces");
                    call.received.extend(bytes);
                }
                Action::Release(name) => {
                    let name = (name.thread_id, name.request_id);
                    assert!(self.registry.holds.remove(&name).is_some(), "{name:?} is not held");
                }
                Action::Acknowledge(it) => self.registry.acknowledge(&it.thread_id, &it.warnings),
                Action::Keep(_) => panic!("nothing here is made in the background"),
                Action::Unidentified(_) | Action::Log(_) => {}
            }
        }
        if let Next::Wait(pause) = turn.next {
            call.wakes_at = self.now + pause;
        }
        // An answer that is not read to its end is dropped.
        if turn.next != Next::Resume {
            call.next = turn.next;
        }
    }

    fn send(
        &mut self,
        call: &mut Call,
        send: &ProviderRequest,
        does: &mut dyn FnMut(&Value) -> Does,
    ) -> Event {
        let body: Value = send
            .body
            .as_deref()
            .map_or_else(|| call.body.clone(), |body| serde_json::from_slice(body).unwrap());
        let headers = |kind: &str| format!("content-type: {kind}\n").into_bytes();
        let does = does(&body);
        let ceiling = call.api.ceiling(&body).unwrap_or(u64::MAX);
        if ceiling < u64::MAX {
            assert!(ceiling <= call.may, "{ceiling} where {} may be asked for", call.may);
        }
        call.pieces.clear();
        let (used, breaks) = match does {
            Does::Answers { prompt, completion } => ([prompt, completion.min(ceiling)], false),
            Does::Breaks { prompt, completion } => ([prompt, completion.min(ceiling)], true),
            Does::Refuses(status) => {
                call.sent.push(Sent { body, used: [0, 0] });
                call.pieces.push(Event::Ended);
                return Event::Answer(Answer {
                    status,
                    headers: headers("application/json"),
                    body: b"{}".to_vec(),
                });
            }
            Does::Fails(kind) => {
                call.sent.push(Sent { body, used: [0, 0] });
                return Event::Failed(Failure { kind, received_bytes: 0, reason: "luck".into() });
            }
        };
        let broken =
            || Event::Failed(Failure { kind: FailureKind::Lost, received_bytes: 100, reason: "luck".into() });
        call.sent.push(Sent { body, used: if breaks { [0, 0] } else { used } });
        if send.whole {
            let answer = call.api.answer(used).into_bytes();
            return if breaks {
                broken()
            } else {
                Event::Answer(Answer { status: 200, headers: headers("application/json"), body: answer })
            };
        }
        let events = call.api.events(used).into_iter().map(|event| Event::Piece(event.into()));
        call.pieces.extend(events);
        if breaks {
            call.pieces.truncate(call.pieces.len() / 2);
            call.pieces.push(broken());
        } else {
            call.pieces.push(Event::Ended);
        }
        Event::Answer(Answer { status: 200, headers: headers("text/event-stream"), body: Vec::new() })
    }
}
