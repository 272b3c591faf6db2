//! The component itself, without the host library's guards in front of it.

use bindings::ThreadBudget;
use bindings::exports::thread_budget::registry::types::{
    RegistryError, Severity, Threshold, ThresholdCrossed,
};
use std::path::Path;
use thread_budget_host::COMPONENT;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store, StoreLimits, StoreLimitsBuilder};
use wit_component::{DecodedWasm, WitPrinter};
use wit_parser::Resolve;

mod bindings {
    wasmtime::component::bindgen!({ path: "../wit", world: "thread-budget" });
}

struct Instance {
    store: Store<StoreLimits>,
    exports: ThreadBudget,
}

impl Instance {
    fn new(max_memory_bytes: usize) -> Self {
        let engine = Engine::default();
        let component = Component::new(&engine, COMPONENT).expect("it compiles");
        let limits = StoreLimitsBuilder::new().memory_size(max_memory_bytes).build();
        let mut store = Store::new(&engine, limits);
        store.limiter(|limits| limits);
        let exports = ThreadBudget::instantiate(&mut store, &component, &Linker::new(&engine))
            .expect("it instantiates");
        Self { store, exports }
    }

    fn consume(&mut self, id: &str, tokens: u64) -> Result<Vec<ThresholdCrossed>, RegistryError> {
        let result =
            self.exports.thread_budget_registry_registry().call_consume(&mut self.store, id, tokens, 0);
        result.expect("no trap").map(|consumed| consumed.crossed)
    }

    fn check_budget(&mut self, id: &str, tokens: u64) -> Result<(), RegistryError> {
        let registry = self.exports.thread_budget_registry_registry();
        registry.call_check_budget(&mut self.store, id, tokens).expect("no trap")
    }

    fn number_of_threads(&mut self) -> usize {
        let registry = self.exports.thread_budget_registry_registry();
        registry.call_get_all_usage(&mut self.store).expect("no trap").len()
    }

    fn has_budget(&mut self, id: &str) -> bool {
        self.exports.thread_budget_registry_registry().call_has_budget(&mut self.store, id).expect("no trap")
    }

    fn cleanup_thread(&mut self, id: &str) -> bool {
        let registry = self.exports.thread_budget_registry_registry();
        registry.call_cleanup_thread(&mut self.store, id).expect("no trap").is_some()
    }

    fn set_thresholds(&mut self, thresholds: &[Threshold]) -> Result<(), RegistryError> {
        let registry = self.exports.thread_budget_registry_registry();
        registry.call_set_thresholds(&mut self.store, thresholds).expect("no trap")
    }
}

const PLENTY: usize = 1 << 30;

#[test]
fn imports_nothing() {
    let mut depth = 0;
    for payload in wasmparser::Parser::new(0).parse_all(COMPONENT) {
        match payload.expect("a valid component") {
            wasmparser::Payload::ModuleSection { .. } | wasmparser::Payload::ComponentSection { .. } => {
                depth += 1
            }
            wasmparser::Payload::End(_) if depth > 0 => depth -= 1,
            wasmparser::Payload::ComponentImportSection(imports) if depth == 0 => {
                assert_eq!(imports.count(), 0, "the component imports something");
            }
            wasmparser::Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    // What the component model itself provides for the resource that it exports, or
                    // what one of its modules gets from another. Nothing comes from outside.
                    let module = import.expect("a valid import").module;
                    assert!(
                        module == "[export]thread-budget:registry/registry@0.1.0" || module.is_empty(),
                        "a core module imports from {module:?}"
                    );
                }
            }
            _ => {}
        }
    }
}

