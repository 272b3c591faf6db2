//! What else could keep the same budgets: a map of atomics in this process, a class in Python, Redis.

use crate::component::CONSUME;
use crate::ids::{COMPLETION_TOKENS, LIMIT, ONE, PROMPT_TOKENS};
use crate::measure::{Group, Row, Sampler, Unit, calls_per_second, nanoseconds_per_call};
use dashmap::DashMap;
use redis::{Client, Connection, Script};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

pub(crate) fn rows() -> Group {
    let rows = vec![
        Row::call("DashMap of atomics, consume", dash_map).against(CONSUME),
        Row::optional("CPython class, check", Unit::Nanoseconds, || python("check")),
        Row::optional("CPython class, consume", Unit::Nanoseconds, || python("consume"))
            .against(CONSUME)
            .at_least(6.0),
        Row::optional("Redis on loopback, 1 client", Unit::Nanoseconds, redis_one).against(CONSUME),
        Row::optional("Redis on loopback, 64 clients", Unit::Nanoseconds, redis_many).against(CONSUME),
    ];
    Group { title: "others: record a request and say what is left", rows }
}

/// The counters of a thread, and the thresholds that were reached, as bits.
#[derive(Default)]
pub(crate) struct Counters {
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    requests: AtomicU64,
    reached: AtomicU64,
}

fn dash_map() -> impl FnMut() {
    let threads: DashMap<String, Counters> = DashMap::new();
    threads.insert(ONE.into(), Counters::default());
    move || count(&threads, ONE)
}

/// What `consume` does, at its barest.
pub(crate) fn count(threads: &DashMap<String, Counters>, id: &str) {
    let thread = threads.get(black_box(id)).expect("it exists");
    let prompt = thread.prompt_tokens.fetch_add(PROMPT_TOKENS, Ordering::Relaxed) + PROMPT_TOKENS;
    let completion =
        thread.completion_tokens.fetch_add(COMPLETION_TOKENS, Ordering::Relaxed) + COMPLETION_TOKENS;
    let requests = thread.requests.fetch_add(1, Ordering::Relaxed) + 1;
    let mut reached = 0;
    for (bit, percent) in [75, 90, 95].into_iter().enumerate() {
        let enough = u128::from(prompt + completion) * 100 >= percent * u128::from(LIMIT);
        reached |= u64::from(enough) << bit;
    }
    let crossed = reached & !thread.reached.fetch_or(reached, Ordering::Relaxed);
    black_box((prompt, completion, requests, crossed));
}

/// A program that is ended with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `reference.py` waits for a line and answers with the nanoseconds of a call.
fn python(call: &str) -> Result<Sampler, String> {
    const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/bench/reference.py");
    let mut program = Command::new("python3")
        .args([SCRIPT, call, ONE, &LIMIT.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("python3 cannot be started: {error}"))?;
    let (Some(mut input), Some(output)) = (program.stdin.take(), program.stdout.take()) else {
        return Err("python3 has no pipes".into());
    };
    let (program, mut output) = (Running(program), BufReader::new(output));
    Ok(Box::new(move || {
        let _running = &program;
        let mut answer = String::new();
        writeln!(input).and_then(|()| output.read_line(&mut answer)).expect("the script answers");
        answer.trim().parse().expect("a number of nanoseconds")
    }))
}

/// Check and increment in one call; says what is used, or -1 when it does not fit.
const LUA: &str = "
    local used = tonumber(redis.call('HGET', KEYS[1], 'total') or 0)
    if used >= tonumber(ARGV[3]) then return -1 end
    redis.call('HINCRBY', KEYS[1], 'prompt', ARGV[1])
    redis.call('HINCRBY', KEYS[1], 'completion', ARGV[2])
    redis.call('HINCRBY', KEYS[1], 'requests', 1)
    return redis.call('HINCRBY', KEYS[1], 'total', ARGV[1] + ARGV[2])";

fn redis_one() -> Result<Sampler, String> {
    let (server, mut connections) = redis(1)?;
    Ok(Box::new(move || {
        let _running = &server;
        let script = Script::new(LUA);
        nanoseconds_per_call(|| check_and_count(&script, &mut connections[0], ONE))
    }))
}

fn redis_many() -> Result<Sampler, String> {
    const CLIENTS: usize = 64;
    let (server, connections) = redis(CLIENTS)?;
    let connections: Vec<_> = connections.into_iter().map(Mutex::new).collect();
    Ok(Box::new(move || {
        let _running = &server;
        let script = Script::new(LUA);
        1e9 / calls_per_second(CLIENTS, |client| {
            let (script, id) = (&script, format!("conversation-{client:07}"));
            let mut connection = connections[client].lock().expect("a client does not panic");
            move || check_and_count(script, &mut connection, &id)
        })
    }))
}

fn check_and_count(script: &Script, connection: &mut Connection, id: &str) {
    let used: i64 = script
        .key(id)
        .arg(PROMPT_TOKENS)
        .arg(COMPLETION_TOKENS)
        .arg(LIMIT)
        .invoke(connection)
        .expect("Redis answers");
    assert!(used > 0);
}

/// A server of our own on a free port of the loopback interface, which keeps nothing.
fn redis(connections: usize) -> Result<(Running, Vec<Connection>), String> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = free.map_err(|error| format!("no free port: {error}"))?.port().to_string();
    let server = Command::new("redis-server")
        .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("redis-server cannot be started: {error}"))?;
    let server = Running(server);
    let client = Client::open(format!("redis://127.0.0.1:{port}")).map_err(|error| error.to_string())?;
    for _ in 0..50 {
        if let Ok(connections) = (0..connections).map(|_| client.get_connection()).collect() {
            return Ok((server, connections));
        }
        thread::sleep(Duration::from_millis(100));
    }
    Err("redis-server does not answer".into())
}
