//! What budgets come to when many requests share them, whatever the providers do.

mod world;

use serde_json::{Value, json};
use thread_budget_router_core::FailureKind;
use world::{Api, Call, Does, World};

const SLICE: u64 = 4_096;

/// Let calls go on in any order until all are done.
fn play(
    world: &mut World,
    calls: &mut [Call],
    luck: &mut fastrand::Rng,
    does: &mut dyn FnMut(&Value) -> Does,
) {
    loop {
        let open: Vec<_> = (0..calls.len()).filter(|&at| !World::is_done(&calls[at])).collect();
        let Some(_) = open.first() else { return };
        // Time passes when everybody waits.
        let ready: Vec<_> = open.iter().copied().filter(|&at| !world.waits(&calls[at])).collect();
        let at = *luck.choice(if ready.is_empty() { &open } else { &ready }).unwrap();
        world.go_on(&mut calls[at], does);
    }
}

fn user(bytes: usize) -> Value {
    json!([{"role": "user", "content": "x".repeat(bytes)}])
}

#[test]
fn parallel_requests_without_a_ceiling_use_the_limit_and_a_slice_each_at_most() {
    for (limit, is_stream, seed) in
        [(10_000, false, 1), (10_000, true, 2), (100_000, false, 3), (100_000, true, 4)]
    {
        let mut world = World::new(limit, &json!({}));
        let body = json!({"messages": user(40), "stream": is_stream});
        let mut calls: Vec<_> = (0..16).map(|_| world.call("a", None, Api::Chat, &body)).collect();
        let mut luck = fastrand::Rng::with_seed(seed);
        play(&mut world, &mut calls, &mut luck, &mut |_| Does::Answers { prompt: 100, completion: 8_568 });
        let used = world.registry.used("a");
        assert!(used <= limit + 16 * SLICE, "{used} of {limit}");
        assert!(used >= limit / 2, "{used} of {limit}");
        assert!(world.registry.holds.is_empty());
    }
}

#[test]
fn four_sub_agents_of_claude_code_on_200_000_all_run() {
    let mut world = World::new(200_000, &json!({}));
    let body = json!({
        "max_tokens": 64_000, "stream": true, "messages": user(10_000),
        "tools": [{"name": "f", "description": "d".repeat(50_000)}]
    });
    let mut luck = fastrand::Rng::with_seed(7);
    for turn in 0..2 {
        let agents = ["1", "2", "3", "4"].map(|agent| (agent, "session"));
        let mut calls: Vec<_> = agents
            .iter()
            .map(|(agent, parent)| world.call(agent, Some(parent), Api::Messages, &body))
            .collect();
        play(&mut world, &mut calls, &mut luck, &mut |_| Does::Answers { prompt: 17_000, completion: 500 });
        for call in &calls {
            assert_eq!(call.status, Some(200), "turn {turn}");
            assert_eq!(call.sent.len(), 1);
            assert_eq!(call.sent[0].body["tool_choice"], Value::Null, "turn {turn}");
        }
    }
    assert_eq!(world.registry.used("session"), 8 * 17_500);
}

