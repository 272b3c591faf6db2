//! What `wit/` declares, as far as a host needs it: types in the order in which each can be defined, and
//! functions.

use std::path::Path;
use wit_parser::{Docs, FunctionKind, Handle, Resolve, TypeDefKind, TypeId};

/// The exports of the world `thread-budget`.
#[derive(Default)]
pub(crate) struct Contract {
    /// The interfaces with functions, in the order of the world.
    pub(crate) interfaces: Vec<Interface>,
    /// Each after those that it is made of.
    pub(crate) types: Vec<Definition>,
    /// In the order of the files.
    pub(crate) functions: Vec<Function>,
}

pub(crate) struct Interface {
    /// As exported: `thread-budget:registry/registry@0.2.0`.
    pub(crate) name: String,
    pub(crate) docs: String,
}

/// A type with a name.
pub(crate) struct Definition {
    pub(crate) name: String,
    pub(crate) docs: String,
    pub(crate) body: Body,
}

pub(crate) enum Body {
    Record(Vec<Field>),
    Enum(Vec<Case>),
    Variant(Vec<Case>),
    Resource,
}

pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) docs: String,
    pub(crate) r#type: Type,
}

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) docs: String,
    pub(crate) payload: Option<Type>,
}

#[derive(Clone, PartialEq)]
pub(crate) enum Type {
    Bool,
    U32,
    U64,
    F64,
    Text,
    List(Box<Type>),
    Option(Box<Type>),
    Tuple(Vec<Type>),
    /// A handle that the caller owns, on the resource of that name.
    Handle(String),
    /// The definition of that name.
    Named(String),
}

pub(crate) struct Function {
    /// As exported: `thread-budget:registry/registry@0.2.0`.
    pub(crate) interface: String,
    /// Without its resource.
    pub(crate) name: String,
    /// The resource whose method it is.
    pub(crate) resource: Option<String>,
    pub(crate) docs: String,
    /// Without the handle that a method is called on.
    pub(crate) parameters: Vec<Field>,
    /// What it gives when it succeeds.
    pub(crate) result: Option<Type>,
    /// Whether it can fail, with the variant `registry-error`.
    pub(crate) fails: bool,
}

/// A name of the contract as C and vectors write it.
pub(crate) fn snake(name: &str) -> String {
    name.replace('-', "_")
}

impl Contract {
    /// Read the folder; an error names what is wrong with it, or what no host can do yet.
    pub(crate) fn read(folder: &Path) -> Result<Self, String> {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(folder).map_err(|error| format!("{error:#}"))?;
        let world =
            resolve.select_world(&[package], Some("thread-budget")).map_err(|error| format!("{error:#}"))?;
        let mut contract = Self::default();
        for export in resolve.worlds[world].exports.values() {
            let wit_parser::WorldItem::Interface { id, .. } = export else {
                return Err("the world exports something else than interfaces".into());
            };
            let name = resolve.id_of(*id).ok_or("an interface without name")?;
            let interface = &resolve.interfaces[*id];
            if !interface.functions.is_empty() {
                contract.interfaces.push(Interface { name: name.clone(), docs: text(&interface.docs) });
            }
            for function in interface.functions.values() {
                let function = contract.function(&resolve, &name, function)?;
                contract.functions.push(function);
            }
        }
        Ok(contract)
    }

    /// The definition of that name, which is there: `read` defined every name it put into a type.
    pub(crate) fn definition(&self, name: &str) -> &Definition {
        self.types
            .iter()
            .find(|definition| definition.name == name)
            .expect("a type is defined before it is named")
    }

