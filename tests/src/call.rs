//! A call of the contract, and what came of it, as JSON: the language of the vectors.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::fmt;

/// One call, named and with arguments as in a step of a vector.
#[derive(Clone, Deserialize, Serialize)]
pub struct Call {
    /// The name of a function, or `thread-budget.` and the name of a method.
    #[serde(rename = "call")]
    pub name: String,
    #[serde(flatten)]
    arguments: Map<String, Value>,
}

impl Call {
    /// A call with the fields of an object as its arguments.
    ///
    /// # Panics
    /// When `arguments` is not an object.
    #[must_use]
    pub fn new(name: &str, arguments: Value) -> Self {
        let Value::Object(arguments) = arguments else { panic!("{arguments} are not named") };
        Self { name: name.into(), arguments }
    }

    /// An argument; one that is left out is null.
    ///
    /// # Panics
    /// When it is not of the type.
    #[must_use]
    pub fn get<T: DeserializeOwned>(&self, argument: &str) -> T {
        let value = self.value(argument).clone();
        serde_json::from_value(value).unwrap_or_else(|error| panic!("{argument} of {self:?}: {error}"))
    }

    /// An argument that is a text.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn text(&self, argument: &str) -> &str {
        self.value(argument).as_str().unwrap_or_else(|| panic!("{argument} of {self:?} is not a text"))
    }

    /// The same with another argument.
    #[must_use]
    pub fn with(&self, argument: &str, value: Value) -> Self {
        let mut call = self.clone();
        call.arguments.insert(argument.into(), value);
        call
    }

    /// An argument as it is; one that is left out is null.
    #[must_use]
    pub fn value(&self, argument: &str) -> &Value {
        self.arguments.get(argument).unwrap_or(&Value::Null)
    }

    /// The names of the arguments that are there.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.arguments.keys().map(String::as_str)
    }

    /// Whether it changes nothing, whatever it is answered.
    #[must_use]
    pub fn is_query(&self) -> bool {
        const QUERIES: [&str; 8] = [
            "max-tokens-per-thread",
            "thresholds",
            "pending-warnings",
            "has-budget",
            "get-usage",
            "get-all-usage",
            "held-tokens",
            "snapshot",
        ];
        QUERIES.contains(&&*self.name)
    }
}

/// The step of a vector, so that a failure can become one.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", returned(self))
    }
}

/// A record that is an argument only, as are the next two.
#[derive(Deserialize)]
pub(crate) struct UsageEntry {
    pub(crate) thread_id: String,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
}

#[derive(Deserialize)]
pub(crate) struct ThreadOptions {
    pub(crate) max_tokens: Option<u64>,
    pub(crate) parent: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Acknowledgement {
    pub(crate) threshold_percent: u32,
    pub(crate) max_tokens: u64,
}

/// What a call returned, or the contract's error. Counts that a JavaScript number cannot hold are
/// decimal strings in both.
pub type Outcome = Result<Value, Value>;

/// The largest count that every JSON reader takes as it is written.
const LARGEST_PORTABLE: u64 = 1 << 53;

/// A result as the vectors write it.
pub(crate) fn returned(value: impl Serialize) -> Value {
    let mut value = json!(value);
    make_portable(&mut value);
    value
}

/// Replace counts that a JavaScript number cannot hold by decimal strings.
fn make_portable(value: &mut Value) {
    for_each_scalar(value, &|scalar| {
        if let Some(count) = scalar.as_u64().filter(|count| *count > LARGEST_PORTABLE) {
            *scalar = Value::String(count.to_string());
        }
    });
}

/// Put the numbers back.
pub(crate) fn undo_portable(value: &mut Value) {
    for_each_scalar(value, &|scalar| {
        let count = scalar.as_str().and_then(|text| text.parse::<u64>().ok());
        if let Some(count) = count.filter(|count| *count > LARGEST_PORTABLE) {
            *scalar = count.into();
        }
    });
}

fn for_each_scalar(value: &mut Value, change: &dyn Fn(&mut Value)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| for_each_scalar(item, change)),
        Value::Object(fields) => fields.values_mut().for_each(|field| for_each_scalar(field, change)),
        scalar => change(scalar),
    }
}
