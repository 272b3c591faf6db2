//! Random calls, put to the implementation and to the naive model side by side.

use proptest::collection::vec;
use proptest::prelude::*;
use thread_budget_tests::agreement::{self, Step};
use thread_budget_tests::{Component, Core, Subject, fuzz};

const CASES: u32 = 200;

/// A call takes some five of them.
const BYTES_PER_CASE: usize = 1_500;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec(any::<u8>(), BYTES_PER_CASE).prop_map(|bytes| fuzz::steps(&bytes))
}

fn agree<S: Subject>(fresh: impl Fn() -> S, steps: &[Step]) -> Result<(), TestCaseError> {
    agreement::check(fresh, steps).map_err(TestCaseError::fail)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn core_agrees_with_the_model(steps in steps()) {
        agree(Core::default, &steps)?;
    }

    #[test]
    fn component_agrees_with_the_model(steps in steps()) {
        agree(Component::new, &steps)?;
    }

    /// The standard library prints an f64 correctly rounded, ties to even.
    #[test]
    fn tenths_are_rounded_as_decimal_output_is(total in any::<u64>(), max in 1..=u64::MAX) {
        let percent = thread_budget_core::percent_of(total, max);
        let printed: f64 = format!("{percent:.1}").parse().expect("a printed float parses");
        prop_assert_eq!(thread_budget_core::round_to_tenth(percent), printed);
    }
}
