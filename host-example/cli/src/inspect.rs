//! `thread-budget inspect`: what is inside a component.

use super::{Failure, InspectArgs};
use indicatif::HumanCount;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fs;
use std::io::{self, Write};
use thread_budget_host::COMPONENT;
use wasmparser::Parser;
use wit_component::{DecodedWasm, WitPrinter};
use wit_parser::{Docs, PackageId, Resolve, SourceMap, TypeDefKind, WorldItem, WorldKey};

/// The contract this program was built with. A component carries its types but not their prose.
const CONTRACT: [(&str, &str); 4] = [
    ("wit/types.wit", include_str!("../wit/types.wit")),
    ("wit/registry.wit", include_str!("../wit/registry.wit")),
    ("wit/warnings.wit", include_str!("../wit/warnings.wit")),
    ("wit/world.wit", include_str!("../wit/world.wit")),
];

pub(super) fn run(args: &InspectArgs) -> Result<(), Failure> {
    let (name, bytes) = match &args.component {
        None => ("built-in component".to_owned(), Cow::Borrowed(COMPONENT)),
        Some(path) => {
            let name = path.display().to_string();
            let bytes =
                fs::read(path).map_err(|error| Failure::Input(format!("cannot read {name}: {error}")))?;
            (name, Cow::Owned(bytes))
        }
    };
    if !Parser::is_component(&bytes) {
        let kind = if Parser::is_core_wasm(&bytes) { "a core module" } else { "something else" };
        return Err(Failure::Input(format!("{name} is {kind}, expected a WebAssembly component")));
    }
    let text = describe(&name, &bytes)
        .map_err(|error| Failure::Input(format!("{name} is a damaged WebAssembly component: {error}")))?;
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn describe(name: &str, bytes: &[u8]) -> Result<String, Box<dyn std::error::Error>> {
    let DecodedWasm::Component(mut resolve, world) = wit_component::decode(bytes)? else {
        return Err("it is a WIT package, which has no code".into());
    };
    add_docs(&mut resolve)?;

    let hash = Sha256::digest(bytes);
    let world = &resolve.worlds[world];
    let mut text =
        format!("{name}\n\n  size     {} bytes\n  sha256   {hash:x}\n", HumanCount(bytes.len() as u64));
    text.push_str(&list("imports", &resolve, world.imports.keys()));
    text.push_str(&list("exports", &resolve, world.exports.keys()));

    for package in packages(&resolve, world.imports.values().chain(world.exports.values())) {
        let mut printer = WitPrinter::default();
        printer.print(&resolve, package, &[])?;
        text.push('\n');
        text.push_str(&printer.output.to_string());
    }
    Ok(text)
}

fn list<'a>(label: &str, resolve: &Resolve, keys: impl Iterator<Item = &'a WorldKey>) -> String {
    let mut names: Vec<String> = keys.map(|key| resolve.name_world_key(key)).collect();
    if names.is_empty() {
        names.push("nothing".into());
    }
    let separator = format!("\n{:11}", "");
    format!("  {label}  {}\n", names.join(&separator))
}

/// The packages whose interfaces these are, each once.
fn packages<'a>(resolve: &Resolve, items: impl Iterator<Item = &'a WorldItem>) -> Vec<PackageId> {
    let mut packages = Vec::new();
    for item in items {
        if let WorldItem::Interface { id, .. } = item
            && let Some(package) = resolve.interfaces[*id].package
            && !packages.contains(&package)
        {
            packages.push(package);
        }
    }
    packages
}

/// Give the interfaces that the contract also has its documentation.
fn add_docs(resolve: &mut Resolve) -> Result<(), Box<dyn std::error::Error>> {
    let mut sources = SourceMap::new();
    for (path, text) in CONTRACT {
        sources.push_str(path, text);
    }
    let group = sources.parse().map_err(|(_, error)| error.to_string())?;
    let mut contract = Resolve::default();
    contract.push_group(group)?;

    let Resolve { interfaces, types, packages, .. } = resolve;
    for (_, interface) in interfaces.iter_mut() {
        let package = interface.package.map(|package| &packages[package].name);
        let documented = contract.interfaces.iter().find(|(_, other)| {
            other.name == interface.name && other.package.map(|id| &contract.packages[id].name) == package
        });
        let Some((_, documented)) = documented else { continue };
        interface.docs = documented.docs.clone();
        for (name, function) in &mut interface.functions {
            if let Some(documented) = documented.functions.get(name) {
                function.docs = documented.docs.clone();
            }
        }
        for (name, id) in &interface.types {
            if let Some(documented) = documented.types.get(name) {
                let documented = &contract.types[*documented];
                types[*id].docs = documented.docs.clone();
                add_member_docs(&mut types[*id].kind, &documented.kind);
            }
        }
    }
    Ok(())
}

fn add_member_docs(kind: &mut TypeDefKind, documented: &TypeDefKind) {
    match (kind, documented) {
        (TypeDefKind::Record(record), TypeDefKind::Record(documented)) => copy_docs(
            record.fields.iter_mut().map(|field| (&field.name, &mut field.docs)),
            documented.fields.iter().map(|field| (&field.name, &field.docs)),
        ),
        (TypeDefKind::Variant(variant), TypeDefKind::Variant(documented)) => copy_docs(
            variant.cases.iter_mut().map(|case| (&case.name, &mut case.docs)),
            documented.cases.iter().map(|case| (&case.name, &case.docs)),
        ),
        (TypeDefKind::Enum(cases), TypeDefKind::Enum(documented)) => copy_docs(
            cases.cases.iter_mut().map(|case| (&case.name, &mut case.docs)),
            documented.cases.iter().map(|case| (&case.name, &case.docs)),
        ),
        _ => {}
    }
}

fn copy_docs<'a>(
    members: impl Iterator<Item = (&'a String, &'a mut Docs)>,
    documented: impl Iterator<Item = (&'a String, &'a Docs)> + Clone,
) {
    for (name, docs) in members {
        if let Some((_, text)) = documented.clone().find(|(other, _)| *other == name) {
            *docs = text.clone();
        }
    }
}
