//! Plays the transcripts of `tests/transcripts` with the component.

use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use thread_budget_tests::transcript;
use wasmtime::component::{Component, Func, Instance, Linker, Type, Val};
use wasmtime::{Config, Engine, Store, StoreLimits, StoreLimitsBuilder};

/// The folder of a path of this repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The component, an instance for each exchange.
struct Instances {
    component: Component,
    linker: Linker<StoreLimits>,
    /// What the memory of an instance is capped at, in bytes.
    most_memory: usize,
    current: Option<(Store<StoreLimits>, Instance)>,
}

impl Instances {
    fn new() -> Self {
        Self::of(&Engine::default())
    }

    fn of(engine: &Engine) -> Self {
        let file = repository("host-example/serve/component/thread_budget_router.wasm");
        let component = Component::from_file(engine, file).unwrap();
        Self { component, linker: Linker::new(engine), most_memory: 256 << 20, current: None }
    }

    /// A fresh instance.
    fn instantiate(&mut self) {
        let limits =
            StoreLimitsBuilder::new().memory_size(self.most_memory).trap_on_grow_failure(true).build();
        let mut store = Store::new(self.component.engine(), limits);
        store.limiter(|limits| limits);
        // Where instructions are counted at all.
        let _ = store.set_fuel(u64::MAX);
        let instance = self.linker.instantiate(&mut store, &self.component).unwrap();
        self.current = Some((store, instance));
    }

    fn call(&mut self, name: &str, arguments: &[Value]) -> Value {
        let (store, instance) = self.current.as_mut().unwrap();
        let policy =
            instance.get_export_index(&mut *store, None, "thread-budget:router/policy@0.2.0").unwrap();
        let function = instance.get_export_index(&mut *store, Some(&policy), name).unwrap();
        let function: Func = instance.get_func(&mut *store, function).unwrap();
        let types = function.ty(&*store);
        let arguments: Vec<_> =
            types.params().zip(arguments).map(|((_, ty), argument)| to_val(&ty, argument)).collect();
        let mut results = [Val::Bool(false)];
        function.call(&mut *store, &arguments, &mut results).unwrap();
        from_val(&results[0])
    }
}

impl transcript::Policy for Instances {
    fn begin(&mut self, config: &Value) {
        self.instantiate();
        let compiled = self.call("compile", &[config.to_string().into()])["ok"].take();
        assert_eq!(self.call("configure", &[compiled]), json!({"ok": null}));
    }

    fn step(&mut self, now_ms: u64, event: Value) -> Value {
        self.call("step", &[now_ms.into(), event])
    }
}