/// An agent that goes on and on until it is refused.
#[test]
fn before_a_refusal_there_is_a_last_request() {
    let mut shown = 0;
    for seed in 0..1_000 {
        let mut luck = fastrand::Rng::with_seed(seed);
        let api = *luck.choice(&[Api::Chat, Api::Messages, Api::Responses]).unwrap();
        let limit = *luck.choice(&[3_000, 10_000, 50_000, 200_000]).unwrap();
        let is_stream = luck.bool();
        let asked = *luck.choice(&[None, Some(1_000), Some(32_000), Some(128_000)]).unwrap();
        let asked = if api == Api::Messages { asked.or(Some(4_096)) } else { asked };
        let mut length = luck.usize(100..20_000);
        // How many tokens the provider counts where ten are estimated.
        let real = luck.u64(6..13);
        let mut world = World::new(limit, &json!({}));
        let mut was_last = false;
        let mut requests = 0;
        loop {
            let mut body = match api {
                Api::Responses => json!({"input": user(length), "stream": is_stream}),
                Api::Chat | Api::Messages => json!({"messages": user(length), "stream": is_stream}),
            };
            body["tools"] = json!([{"name": "f"}]);
            let field = if api == Api::Responses { "max_output_tokens" } else { "max_tokens" };
            if let Some(asked) = asked {
                body[field] = asked.into();
            }
            // One answer is a small part of the budget: who could tell before that it is not?
            let wanted = luck.u64(50..1_000).min(limit / 10);
            let prompt = (length as u64 * 2 / 7).max(100) * real / 10;
            let mut calls = [world.call("a", None, api, &body)];
            play(&mut world, &mut calls, &mut luck, &mut |_| Does::Answers { prompt, completion: wanted });
            let [call] = calls;
            if call.status != Some(200) {
                break;
            }
            requests += 1;
            let sent = call.sent.last().unwrap();
            was_last |= sent.body.to_string().contains("This is the last request");
            // The agent's history, and what its tools say.
            length += usize::try_from(sent.used[1]).unwrap() * 4 + luck.usize(0..2_000).min(length / 8);
        }
        if requests > 0 {
            shown += 1;
            assert!(
                was_last,
                "seed {seed}: {requests} requests within {limit}, and then a refusal without a warning"
            );
        }
        assert!(world.registry.holds.is_empty());
    }
    assert!(shown > 600, "only {shown} were refused after a request");
}

#[test]
fn whatever_providers_do_holds_end_and_what_they_tell_is_counted() {
    for seed in 0..300 {
        let mut luck = fastrand::Rng::with_seed(seed);
        let limit = *luck.choice(&[2_000, 20_000, 1_000_000]).unwrap();
        let mut world = World::new(limit, &json!({"retries": 1}));
        let mut calls = Vec::new();
        for number in 0..luck.usize(1..8) {
            let api = *luck.choice(&[Api::Chat, Api::Messages, Api::Responses]).unwrap();
            let field = if api == Api::Responses { "input" } else { "messages" };
            let mut body = json!({field: user(luck.usize(1..4_000)), "stream": luck.bool()});
            if luck.bool() {
                body[if api == Api::Responses { "max_output_tokens" } else { "max_tokens" }] =
                    luck.u64(1..20_000).into();
            }
            let parent = luck.bool().then_some("p");
            calls.push(world.call(&format!("{}{number}", parent.unwrap_or("a")), parent, api, &body));
        }
        let mut fate = fastrand::Rng::with_seed(seed + 1_000);
        play(&mut world, &mut calls, &mut luck, &mut |_| match fate.u32(0..12) {
            0 => Does::Fails(FailureKind::Unsent),
            1 => Does::Fails(FailureKind::Lost),
            2 => Does::Fails(FailureKind::Slow),
            3 => Does::Refuses(*fate.choice(&[400, 401, 422, 429, 500, 503]).unwrap()),
            4 => Does::Breaks { prompt: 150, completion: fate.u64(0..9_000) },
            _ => Does::Answers { prompt: fate.u64(1..1_500), completion: fate.u64(0..9_000) },
        });
        assert!(world.registry.holds.is_empty(), "seed {seed}: {:?}", world.registry.holds);
        for (number, call) in calls.iter().enumerate() {
            assert!(call.status.is_some(), "seed {seed}: call {number} has no response");
            let told: u64 = call.sent.iter().map(|sent| sent.used[0] + sent.used[1]).sum();
            let is_cut = String::from_utf8_lossy(&call.received).contains("budget_exhausted");
            let thread = [format!("a{number}"), format!("p{number}")];
            let used: u64 = thread.iter().map(|id| world.registry.used(id)).sum();
            assert!(used >= told || is_cut, "seed {seed}: call {number} used {told}, and {used} is counted");
        }
    }
}
