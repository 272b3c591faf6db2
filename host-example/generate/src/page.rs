//! The contract as a page to read: every call and every type, with its documentation.

use crate::contract::{Body, Case, Contract, Definition, Field, Function, Type};
use std::fmt::Write as _;

/// `README.md` of `wit/`.
pub(crate) fn page(contract: &Contract) -> String {
    let mut out = String::from(
        "<!-- Made from the .wit files by host-example/generate; do not edit. -->\n\
         # The contract\n\n\
         What the component `thread_budget.wasm` exports. It imports nothing. `thread-budget inspect` prints the same\n\
         from the component itself.\n",
    );
    // Writing to a string does not fail.
    for interface in &contract.interfaces {
        let _ = write!(out, "\n## Interface `{}`\n\n{}\n", interface.name, interface.docs);
        for function in contract.functions.iter().filter(|function| function.interface == interface.name) {
            let _ = write!(
                out,
                "\n### `{}`\n\n```wit\n{}\n```\n\n{}\n",
                title(function),
                signature(function),
                function.docs
            );
        }
    }
    out.push_str("\n## Types\n");
    for definition in contract.types.iter().filter(|definition| !matches!(definition.body, Body::Resource)) {
        out += &section(definition);
    }
    out
}

fn title(function: &Function) -> String {
    match &function.resource {
        Some(resource) => format!("{resource}.{}", function.name),
        None => function.name.clone(),
    }
}

fn signature(function: &Function) -> String {
    let parameters: Vec<_> = function
        .parameters
        .iter()
        .map(|parameter| format!("{}: {}", parameter.name, wit(&parameter.r#type)))
        .collect();
    let result = match (&function.result, function.fails) {
        (None, false) => String::new(),
        (Some(result), false) => format!(" -> {}", wit(result)),
        (result, true) => {
            format!(" -> result<{}, registry-error>", result.as_ref().map_or("_".into(), wit))
        }
    };
    format!("{}: func({}){result}", function.name, parameters.join(", "))
}

fn section(definition: &Definition) -> String {
    let (kind, rows) = match &definition.body {
        Body::Record(fields) => ("record", fields.iter().map(field).collect::<String>()),
        Body::Enum(cases) => ("enum", cases.iter().map(case).collect()),
        Body::Variant(cases) => ("variant", cases.iter().map(case).collect()),
        Body::Resource => ("resource", String::new()),
    };
    let column = if kind == "record" { "field" } else { "case" };
    format!(
        "\n### {kind} `{}`\n\n{}\n\n| {column} | type | |\n|---|---|---|\n{rows}",
        definition.name, definition.docs
    )
}

fn field(field: &Field) -> String {
    row(&field.name, Some(&field.r#type), &field.docs)
}

fn case(case: &Case) -> String {
    row(&case.name, case.payload.as_ref(), &case.docs)
}

fn row(name: &str, r#type: Option<&Type>, docs: &str) -> String {
    let r#type = r#type.map(|r#type| format!("`{}`", wit(r#type))).unwrap_or_default();
    format!("| `{name}` | {} | {} |\n", r#type, docs.replace('\n', " ").replace('|', "\\|"))
}

/// The type as the contract writes it.
fn wit(r#type: &Type) -> String {
    match r#type {
        Type::Bool => "bool".into(),
        Type::U32 => "u32".into(),
        Type::U64 => "u64".into(),
        Type::F64 => "f64".into(),
        Type::Text => "string".into(),
        Type::List(element) => format!("list<{}>", wit(element)),
        Type::Option(element) => format!("option<{}>", wit(element)),
        Type::Tuple(parts) => format!("tuple<{}>", parts.iter().map(wit).collect::<Vec<_>>().join(", ")),
        Type::Handle(name) | Type::Named(name) => name.clone(),
    }
}
