//! The component under wasmtime, with nothing in between: the names and types of calls are those that it exports.

use super::Subject;
use crate::call::{Call, Outcome};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;
use thread_budget_host::COMPONENT;
use wasmtime::component::types::{ComponentItem, Field};
use wasmtime::component::{self, ComponentExportIndex, Instance, Linker, ResourceAny, Type, Val};
use wasmtime::{Engine, Store};

/// The component under wasmtime.
pub struct Component {
    store: Store<()>,
    instance: Instance,
    handles: HashMap<String, ResourceAny>,
}

/// The component, and its functions by the names that vectors have for them.
struct Compiled {
    component: component::Component,
    functions: BTreeMap<String, ComponentExportIndex>,
}

/// Errors whose text is for people.
const WITH_A_TEXT: [&str; 3] = ["invalid-thread-id", "invalid-request-id", "invalid-state"];

fn compiled() -> &'static Compiled {
    static COMPILED: OnceLock<Compiled> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let engine = Engine::default();
        let component =
            component::Component::new(&engine, COMPONENT).unwrap_or_else(|error| panic!("{error:#}"));
        let mut functions = BTreeMap::new();
        for (path, interface) in component.component_type().exports(&engine) {
            let ComponentItem::ComponentInstance(exports) = interface.ty else { continue };
            let interface = component.get_export_index(None, path);
            for (name, export) in exports.exports(&engine) {
                if matches!(export.ty, ComponentItem::ComponentFunc(_)) {
                    let index = component.get_export_index(interface.as_ref(), name);
                    functions
                        .insert(name.trim_start_matches("[method]").into(), index.expect("it is exported"));
                }
            }
        }
        Compiled { component, functions }
    })
}

impl Component {
    /// A fresh instance of the built-in component.
    ///
    /// # Panics
    /// When it does not compile or instantiate.
    #[must_use]
    pub fn new() -> Self {
        let Compiled { component, .. } = compiled();
        let mut store = Store::new(component.engine(), ());
        let instance = Linker::new(component.engine()).instantiate(&mut store, component);
        let instance = instance.unwrap_or_else(|error| panic!("{error:#}"));
        Self { store, instance, handles: HashMap::new() }
    }

    /// Every call there is.
    pub fn calls() -> impl Iterator<Item = &'static str> {
        compiled().functions.keys().map(String::as_str)
    }

    fn outcome(&mut self, result: Val, call: &Call) -> Outcome {
        match result {
            Val::Result(Ok(value)) => Ok(value.map_or(Value::Null, |value| self.returned(*value, call))),
            Val::Result(Err(Some(error))) => Err(match self.returned(*error, call) {
                Value::Object(error) if error.keys().any(|name| WITH_A_TEXT.contains(&&**name)) => {
                    error.keys().next().cloned().into()
                }
                error => error,
            }),
            value => Ok(self.returned(value, call)),
        }
    }

    /// A result, as vectors write it. A handle is kept.
    fn returned(&mut self, value: Val, call: &Call) -> Value {
        if let Val::Resource(handle) = value {
            if let Some(old) = self.handles.insert(call.text("as").into(), handle) {
                old.resource_drop(&mut self.store).unwrap_or_else(|error| panic!("{error:#}"));
            }
            return Value::Null;
        }
        crate::call::returned(from_val(value))
    }
}

impl Default for Component {
    fn default() -> Self {
        Self::new()
    }
}

impl Subject for Component {
    fn call(&mut self, call: &Call) -> Outcome {
        let index = compiled().functions.get(&call.name);
        let function = index.and_then(|index| self.instance.get_func(&mut self.store, index));
        let function = function.unwrap_or_else(|| panic!("the component has no {}", call.name));
        let ty = function.ty(&self.store);
        let of_call = |(name, ty): (&str, Type)| match ty {
            Type::Borrow(_) => {
                let on = call.text("on");
                Val::Resource(*self.handles.get(on).unwrap_or_else(|| panic!("no handle {on}")))
            }
            ty => to_val(call.value(&snake(name)), &ty),
        };
        let arguments: Vec<_> = ty.params().map(of_call).collect();
        let handles = call.names().filter(|name| ["as", "on"].contains(name)).count();
        let methods = usize::from(call.name.contains('.'));
        assert_eq!(call.names().count() - handles, arguments.len() - methods, "the arguments of {call:?}");

        let mut results = vec![Val::Bool(false); ty.results().len()];
        if let Err(trap) = function.call(&mut self.store, &arguments, &mut results) {
            panic!("{call:?}: {trap:#}");
        }
        results.pop().map_or(Ok(Value::Null), |result| self.outcome(result, call))
    }
}

fn snake(name: &str) -> String {
    name.replace('-', "_")
}

/// JSON as a value of a type of the component.
fn to_val(value: &Value, ty: &Type) -> Val {
    let expected = |what: &str| -> ! { panic!("{value} is not {what}") };
    let number = || value.as_u64().unwrap_or_else(|| expected("a count"));
    match ty {
        Type::Bool => Val::Bool(value.as_bool().unwrap_or_else(|| expected("a bool"))),
        Type::U32 => Val::U32(u32::try_from(number()).unwrap_or_else(|_| expected("a u32"))),
        Type::U64 => Val::U64(number()),
        Type::Float64 => Val::Float64(value.as_f64().unwrap_or_else(|| expected("an f64"))),
        Type::String => Val::String(value.as_str().unwrap_or_else(|| expected("a text")).into()),
        Type::Enum(_) => Val::Enum(value.as_str().unwrap_or_else(|| expected("a case")).into()),
        Type::List(list) => {
            let items = value.as_array().unwrap_or_else(|| expected("a list"));
            Val::List(items.iter().map(|item| to_val(item, &list.ty())).collect())
        }
        Type::Option(_) if value.is_null() => Val::Option(None),
        Type::Option(option) => Val::Option(Some(Box::new(to_val(value, &option.ty())))),
        Type::Record(record) => {
            let fields = value.as_object().unwrap_or_else(|| expected("a record"));
            let known: Vec<_> = record.fields().map(|field| snake(field.name)).collect();
            assert!(
                fields.keys().all(|name| known.contains(name)),
                "{value} has other fields than {known:?}"
            );
            let field = |field: Field<'_>| {
                let value = fields.get(&snake(field.name)).unwrap_or(&Value::Null);
                (field.name.into(), to_val(value, &field.ty))
            };
            Val::Record(record.fields().map(field).collect())
        }
        other => unimplemented!("no argument of the contract is {other:?}"),
    }
}

/// A value of the component as JSON.
fn from_val(value: Val) -> Value {
    match value {
        Val::Bool(value) => value.into(),
        Val::U32(number) => number.into(),
        Val::U64(number) => number.into(),
        Val::Float64(number) => number.into(),
        Val::String(text) | Val::Enum(text) | Val::Variant(text, None) => text.into(),
        Val::Variant(case, Some(value)) => json!({ case: from_val(*value) }),
        Val::List(items) | Val::Tuple(items) => items.into_iter().map(from_val).collect(),
        Val::Option(value) => value.map_or(Value::Null, |value| from_val(*value)),
        Val::Record(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (snake(&name), from_val(value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        other => unimplemented!("no result of the contract is {other:?}"),
    }
}
