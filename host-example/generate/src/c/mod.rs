//! The contract as `host-example/c` has it: names, types and lines in C.

mod dispatch;
mod header;
mod layer;

pub(crate) use dispatch::dispatch;
pub(crate) use header::header;
pub(crate) use layer::layer;

use crate::contract::{Body, Case, Contract, Function, Type, snake};

const MADE: &str = "Made from wit/ by host-example/generate; do not edit.";
const WIDTH: usize = 120;

/// What the layer itself may say of a call, beside the contract's refusals.
const OWN_CODES: [(&str, &str); 7] = [
    ("invalid-argument", "The call was not made: a pointer is NULL, or an enum has no such value."),
    ("invalid-utf8", "The call was not made: a text is not UTF-8."),
    (
        "argument-too-large",
        "The call was not made: its texts have more than TB_MAX_TEXT_BYTES, or its lists more than TB_MAX_ITEM_BYTES.",
    ),
    ("trapped", "The call made the instance fail. It is lost: bring a snapshot back in a new registry."),
    ("instance-lost", "An earlier call made the instance fail. Only freeing is left."),
    ("unusable-component", "The file cannot be read, or is no component of this contract."),
    ("no-host-memory", "This process has no memory left. The call may have been carried out."),
];

/// The refusals of the contract.
fn refusals(contract: &Contract) -> &[Case] {
    match &contract.definition("registry-error").body {
        Body::Variant(cases) => cases,
        _ => &[],
    }
}

fn payloads(contract: &Contract) -> impl Iterator<Item = Type> {
    refusals(contract).iter().filter_map(|refusal| refusal.payload.clone())
}

/// The types and all that they are made of, each once, after its parts.
fn closure(contract: &Contract, roots: impl Iterator<Item = Type>) -> Vec<Type> {
    fn visit(contract: &Contract, r#type: &Type, all: &mut Vec<Type>) {
        if all.contains(r#type) {
            return;
        }
        match r#type {
            Type::List(element) | Type::Option(element) => visit(contract, element, all),
            Type::Tuple(parts) => parts.iter().for_each(|part| visit(contract, part, all)),
            Type::Named(name) => {
                if let Body::Record(fields) = &contract.definition(name).body {
                    fields.iter().for_each(|field| visit(contract, &field.r#type, all));
                }
            }
            _ => {}
        }
        all.push(r#type.clone());
    }
    let mut all = Vec::new();
    roots.for_each(|root| visit(contract, &root, &mut all));
    all
}

/// Whether a value of the type has memory of its own.
fn owns(contract: &Contract, r#type: &Type) -> bool {
    match r#type {
        Type::Bool | Type::U32 | Type::U64 | Type::F64 => false,
        Type::Text | Type::List(_) | Type::Handle(_) => true,
        Type::Option(element) => owns(contract, element),
        Type::Tuple(parts) => parts.iter().any(|part| owns(contract, part)),
        Type::Named(name) => match &contract.definition(name).body {
            Body::Record(fields) => fields.iter().any(|field| owns(contract, &field.r#type)),
            _ => false,
        },
    }
}

fn is_record(contract: &Contract, r#type: &Type) -> bool {
    matches!(r#type, Type::Named(name) if matches!(contract.definition(name).body, Body::Record(_)))
}

/// A type's name within others.
fn base(r#type: &Type) -> String {
    match r#type {
        Type::Bool => "bool".into(),
        Type::U32 => "u32".into(),
        Type::U64 => "u64".into(),
        Type::F64 => "f64".into(),
        Type::Text => "text".into(),
        Type::List(element) => format!("{}_list", base(element)),
        Type::Option(element) => format!("optional_{}", base(element)),
        Type::Tuple(parts) => parts.iter().map(base).collect::<Vec<_>>().join("_"),
        Type::Handle(name) | Type::Named(name) => snake(name),
    }
}

/// A type in C.
fn spelled(r#type: &Type) -> String {
    match r#type {
        Type::Bool => "bool".into(),
        Type::U32 => "uint32_t".into(),
        Type::U64 => "uint64_t".into(),
        Type::F64 => "double".into(),
        Type::Handle(_) => format!("tb_{} *", base(r#type)),
        _ => format!("tb_{}", base(r#type)),
    }
}

/// A type and a name that has it.
fn declaration(r#type: &Type, name: &str) -> String {
    let spelled = spelled(r#type);
    let space = if spelled.ends_with('*') { "" } else { " " };
    format!("{spelled}{space}{name}")
}

/// A function's name without its prefix. A type and a function cannot share theirs in C.
fn identifier(contract: &Contract, function: &Function) -> String {
    let name = snake(&function.name);
    match &function.resource {
        Some(resource) => format!("{}_{name}", snake(resource)),
        None if contract.types.iter().any(|definition| definition.name == function.name) => {
            format!("{name}_of")
        }
        None => name,
    }
}

/// The constant for a code or for a value of an enum.
fn constant(name: &str) -> String {
    format!("TB_{}", snake(name).to_uppercase())
}

fn prototype(contract: &Contract, function: &Function) -> String {
    let subject = function.resource.as_ref().map_or("registry".into(), |resource| snake(resource));
    let mut parameters = vec![format!("tb_{subject} *{subject}")];
    for parameter in &function.parameters {
        let name = snake(&parameter.name);
        parameters.push(match &parameter.r#type {
            Type::List(element) => format!("const {} *{name}, size_t {name}_count", spelled(element)),
            Type::Option(element) => format!("const {} *{name}", spelled(element)),
            r#type if is_record(contract, r#type) => format!("const {} *{name}", spelled(r#type)),
            r#type => declaration(r#type, &name),
        });
    }
    parameters.extend(function.result.iter().map(|result| declaration(result, "*out")));
    parameters.push("tb_error *error".into());
    wrapped(&format!("tb_code tb_{}(", identifier(contract, function)), &parameters, ")")
}

/// A comment of the paragraphs, on lines of its own; nothing for no text.
fn comment(indent: &str, text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.push(String::new());
        for word in paragraph.split_whitespace() {
            let used = lines.last().map_or(0, String::len);
            if used > 0 && indent.len() + " * ".len() + used + 1 + word.len() + " */".len() > WIDTH {
                lines.push(String::new());
            }
            if let Some(line) = lines.last_mut() {
                let space = if line.is_empty() { "" } else { " " };
                *line += &format!("{space}{word}");
            }
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    let text = lines.join(&format!("\n{indent} * ")).replace(" * \n", " *\n");
    format!("{indent}/* {text} */\n")
}

/// A list between what opens and what closes it, in lines that are not too long.
fn wrapped(open: &str, items: &[String], close: &str) -> String {
    let mut text = String::from(open);
    let mut column = open.len();
    for (at, item) in items.iter().enumerate() {
        let end = if at + 1 == items.len() { close } else { "," };
        if at > 0 && column + 1 + item.len() + end.len() > WIDTH {
            text += &format!("\n{}", " ".repeat(open.len()));
            column = open.len();
        } else if at > 0 {
            text += " ";
            column += 1;
        }
        text += &format!("{item}{end}");
        column += item.len() + end.len();
    }
    text
}
