//! The contract as `host-example/node` has it: how each argument of each call is checked and lowered. What is
//! given back describes itself, and the types in TypeScript are jco's.

use crate::contract::{Body, Contract, Field, Function, Type};

/// `arguments.ts`: for each call, its arguments in order.
pub(crate) fn arguments(contract: &Contract) -> String {
    let mut out = String::from(
        "/** The arguments of every call of the contract, in order. Made from wit/ by host-example/generate; do not edit. */\n\
         import * as lower from \"./lower.js\";\n",
    );
    let mut taken = Vec::new();
    for parameter in contract.functions.iter().flat_map(|function| &function.parameters) {
        take(contract, &parameter.r#type, &mut taken);
    }
    for definition in contract.types.iter().filter(|definition| taken.contains(&definition.name.as_str())) {
        let lowered = match &definition.body {
            Body::Record(fields) => format!("record({{\n{}}})", properties(fields, "  ")),
            Body::Enum(cases) => {
                let cases: Vec<_> = cases.iter().map(|case| format!("\"{}\"", case.name)).collect();
                format!("oneOf({})", cases.join(", "))
            }
            // No call takes one: `Contract` knows variants as errors and resources as results only.
            Body::Variant(_) | Body::Resource => continue,
        };
        out += &format!("\nconst {} = lower.{lowered};\n", camel(&definition.name));
    }

    let mut owners = Vec::new();
    for function in &contract.functions {
        if !owners.contains(&owner(function)) {
            owners.push(owner(function));
        }
    }
    for of in owners {
        out += &format!("\nexport const {} = {{\n", camel(of));
        for function in contract.functions.iter().filter(|function| owner(function) == of) {
            let name = camel(&function.name);
            out += &match function.parameters.as_slice() {
                [] => format!("  {name}: {{}},\n"),
                parameters => format!("  {name}: {{\n{}  }},\n", properties(parameters, "    ")),
            };
        }
        out.push_str("};\n");
    }
    out
}

/// What a function is called on: its resource, or its interface, without package and version.
fn owner(function: &Function) -> &str {
    function.resource.as_deref().unwrap_or_else(|| {
        let interface =
            function.interface.rsplit_once('/').map_or(function.interface.as_str(), |(_, name)| name);
        interface.split_once('@').map_or(interface, |(name, _)| name)
    })
}

/// Note the definitions that a value of the type is lowered by.
fn take<'a>(contract: &'a Contract, r#type: &'a Type, taken: &mut Vec<&'a str>) {
    match r#type {
        Type::List(element) | Type::Option(element) => take(contract, element, taken),
        Type::Tuple(parts) => parts.iter().for_each(|part| take(contract, part, taken)),
        Type::Named(name) => {
            taken.push(name);
            if let Body::Record(fields) = &contract.definition(name).body {
                fields.iter().for_each(|field| take(contract, &field.r#type, taken));
            }
        }
        _ => {}
    }
}

fn properties(fields: &[Field], indent: &str) -> String {
    let property = |field: &Field| match (camel(&field.name), lowered(&field.r#type)) {
        (name, lowered) if name == lowered => format!("{indent}{name},\n"),
        (name, lowered) => format!("{indent}{name}: {lowered},\n"),
    };
    fields.iter().map(property).collect()
}

/// What lowers a value of the type.
fn lowered(r#type: &Type) -> String {
    match r#type {
        Type::Bool => "lower.boolean".into(),
        Type::U32 => "lower.u32".into(),
        Type::U64 => "lower.u64".into(),
        Type::F64 => "lower.f64".into(),
        Type::Text => "lower.text".into(),
        Type::List(element) => format!("lower.list({})", lowered(element)),
        Type::Option(element) => format!("lower.option({})", lowered(element)),
        Type::Tuple(parts) => {
            format!("lower.tuple({})", parts.iter().map(lowered).collect::<Vec<_>>().join(", "))
        }
        Type::Handle(name) | Type::Named(name) => camel(name),
    }
}

fn camel(name: &str) -> String {
    let mut words = name.split('-');
    let mut out = String::from(words.next().unwrap_or_default());
    for word in words {
        let mut letters = word.chars();
        out.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    out
}
