//! Random calls, put to the implementation and to the naive model side by side.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use thread_budget_host::{Severity, Threshold};
use thread_budget_tests::{Call, Component, Core, Model, Subject};

const HANDLES: [&str; 3] = ["h0", "h1", "h2"];
const CASES: u32 = 100;
const CALLS_PER_CASE: usize = 100;

fn thread_id() -> impl Strategy<Value = String> {
    prop_oneof![
        30 => select(vec!["a", "b", "ab", "é", "thread-1", "thread-10", "thread-2"]).prop_map(str::to_owned),
        1 => Just(String::new()),
        1 => (1_020..1_030usize).prop_map(|bytes| "x".repeat(bytes)),
        1 => "\\PC{1,12}",
    ]
}

/// Small enough, summed up, for the model's plain f64 arithmetic to be exact.
fn count() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 0..200u64, 0..10_000u64, 0..1u64 << 42]
}

fn limit() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..200u64, 1..10_000u64, 1..1u64 << 50]
}

fn estimate() -> impl Strategy<Value = u64> {
    prop_oneof![count(), any::<u64>(), Just(u64::MAX)]
}

fn thresholds() -> impl Strategy<Value = Vec<Threshold>> {
    let percent = prop_oneof![20 => 1..=100u32, 1 => select(vec![0, 101, u32::MAX])];
    let severity = select(Severity::ALL.to_vec());
    vec((percent, severity).prop_map(|(percent, severity)| Threshold { percent, severity }), 0..6)
}

fn handle() -> impl Strategy<Value = String> {
    select(HANDLES.to_vec()).prop_map(str::to_owned)
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        20 => (thread_id(), count(), count()).prop_map(|(thread_id, prompt_tokens, completion_tokens)| {
            Call::Consume { thread_id, prompt_tokens, completion_tokens }
        }),
        10 => (thread_id(), estimate())
            .prop_map(|(thread_id, estimated_tokens)| Call::CheckBudget { thread_id, estimated_tokens }),
        5 => (handle(), count(), count()).prop_map(|(on, prompt_tokens, completion_tokens)| {
            Call::BudgetConsume { on, prompt_tokens, completion_tokens }
        }),
        2 => limit().prop_map(|max_tokens_per_thread| Call::Configure { max_tokens_per_thread }),
        1 => Just(Call::MaxTokensPerThread {}),
        2 => thresholds().prop_map(|thresholds| Call::SetThresholds { thresholds }),
        1 => Just(Call::Thresholds {}),
        1 => (0..12u32).prop_map(|max_threads| Call::SetMaxThreads { max_threads }),
        3 => (thread_id(), handle()).prop_map(|(thread_id, r#as)| Call::GetBudget { thread_id, r#as }),
        2 => thread_id().prop_map(|thread_id| Call::HasBudget { thread_id }),
        2 => thread_id().prop_map(|thread_id| Call::GetUsage { thread_id }),
        2 => Just(Call::GetAllUsage {}),
        2 => thread_id().prop_map(|thread_id| Call::ResetThread { thread_id }),
        2 => thread_id().prop_map(|thread_id| Call::CleanupThread { thread_id }),
        1 => Just(Call::Clear {}),
        1 => handle().prop_map(|on| Call::BudgetThreadId { on }),
        2 => handle().prop_map(|on| Call::BudgetUsage { on }),
        2 => handle().prop_map(|on| Call::BudgetPercentUsed { on }),
        2 => handle().prop_map(|on| Call::BudgetIsExhausted { on }),
        2 => (handle(), estimate())
            .prop_map(|(on, estimated_tokens)| Call::BudgetCanConsume { on, estimated_tokens }),
        2 => handle().prop_map(|on| Call::BudgetTriggeredThresholds { on }),
        2 => (handle(), thresholds()).prop_map(|(on, thresholds)| Call::BudgetCheckThresholds { on, thresholds }),
    ]
}

fn agree(mut subject: impl Subject, calls: &[Call]) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    // Every handle exists from the start; later calls may move it to another thread.
    let handles = HANDLES.map(|name| Call::GetBudget { thread_id: name.into(), r#as: name.into() });
    for call in handles.iter().chain(calls) {
        prop_assert_eq!(subject.call(call), model.call(call), "{:?}", call);
    }
    let all = Call::GetAllUsage {};
    prop_assert_eq!(subject.call(&all), model.call(&all));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn core_agrees_with_the_model(calls in vec(call(), CALLS_PER_CASE)) {
        agree(Core::default(), &calls)?;
    }

    #[test]
    fn component_agrees_with_the_model(calls in vec(call(), CALLS_PER_CASE)) {
        agree(Component::new(), &calls)?;
    }

    /// The standard library prints an f64 correctly rounded, ties to even.
    #[test]
    fn tenths_are_rounded_as_decimal_output_is(total in any::<u64>(), max in 1..=u64::MAX) {
        let percent = thread_budget_core::percent_of(total, max);
        let printed: f64 = format!("{percent:.1}").parse().expect("a printed float parses");
        prop_assert_eq!(thread_budget_core::round_to_tenth(percent), printed);
    }
}
