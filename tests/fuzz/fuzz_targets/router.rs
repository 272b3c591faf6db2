#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thread_budget_tests::fuzz::router(bytes));
