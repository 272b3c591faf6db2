//! What the component is: its imports, its exports, its size.

use std::path::Path;
use thread_budget_host::COMPONENT;
use wit_component::{DecodedWasm, WitPrinter};
use wit_parser::Resolve;

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
                        module == "[export]thread-budget:registry/registry@0.2.0" || module.is_empty(),
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
        ["registry", "types", "warnings"].map(|name| format!("thread-budget:registry/{name}@0.2.0"))
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
    assert!(COMPONENT.len() <= 120_000, "{} bytes", COMPONENT.len());
}
