//! `dispatch.c`: the public functions by their number.

use super::{MADE, identifier, is_record, spelled, wrapped};
use crate::contract::{Contract, Type};

pub(crate) fn dispatch(contract: &Contract) -> String {
    let mut out = format!(
        "/* The calls by their number in the tables, for the vectors. {MADE} */\n#include \"step.h\"\n\n\
         tb_code dispatch(size_t number, void *subject, const void *const *in, void *out, tb_error *error) {{\n    \
         switch (number) {{\n"
    );
    for (number, function) in contract.functions.iter().enumerate() {
        let parameters =
            function.parameters.iter().enumerate().map(|(at, parameter)| match parameter.r#type {
                Type::List(_) => format!("LIST_OF(in[{at}])"),
                Type::Option(_) => format!("OPTION_OF({}, in[{at}])", spelled(&parameter.r#type)),
                _ if is_record(contract, &parameter.r#type) => format!("in[{at}]"),
                _ => format!("VALUE_OF({}, in[{at}])", spelled(&parameter.r#type)),
            });
        let given = function.result.iter().map(|_| "out".into());
        let arguments: Vec<_> =
            ["subject".into()].into_iter().chain(parameters).chain(given).chain(["error".into()]).collect();
        let call = format!("    case {number}: return tb_{}(", identifier(contract, function));
        out += &format!("{}\n", wrapped(&call, &arguments, ");"));
    }
    out + "    default: return TB_INVALID_ARGUMENT;\n    }\n}\n"
}
