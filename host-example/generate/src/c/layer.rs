//! `contract.c`: the types and functions as tables, and the functions of `contract.h`.

use super::{
    MADE, OWN_CODES, base, closure, identifier, is_record, owns, payloads, prototype, refusals, spelled,
    wrapped,
};
use crate::contract::{Body, Contract, Function, Type, snake};

pub(crate) fn layer(contract: &Contract) -> String {
    let mut out = format!("/* The contract as tables, and its calls. {MADE} */\n#include \"call.h\"\n\n");
    let parameters = contract.functions.iter().flat_map(|function| &function.parameters);
    let taken = parameters.map(|parameter| parameter.r#type.clone());
    let given = contract.functions.iter().filter_map(|function| function.result.clone());
    let types = closure(contract, payloads(contract).chain(taken).chain(given));
    for r#type in &types {
        out += &table(contract, r#type);
    }
    out += "static const struct type self_type = HANDLE(BORROW);\n";
    out += &codes(contract);
    out += &signatures(contract);
    for function in &contract.functions {
        out += &format!("\n{} {{\n{}}}\n", prototype(contract, function), body(contract, function));
    }
    out += "\n";
    for r#type in types {
        if contract.functions.iter().any(|function| function.result.as_ref() == Some(&r#type)) {
            out += &free(contract, &r#type);
        }
    }
    out
}

/// A type as data; nothing for one that is no value.
fn table(contract: &Contract, r#type: &Type) -> String {
    let (name, c_type) = (base(r#type), spelled(r#type));
    let of_members = |kind: &str, members: Vec<String>| {
        let members: String = members.iter().map(|member| format!("    {{{member}}},\n")).collect();
        format!(
            "static const struct member {name}_members[] = {{\n{members}}};\n\
             static const struct type {name}_type = MEMBERS({kind}, {c_type}, {name}_members);\n"
        )
    };
    let member = |name: &str, r#type: &Type, field: &str| {
        format!("{name}, &{}_type, offsetof({c_type}, {field})", base(r#type))
    };
    let simple = match r#type {
        Type::Bool => "SIMPLE(BOOL, bool)".into(),
        Type::U32 => "SIMPLE(U32, uint32_t)".into(),
        Type::U64 => "SIMPLE(U64, uint64_t)".into(),
        Type::F64 => "SIMPLE(F64, double)".into(),
        Type::Text => "SIMPLE(STRING, tb_text)".into(),
        Type::Handle(_) => "HANDLE(OWN)".into(),
        Type::List(element) => format!("LIST({}_type)", base(element)),
        Type::Option(element) => format!("OPTION({c_type}, {}_type)", base(element)),
        Type::Tuple(parts) => {
            let parts = parts.iter().enumerate();
            return of_members(
                "TUPLE",
                parts.map(|(at, part)| member("NULL", part, &format!("f{at}"))).collect(),
            );
        }
        Type::Named(definition) => match &contract.definition(definition).body {
            Body::Record(fields) => {
                let fields = fields.iter();
                let members = fields
                    .map(|field| member(&format!("\"{}\"", field.name), &field.r#type, &snake(&field.name)));
                return of_members("RECORD", members.collect());
            }
            Body::Enum(cases) => {
                return of_members(
                    "ENUM",
                    cases.iter().map(|case| format!("\"{}\", NULL, 0", case.name)).collect(),
                );
            }
            Body::Variant(_) | Body::Resource => return String::new(),
        },
    };
    format!("static const struct type {name}_type = {simple};\n")
}

/// The table of refusals, and the names of all codes.
fn codes(contract: &Contract) -> String {
    let mut out = String::from("\nstatic const struct member registry_error_members[] = {\n");
    for refusal in refusals(contract) {
        let payload =
            refusal.payload.as_ref().map_or("NULL".into(), |payload| format!("&{}_type", base(payload)));
        out += &format!("    {{\"{}\", {payload}, 0}},\n", refusal.name);
    }
    // A variant never becomes a value in C: its case becomes the code.
    out += "};\nconst struct type registry_error_type = MEMBERS(VARIANT, tb_code, registry_error_members);\n";
    let names = refusals(contract).iter().map(|refusal| refusal.name.as_str());
    let names = ["ok"].into_iter().chain(names).chain(OWN_CODES.map(|(name, _)| name));
    let names: Vec<_> = names.map(|name| format!("\"{name}\"")).collect();
    out += "\nconst char *tb_code_name(tb_code code) {\n";
    out += &wrapped("    static const char *const names[] = {", &names, "};");
    out + "\n    return (size_t)code < COUNT(names) ? names[code] : \"unknown\";\n}\n"
}

fn signatures(contract: &Contract) -> String {
    let mut out = String::from("\n");
    let mut successes: Vec<&Option<Type>> = Vec::new();
    for function in contract.functions.iter().filter(|function| function.fails) {
        if !successes.contains(&&function.result) {
            successes.push(&function.result);
            let success =
                function.result.as_ref().map_or("NULL".into(), |result| format!("&{}_type", base(result)));
            out += &format!("static const struct type {} = RESULT({success});\n", result_table(function));
        }
    }

    let (mut parameters, mut rows) = (String::new(), String::new());
    for function in &contract.functions {
        let own = function.resource.iter().map(|_| String::from("{\"self\", &self_type, 0}"));
        let taken = function
            .parameters
            .iter()
            .map(|parameter| format!("{{\"{}\", &{}_type, 0}}", parameter.name, base(&parameter.r#type)));
        let taken: Vec<_> = own.chain(taken).collect();
        let id = identifier(contract, function);
        if !taken.is_empty() {
            let open = format!("static const struct member {id}_parameters[] = {{");
            parameters += &wrapped(&open, &taken, "};\n");
        }
        let name = match &function.resource {
            Some(resource) => format!("[method]{resource}.{}", function.name),
            None => function.name.clone(),
        };
        let gives = match &function.result {
            _ if function.fails => format!("&{}", result_table(function)),
            Some(result) => format!("&{}_type", base(result)),
            None => "NULL".into(),
        };
        let row = [
            format!("\"{}\"", function.interface),
            format!("\"{name}\""),
            if taken.is_empty() { "NULL, 0".into() } else { format!("TAKES({id})") },
            gives,
        ];
        rows += &wrapped(&format!("    [{}] = {{", number(contract, function)), &row, "},\n");
    }
    let numbers: Vec<_> = contract.functions.iter().map(|function| number(contract, function)).collect();
    out += &format!("\n{parameters}\nenum {{\n{}\n}};\n", wrapped("    ", &numbers, ","));
    out += &format!("\nconst struct signature signatures[] = {{\n{rows}}};\n");
    let taken = |function: &Function| function.parameters.len() + usize::from(function.resource.is_some());
    let most = contract.functions.iter().map(taken).max().unwrap_or_default();
    out + &format!(
        "const size_t signature_count = COUNT(signatures);\n\
         _Static_assert(MOST_PARAMETERS >= {most}, \"a call takes more\");\n"
    )
}

/// The table of what a function that may fail gives.
fn result_table(function: &Function) -> String {
    format!("result_of_{}_type", function.result.as_ref().map_or("nothing".into(), base))
}

fn number(contract: &Contract, function: &Function) -> String {
    identifier(contract, function).to_uppercase()
}

fn body(contract: &Contract, function: &Function) -> String {
    let own = function.resource.iter().map(|_| String::from("NULL"));
    let parameters = function.parameters.iter().map(|parameter| {
        let name = snake(&parameter.name);
        match &parameter.r#type {
            Type::List(_) => format!("&(struct list){{{name}, {name}_count}}"),
            Type::Option(element) => {
                let (option, value) = (spelled(&parameter.r#type), spelled(element));
                format!("&({option}){{{name} != NULL, {name} ? *{name} : ({value}){{0}}}}")
            }
            r#type if is_record(contract, r#type) => name,
            _ => format!("&{name}"),
        }
    });
    let arguments: Vec<_> = own.chain(parameters).collect();
    let (mut out, taken) = if arguments.is_empty() {
        (String::new(), "NULL")
    } else {
        (wrapped("    const void *in[] = {", &arguments, "};\n"), "in")
    };
    let call = match &function.resource {
        Some(resource) => format!("call_on((struct handle *){}", snake(resource)),
        None => "call(registry".into(),
    };
    let given = if function.result.is_some() { "out" } else { "NULL" };
    out += &format!("    return {call}, {}, {taken}, {given}, error);\n", number(contract, function));
    out
}

/// What frees a result of the type, if it has to be freed.
fn free(contract: &Contract, r#type: &Type) -> String {
    let name = base(r#type);
    match r#type {
        Type::Handle(_) => {
            let free = "handle_free((struct handle *)value);";
            format!("void tb_{name}_free(tb_{name} *value) {{\n    {free}\n}}\n")
        }
        _ if owns(contract, r#type) => {
            format!("void tb_{name}_free(tb_{name} *value) {{\n    value_free(&{name}_type, value);\n}}\n")
        }
        _ => String::new(),
    }
}