#[test]
fn every_transcript_is_followed() {
    let wrong = transcript::run(&repository("tests/transcripts"), &mut Instances::new());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_was_not_compiled_configures_nothing() {
    let mut instances = Instances::new();
    instances.instantiate();
    let wrong = instances.call("compile", &["{}".into()]);
    assert!(wrong["err"].as_str().unwrap().contains("no upstream"), "{wrong}");
    assert!(instances.call("configure", &["{}".into()])["err"].is_string());
    let turn = instances.call("step", &[0.into(), "woke".into()]);
    assert_eq!(turn["next"], "done");
}

fn held(completion: u64) -> Value {
    json!({"held": {"completion_tokens": completion, "usage": {"max_tokens": 1e9 as u64}, "room": 1e8 as u64}})
}

/// An exchange of which the answer has begun.
fn begin_stream(policy: &mut dyn transcript::Policy, content_type: &str) {
    policy.begin(&json!({"upstreams": [{"url": "https://provider"}]}));
    let request = json!({
        "id": "x", "method": "POST", "target": "/v1/chat/completions", "headers": "x-thread-id: a\n",
        "body": {"whole": r#"{"stream":true,"messages":[]}"#}
    });
    policy.step(0, json!({"request": request}));
    policy.step(0, held(4_096));
    let headers = format!("content-type: {content_type}\n");
    policy.step(0, json!({"answer": {"status": 200, "headers": headers, "body": ""}}));
}

/// What the policy says to a piece of it, once it holds what it wants for that.
fn piece_of_stream(policy: &mut dyn transcript::Policy, piece: &str) -> Value {
    let turn = policy.step(0, json!({"piece": piece}));
    match turn["next"]["hold"]["completion_tokens"].as_u64() {
        Some(completion) => policy.step(0, held(completion)),
        None => turn,
    }
}

#[test]
fn a_long_stream_takes_no_more_memory_than_its_longest_event() {
    let mut instances = Instances { most_memory: 1 << 20, ..Instances::new() };
    begin_stream(&mut instances, "text/event-stream");
    for number in 0..20_000 {
        let length = number % 300;
        let event =
            format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "x".repeat(length));
        let turn = piece_of_stream(&mut instances, &event);
        assert!(turn["next"]["read"].is_u64(), "{turn}");
    }
}

/// It is counted in instructions, which are the same however busy the machine is.
#[test]
fn long_answers_take_work_in_proportion() {
    const CALL: &str = r#"{"input_tokens":1,"output_tokens":"1"},"#;
    let engine = Engine::new(Config::new().consume_fuel(true)).unwrap();
    let mut instances = Instances::of(&engine);
    let mut work = |content_type: &str, start: &str, part: &str, length: usize| {
        begin_stream(&mut instances, content_type);
        let body = start.to_owned() + &part.repeat(length / part.len());
        for piece in body.as_bytes().chunks(1_400) {
            let turn = piece_of_stream(&mut instances, str::from_utf8(piece).unwrap());
            if !turn["next"]["read"].is_u64() {
                break;
            }
        }
        transcript::Policy::step(&mut instances, 0, "ended".into());
        u64::MAX - instances.current.as_ref().unwrap().0.get_fuel().unwrap()
    };
    for (content_type, start, part) in [
        ("text/event-stream", "", "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n"),
        // Without the empty line.
        ("text/event-stream", "", "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n"),
        ("text/event-stream", "", "data: {\"choices\":[\n"),
        ("text/event-stream", "", "data: {\"error\":\n\n"),
        ("text/event-stream", "", "data: "),
        ("text/event-stream", "", "\r"),
        ("text/event-stream", "", "event:\n"),
        ("text/event-stream", "", "["),
        ("application/json", r#"{"usage":{"iterations":["#, CALL),
        ("application/json", r#"{"usage":{"x":"#, "["),
    ] {
        let (short, long) =
            (work(content_type, start, part, 1 << 17), work(content_type, start, part, 1 << 20));
        assert!(long < 12 * short, "{start:?} {part:?}: {short} instructions for 128 KiB, {long} for 1 MiB");
    }
}

/// A JSON value as one of a type; what is left out is 0, empty or none.
fn to_val(ty: &Type, value: &Value) -> Val {
    match ty {
        Type::Bool => Val::Bool(value.as_bool().unwrap_or_default()),
        Type::U8 => Val::U8(value.as_u64().unwrap_or_default().try_into().unwrap()),
        Type::U16 => Val::U16(value.as_u64().unwrap_or_default().try_into().unwrap()),
        Type::U32 => Val::U32(value.as_u64().unwrap_or_default().try_into().unwrap()),
        Type::U64 => Val::U64(value.as_u64().unwrap_or_default()),
        Type::Float64 => Val::Float64(value.as_f64().unwrap_or_default()),
        Type::String => Val::String(value.as_str().unwrap_or_default().into()),
        Type::List(list) if matches!(list.ty(), Type::U8) => match value {
            Value::String(text) => Val::List(text.bytes().map(Val::U8).collect()),
            bytes => Val::List(
                bytes.as_array().into_iter().flatten().map(|byte| to_val(&Type::U8, byte)).collect(),
            ),
        },
        Type::List(list) => {
            Val::List(value.as_array().into_iter().flatten().map(|item| to_val(&list.ty(), item)).collect())
        }
        Type::Option(_) if value.is_null() => Val::Option(None),
        Type::Option(option) => Val::Option(Some(Box::new(to_val(&option.ty(), value)))),
        Type::Enum(names) => {
            let first = || names.names().next().map(str::to_owned);
            Val::Enum(value.as_str().map(|name| name.replace('_', "-")).or_else(first).unwrap())
        }
        Type::Record(record) => {
            let unknown = value
                .as_object()
                .into_iter()
                .flat_map(Map::keys)
                .find(|name| !record.fields().any(|field| field.name == name.replace('_', "-")));
            assert_eq!(unknown, None, "no field of the record");
            let field = |name: &str| value.get(name.replace('-', "_")).unwrap_or(&Value::Null);
            Val::Record(record.fields().map(|it| (it.name.into(), to_val(&it.ty, field(it.name)))).collect())
        }
        Type::Variant(variant) => {
            let (name, payload) = match value {
                Value::String(name) => (name, &Value::Null),
                other => other.as_object().unwrap().iter().next().unwrap(),
            };
            let name = name.replace('_', "-");
            let case =
                variant.cases().find(|case| case.name == name).unwrap_or_else(|| panic!("no case {name}"));
            Val::Variant(name, case.ty.map(|ty| Box::new(to_val(&ty, payload))))
        }
        other => panic!("the contract has no {other:?}"),
    }
}

/// A value as JSON: bytes are text, where they are some.
fn from_val(value: &Val) -> Value {
    let named = |name: &str| name.replace('-', "_");
    match value {
        Val::Bool(value) => (*value).into(),
        Val::U8(value) => (*value).into(),
        Val::U16(value) => (*value).into(),
        Val::U32(value) => (*value).into(),
        Val::U64(value) => (*value).into(),
        Val::String(value) => value.clone().into(),
        Val::List(items) => {
            let bytes: Option<Vec<u8>> =
                items.iter().map(|item| if let Val::U8(byte) = item { Some(*byte) } else { None }).collect();
            match bytes.filter(|bytes| !bytes.is_empty()).map(String::from_utf8) {
                Some(Ok(text)) => text.into(),
                Some(Err(bytes)) => json!(bytes.as_bytes()),
                None => items.iter().map(from_val).collect(),
            }
        }
        Val::Option(value) => value.as_deref().map_or(Value::Null, from_val),
        Val::Result(Ok(value)) => json!({"ok": value.as_deref().map_or(Value::Null, from_val)}),
        Val::Result(Err(value)) => json!({"err": value.as_deref().map_or(Value::Null, from_val)}),
        Val::Enum(name) => named(name).into(),
        Val::Record(fields) => fields.iter().map(|(name, value)| (named(name), from_val(value))).collect(),
        Val::Variant(name, None) => named(name).into(),
        Val::Variant(name, Some(value)) => json!({named(name): from_val(value)}),
        other => panic!("the contract has no {other:?}"),
    }
}
