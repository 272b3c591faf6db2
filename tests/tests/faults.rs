//! What the host library does when a component is not what it should be, traps or does not return.

use std::time::{Duration, Instant};
use thread_budget_host::{
    COMPONENT, Cache, CallError, InvalidInput, LoadError, Registry, RegistryBuilder, blocking,
};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{ManglingAndAbi, Resolve};

/// A component of the contract's world, every function of which has this body.
fn component(body: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let (package, _) =
        resolve.push_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../wit")).expect("the contract parses");
    let world = resolve.select_world(&[package], Some("thread-budget")).expect("it has the world");
    let mangling = ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync);
    let module = wit_component::dummy_module(&resolve, world, mangling);
    let text = wasmprinter::print_bytes(module).expect("it prints").replace("unreachable", body);
    let mut module = wat::parse_str(text).expect("it assembles");
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("it embeds");
    ComponentEncoder::default().module(&module).and_then(|mut encoder| encoder.encode()).expect("it encodes")
}

fn builder() -> RegistryBuilder {
    Registry::builder().cache(Cache::Off)
}

fn build(builder: RegistryBuilder) -> blocking::Registry {
    builder.build().expect("it loads").blocking()
}

#[test]
fn a_trap_is_told_once_and_the_instance_is_lost() {
    let registry = build(builder().component_bytes(component("unreachable")));
    let Err(CallError::Trap { reason }) = registry.has_budget("a") else { panic!("no trap") };
    assert!(reason.contains("unreachable"), "{reason}");

    let lost = CallError::InstanceLost { reason };
    assert_eq!(registry.has_budget("a"), Err(lost.clone()));
    assert_eq!(registry.consume("a", 1, 1), Err(lost.clone()));
    assert_eq!(registry.get_all_usage(), Err(lost.clone()));
    assert_eq!(registry.clone().configure(1), Err(lost), "clones share the instance");
}

#[test]
fn a_call_that_does_not_return_is_stopped() {
    let deadline = Duration::from_millis(50);
    let registry = builder().component_bytes(component("(loop (br 0)) unreachable")).deadline(deadline);
    let registry = build(registry);
    let started = Instant::now();
    assert_eq!(registry.check_budget("a", 1), Err(CallError::Deadline { deadline }));
    assert!(started.elapsed() >= deadline);
    assert!(matches!(registry.check_budget("a", 1), Err(CallError::InstanceLost { .. })));
}

#[test]
fn a_lost_instance_does_not_touch_another() {
    let lost = build(builder().component_bytes(component("unreachable")));
    let registry = build(builder());
    assert!(lost.clear().is_err());
    assert!(registry.consume("a", 1, 1).is_ok());
}

#[test]
fn settings_that_trap_are_a_load_error() {
    let result = builder().component_bytes(component("unreachable")).tokens_per_thread(1).build();
    assert!(matches!(result, Err(LoadError::Settings(CallError::Trap { .. }))), "{result:?}");
}

#[test]
fn settings_out_of_range_are_a_load_error() {
    let result = builder().thresholds([75, 75].map(warn_at)).build();
    let expected = CallError::Invalid(InvalidInput::Threshold { percent: 75 });
    assert!(matches!(result, Err(LoadError::Settings(error)) if error == expected));
}

#[test]
fn what_is_not_a_component_is_refused() {
    for bytes in [&b""[..], b"not wasm", b"\0asm\x01\0\0\0", &COMPONENT[..COMPONENT.len() / 2]] {
        let result = builder().component_bytes(bytes).build();
        assert!(matches!(result, Err(LoadError::Compile(_))), "{result:?}");
    }
}