    fn function(
        &mut self,
        resolve: &Resolve,
        interface: &str,
        function: &wit_parser::Function,
    ) -> Result<Function, String> {
        let resource = match function.kind {
            FunctionKind::Freestanding => None,
            FunctionKind::Method(id) => Some(self.define(resolve, id)?),
            _ => return Err(format!("{}: only functions and methods are known", function.name)),
        };
        let own = usize::from(resource.is_some());
        let parameters = function.params[own..]
            .iter()
            .map(|parameter| self.field(resolve, &parameter.name, &Docs::default(), &parameter.ty))
            .collect::<Result<_, _>>()?;
        let (result, fails) = match function.result {
            Some(wit_parser::Type::Id(id)) if let TypeDefKind::Result(result) = &resolve.types[id].kind => {
                let error = result.err.map(|error| self.r#type(resolve, &error)).transpose()?;
                if error != Some(Type::Named("registry-error".into())) {
                    return Err(format!("{} fails otherwise than with registry-error", function.name));
                }
                (result.ok, true)
            }
            result => (result, false),
        };
        Ok(Function {
            interface: interface.into(),
            name: function.item_name().into(),
            resource,
            docs: text(&function.docs),
            parameters,
            result: result.map(|result| self.r#type(resolve, &result)).transpose()?,
            fails,
        })
    }

    fn r#type(&mut self, resolve: &Resolve, r#type: &wit_parser::Type) -> Result<Type, String> {
        let id = match r#type {
            wit_parser::Type::Bool => return Ok(Type::Bool),
            wit_parser::Type::U32 => return Ok(Type::U32),
            wit_parser::Type::U64 => return Ok(Type::U64),
            wit_parser::Type::F64 => return Ok(Type::F64),
            wit_parser::Type::String => return Ok(Type::Text),
            wit_parser::Type::Id(id) => *id,
            other => return Err(format!("{other:?} is not known here yet")),
        };
        Ok(match &resolve.types[id].kind {
            TypeDefKind::Type(r#type) => self.r#type(resolve, r#type)?,
            TypeDefKind::List(element) => Type::List(Box::new(self.r#type(resolve, element)?)),
            TypeDefKind::Option(element) => Type::Option(Box::new(self.r#type(resolve, element)?)),
            TypeDefKind::Tuple(tuple) => Type::Tuple(
                tuple.types.iter().map(|r#type| self.r#type(resolve, r#type)).collect::<Result<_, _>>()?,
            ),
            TypeDefKind::Handle(Handle::Own(resource)) => Type::Handle(self.define(resolve, *resource)?),
            _ => Type::Named(self.define(resolve, id)?),
        })
    }

    /// The name of a type, which is defined here first unless it is.
    fn define(&mut self, resolve: &Resolve, id: TypeId) -> Result<String, String> {
        let definition = &resolve.types[id];
        let name = definition.name.clone().ok_or("a type without name")?;
        if self.types.iter().any(|known| known.name == name) {
            return Ok(name);
        }
        let body = match &definition.kind {
            TypeDefKind::Record(record) => Body::Record(
                record
                    .fields
                    .iter()
                    .map(|field| self.field(resolve, &field.name, &field.docs, &field.ty))
                    .collect::<Result<_, _>>()?,
            ),
            TypeDefKind::Enum(r#enum) => Body::Enum(
                r#enum
                    .cases
                    .iter()
                    .map(|case| Case { name: case.name.clone(), docs: text(&case.docs), payload: None })
                    .collect(),
            ),
            TypeDefKind::Variant(variant) => {
                let mut cases = Vec::new();
                for case in &variant.cases {
                    let payload = case.ty.map(|payload| self.r#type(resolve, &payload)).transpose()?;
                    cases.push(Case { name: case.name.clone(), docs: text(&case.docs), payload });
                }
                Body::Variant(cases)
            }
            TypeDefKind::Resource => Body::Resource,
            kind => return Err(format!("{name} is a {}, which is not known here yet", kind.as_str())),
        };
        self.types.push(Definition { name: name.clone(), docs: text(&definition.docs), body });
        Ok(name)
    }

    fn field(
        &mut self,
        resolve: &Resolve,
        name: &str,
        docs: &Docs,
        r#type: &wit_parser::Type,
    ) -> Result<Field, String> {
        Ok(Field { name: name.into(), docs: text(docs), r#type: self.r#type(resolve, r#type)? })
    }
}

fn text(docs: &Docs) -> String {
    docs.contents.clone().unwrap_or_default()
}