#[test]
fn exports_the_contract_word_for_word() {
    let DecodedWasm::Component(decoded, world) = wit_component::decode(COMPONENT).expect("it decodes") else {
        panic!("not a component");
    };
    assert!(decoded.worlds[world].imports.is_empty());
    let mut exports: Vec<_> =
        decoded.worlds[world].exports.keys().map(|key| decoded.name_world_key(key)).collect();
    exports.sort();
    assert_eq!(
        exports,
        ["registry", "types", "warnings"].map(|name| format!("thread-budget:registry/{name}@0.1.0"))
    );

    let mut source = Resolve::default();
    source.push_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit")).expect("the contract parses");
    // The component has the interfaces, the source also the world.
    for (_, interface) in &source.interfaces {
        let name = interface.name.as_deref().expect("a named interface");
        let print = |resolve: &Resolve| {
            let mut printer = WitPrinter::default();
            printer.emit_docs(false);
            let found = resolve.packages.iter().flat_map(|(_, package)| package.interfaces.get(name));
            for id in found {
                printer.print_interface_outer(resolve, *id, name).expect("it prints");
            }
            printer.output.to_string()
        };
        assert!(!print(&source).is_empty());
        assert_eq!(print(&decoded), print(&source), "interface {name}");
    }
}

#[test]
fn is_small() {
    assert!(COMPONENT.len() <= 96 << 10, "{} bytes", COMPONENT.len());
}

#[test]
fn no_id_traps() {
    let mut instance = Instance::new(PLENTY);
    for (id, valid) in [
        (String::new(), false),
        ("x".into(), true),
        ("x".repeat(1_024), true),
        ("x".repeat(1_025), false),
        ("é".repeat(512), true),
        ("é".repeat(513), false),
        ("x".repeat(50 << 20), false),
        ("\0".into(), true),
        ("\u{10FFFF}\u{FEFF}".into(), true),
    ] {
        assert_eq!(instance.consume(&id, 1).is_ok(), valid, "{} bytes", id.len());
        assert_eq!(instance.check_budget(&id, 1).is_ok(), valid);
        assert_eq!(instance.has_budget(&id), valid);
        assert_eq!(instance.cleanup_thread(&id), valid);
    }
    assert_eq!(instance.number_of_threads(), 0);
}

#[test]
fn no_count_traps() {
    let mut instance = Instance::new(PLENTY);
    let counts = [0, 1, (1 << 53) + 1, u64::MAX / 100, u64::MAX / 100 + 1, u64::MAX - 1, u64::MAX];
    for limit in counts {
        instance
            .exports
            .thread_budget_registry_registry()
            .call_configure(&mut instance.store, limit)
            .expect("no trap");
        for first in counts {
            for second in counts {
                let id = format!("{limit} {first} {second}");
                assert!(instance.consume(&id, first).is_ok());
                assert!(instance.consume(&id, second).is_ok());
                let _ = instance.check_budget(&id, first);
            }
        }
    }
}

#[test]
fn no_list_of_thresholds_traps() {
    let mut instance = Instance::new(PLENTY);
    for length in [0, 1, 100, 101, 1_000_000] {
        let many: Vec<_> =
            (0..length).map(|n| Threshold { percent: n + 1, severity: Severity::Warning }).collect();
        assert_eq!(instance.set_thresholds(&many).is_ok(), length <= 100);

        let registry = instance.exports.thread_budget_registry_registry();
        let id = length.to_string();
        let budget = registry.call_get_budget(&mut instance.store, &id).expect("no trap").expect("a budget");
        let handle = registry.thread_budget();
        handle.call_consume(&mut instance.store, budget, u64::MAX, 0).expect("no trap");
        handle.call_check_thresholds(&mut instance.store, budget, &many).expect("no trap");
        let fired = handle.call_triggered_thresholds(&mut instance.store, budget).expect("no trap");
        assert!(fired.len() <= 100);
        budget.resource_drop(&mut instance.store).expect("no trap");
    }
}