#[test]
fn a_component_of_another_world_is_refused() {
    for (text, what) in [
        ("(component)", "lacks the exports"),
        (r#"(component (import "host:secrets/read" (func)))"#, "imports something"),
    ] {
        let result = builder().component_bytes(wat::parse_str(text).expect("it assembles")).build();
        assert!(matches!(result, Err(LoadError::Contract(_))), "{what}: {result:?}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let Err(error) = builder().component_path("no/such/component.wasm").build() else { panic!("it loaded") };
    assert!(matches!(error, LoadError::Read { .. }));
    assert!(error.to_string().contains("no/such/component.wasm"), "{error}");
}

#[test]
fn a_memory_cap_below_the_minimum_is_a_load_error() {
    let result = builder().max_memory_bytes((1 << 20) - 1).build();
    assert!(matches!(result, Err(LoadError::MemoryCap { bytes: 1_048_575 })), "{result:?}");
}

#[test]
fn the_memory_cap_is_a_typed_error() {
    let registry = build(builder().max_memory_bytes(1 << 20));
    let mut threads = 0;
    let error = loop {
        match registry.consume(&format!("thread-{threads}"), 1, 1) {
            Ok(_) => threads += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, CallError::OutOfMemory);
    assert_eq!(
        registry.get_usage("thread-0").map(|usage| usage.map(|usage| usage.total_tokens)),
        Ok(Some(2))
    );
}

#[test]
fn bad_input_is_refused_before_it_crosses() {
    // A component that traps on every call would tell.
    let registry = build(builder().component_bytes(component("unreachable")));
    let huge = "x".repeat(100_000_000);
    for (id, bytes) in [("", 0), (huge.as_str(), huge.len())] {
        let invalid = Err(CallError::Invalid(InvalidInput::ThreadId { bytes }));
        assert_eq!(registry.consume(id, 1, 1).map(drop), invalid);
        assert_eq!(registry.check_budget(id, 1), invalid);
        assert_eq!(registry.get_budget(id).map(drop), invalid);
        assert_eq!(registry.has_budget(id), Ok(false));
        assert_eq!(registry.get_usage(id), Ok(None));
        assert_eq!(registry.cleanup_thread(id), Ok(None));
        assert_eq!(registry.reset_thread(id), Ok(()));
        assert_eq!(registry.hold(id, 1, 0, 0).map(drop), invalid);
        assert_eq!(registry.settle(id, "r", 1, 0, true).map(drop), invalid);
        assert_eq!(registry.release(id, "r"), Ok(false));
        assert_eq!(registry.pending_warnings(id), Ok(vec![]));
        assert_eq!(registry.held_tokens(id), Ok(0));
    }
    for (id, bytes) in [("", 0), (huge.as_str(), huge.len())] {
        let invalid = Err(CallError::Invalid(InvalidInput::RequestId { bytes }));
        assert_eq!(registry.hold_once("a", id, 1, 0, 0).map(drop), invalid);
        assert_eq!(registry.settle("a", id, 1, 0, true).map(drop), invalid);
        assert_eq!(registry.settle_lost("a", id, 1, 0).map(drop), invalid);
        assert_eq!(registry.release("a", id), Ok(false));
    }
    let many: Vec<_> = (0..101).map(warn_at).collect();
    let too_many = Err(CallError::Invalid(InvalidInput::TooManyThresholds { count: 101 }));
    assert_eq!(registry.set_thresholds(&many), too_many);
}

#[test]
fn a_handle_outlives_the_registry_value() {
    let registry = build(builder());
    let budget = registry.get_budget("a").expect("a handle");
    drop(registry);
    assert_eq!(budget.consume(1, 2).map(|consumed| consumed.usage.total_tokens), Ok(3));
}

#[test]
fn any_number_of_handles_can_be_alive() {
    const MANY: u64 = 150_000;
    let registry = build(builder());
    let handles: Vec<_> = (0..MANY).map(|_| registry.get_budget("a").expect("room for it")).collect();
    registry.consume("a", 1, 2).expect("recorded");
    assert!(handles.iter().all(|budget| budget.usage().is_ok_and(|usage| usage.total_tokens == 3)));
}

#[test]
fn threads_of_the_process_share_a_registry() {
    let registry = build(builder().tokens_per_thread(u64::MAX));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let budget = registry.get_budget("shared").expect("a handle");
                for _ in 0..500 {
                    registry.consume("shared", 1, 0).expect("recorded");
                    budget.consume(0, 1).expect("recorded");
                }
            });
        }
    });
    let usage = registry.get_usage("shared").expect("no trap").expect("it exists");
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.request_count), (4_000, 4_000, 8_000));
}

fn warn_at(percent: u32) -> thread_budget_host::Threshold {
    thread_budget_host::Threshold { percent, severity: thread_budget_host::Severity::Warning }
}
