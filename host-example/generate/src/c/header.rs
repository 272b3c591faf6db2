//! `contract.h`: the codes, the types and the calls.

use super::{
    MADE, OWN_CODES, base, closure, comment, constant, declaration, owns, payloads, prototype, refusals,
};
use crate::contract::{Body, Contract, Type, snake};

pub(crate) fn header(contract: &Contract) -> String {
    let mut out = format!(
        "/* The codes, types and calls of the contract, in its words. {MADE}\n \
         * Include thread_budget.h: it says how they are used. */\n\
         #ifndef CONTRACT_H\n#define CONTRACT_H\n"
    );
    out += &codes(contract);
    // A list that a call takes is a pointer and a count, so it needs no type.
    let taken =
        contract.functions.iter().flat_map(|function| &function.parameters).map(|parameter| match &parameter
            .r#type
        {
            Type::List(element) => (**element).clone(),
            r#type => r#type.clone(),
        });
    let given = contract.functions.iter().filter_map(|function| function.result.clone());
    for r#type in closure(contract, given.chain(taken).chain(payloads(contract))) {
        out += &declared(contract, &r#type);
        // That of a text is in thread_budget.h, next to its type.
        if owns(contract, &r#type)
            && r#type != Type::Text
            && contract.functions.iter().any(|function| function.result.as_ref() == Some(&r#type))
        {
            out += &format!("void tb_{0}_free(tb_{0} *value);\n", base(&r#type));
        }
    }
    for function in &contract.functions {
        out += &format!("\n{}{};\n", comment("", &function.docs), prototype(contract, function));
    }
    out + "\n#endif\n"
}

fn codes(contract: &Contract) -> String {
    let mut out = String::from("\ntypedef enum tb_code {\n    TB_OK = 0,\n\n");
    out += &comment("    ", &contract.definition("registry-error").docs);
    out += "\n";
    for refusal in refusals(contract) {
        out += &format!("{}    {},\n", comment("    ", &refusal.docs), constant(&refusal.name));
    }
    out += "\n";
    for (name, docs) in OWN_CODES {
        out += &format!("{}    {},\n", comment("    ", docs), constant(name));
    }
    out + "} tb_code;\n"
}

/// The declaration of a type; nothing for one that C or thread_budget.h has.
fn declared(contract: &Contract, r#type: &Type) -> String {
    let name = base(r#type);
    let fields = match r#type {
        Type::Bool | Type::U32 | Type::U64 | Type::F64 | Type::Text => return String::new(),
        Type::List(element) => format!("    {};\n    size_t count;\n", declaration(element, "*items")),
        Type::Option(element) => format!("    bool some;\n    {};\n", declaration(element, "value")),
        Type::Tuple(parts) => {
            let parts = parts.iter().enumerate();
            parts.map(|(at, part)| format!("    {};\n", declaration(part, &format!("f{at}")))).collect()
        }
        Type::Handle(resource) => {
            let docs = comment("", &contract.definition(resource).docs);
            return format!("\n{docs}typedef struct tb_{name} tb_{name};\n");
        }
        Type::Named(definition) => return named(contract, definition),
    };
    format!("\ntypedef struct tb_{name} {{\n{fields}}} tb_{name};\n")
}

fn named(contract: &Contract, name: &str) -> String {
    let definition = contract.definition(name);
    let mut out = format!("\n{}", comment("", &definition.docs));
    let kind = match &definition.body {
        Body::Record(_) => "struct",
        Body::Enum(_) => "enum",
        Body::Variant(_) | Body::Resource => return String::new(),
    };
    out += &format!("typedef {kind} tb_{} {{\n", snake(name));
    match &definition.body {
        Body::Record(fields) => {
            for field in fields {
                let declared = declaration(&field.r#type, &snake(&field.name));
                out += &format!("{}    {declared};\n", comment("    ", &field.docs));
            }
        }
        Body::Enum(cases) => {
            for case in cases {
                let constant = constant(&format!("{name}-{}", case.name));
                out += &format!("{}    {constant},\n", comment("    ", &case.docs));
            }
        }
        Body::Variant(_) | Body::Resource => {}
    }
    out + &format!("}} tb_{};\n", snake(name))
}