#[test]
fn no_warning_traps() {
    let mut instance = Instance::new(PLENTY);
    for percent_used in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, -1.0, 5e-324, 0.5, 1e15, 1e300] {
        let crossed = ThresholdCrossed {
            thread_id: "x".repeat(10_000),
            threshold_percent: u32::MAX,
            severity: Severity::Final,
            percent_used,
            tokens_used: u64::MAX,
            tokens_remaining: u64::MAX,
            max_tokens: 0,
        };
        let warnings = instance.exports.thread_budget_registry_warnings();
        let warning = warnings.call_budget_warning(&mut instance.store, &crossed).expect("no trap");
        assert!(warning.message.starts_with("CRITICAL: "), "{}", warning.message);
    }
}

#[test]
fn a_million_threads() {
    let mut instance = Instance::new(512 << 20);
    for n in 0..1_000_000u32 {
        assert!(instance.consume(&format!("conversation-{n:08}"), 1).is_ok());
    }
    assert_eq!(instance.number_of_threads(), 1_000_000, "512 MiB are enough to list them, too");
    assert!(instance.cleanup_thread("conversation-00777777"));
    instance.exports.thread_budget_registry_registry().call_clear(&mut instance.store).expect("no trap");
    assert_eq!(instance.number_of_threads(), 0);
}

/// Fill the memory to the cap with ids of one length, then do everything that a full registry must
/// still do. Different caps and lengths hit the end at different places.
#[test]
fn memory_cap_reached_while_growing() {
    for max_memory_bytes in [1 << 20, (1 << 20) + 65_536, 3 << 20] {
        for id_bytes in [8, 40, 1_024] {
            fill_and_go_on(max_memory_bytes, id_bytes);
        }
    }
}

fn fill_and_go_on(max_memory_bytes: usize, id_bytes: usize) {
    let id = |n: usize| format!("{n:0id_bytes$}");
    let mut instance = Instance::new(max_memory_bytes);
    let all: Vec<_> = (1..=100).map(|percent| Threshold { percent, severity: Severity::Final }).collect();
    instance.set_thresholds(&all).expect("valid thresholds");

    let mut threads = 0;
    while instance.check_budget(&id(threads), 1).is_ok() {
        threads += 1;
    }
    assert!(threads > 100, "{threads} threads fit in {max_memory_bytes} bytes");
    for _ in 0..3 {
        assert!(matches!(instance.consume(&id(threads), 1), Err(RegistryError::OutOfMemory)));
        let registry = instance.exports.thread_budget_registry_registry();
        let handle = registry.call_get_budget(&mut instance.store, &id(0)).expect("no trap");
        assert!(matches!(handle, Err(RegistryError::OutOfMemory)), "a handle takes memory too");
    }

    // The largest answers that a thread can cause: every threshold at once, with the id in each.
    for n in 0..threads {
        assert_eq!(instance.consume(&id(n), 1_000_000).expect("the thread exists").len(), 100);
        assert!(matches!(instance.check_budget(&id(n), 1), Err(RegistryError::Exhausted(_))));
    }
    let listed = instance.number_of_threads();
    assert!(listed == threads || listed == 0, "{listed} of {threads} are listed");

    // Make room, and there is room.
    for n in 0..threads {
        assert!(instance.cleanup_thread(&id(n)));
    }
    // A few less than before may fit, since what is free is in other pieces now.
    for n in 0..threads * 95 / 100 {
        assert!(instance.consume(&id(n), 1).is_ok(), "thread {n} of {threads} fits again");
    }
}

/// Handles that are dropped give their memory back.
#[test]
fn handles_do_not_leak() {
    let mut instance = Instance::new(1 << 20);
    for n in 0..200_000 {
        let registry = instance.exports.thread_budget_registry_registry();
        let id = if n % 2 == 0 { "same" } else { &n.to_string() };
        let handle =
            registry.call_get_budget(&mut instance.store, id).expect("no trap").expect("there is room");
        registry.call_reset_thread(&mut instance.store, id).expect("no trap");
        handle.resource_drop(&mut instance.store).expect("no trap");
    }
}
