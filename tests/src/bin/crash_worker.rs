//! `crash_worker DATABASE DURABILITY NEXT...`: every caller goes on with its next step until the process
//! is killed. A line says which step of which caller begins, and another, with what it handed out, that
//! it was acknowledged.

use std::io::{Write, stdout};
use std::thread;
use thread_budget_host::{Durability, RegistryBuilder};
use thread_budget_tests::crash::Step;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [database, durability, next @ ..] = &*arguments else { panic!("DATABASE DURABILITY NEXT...") };
    let durability = if durability == "immediate" { Durability::Immediate } else { Durability::Batched };
    let registry = RegistryBuilder::default()
        .database(database)
        .durability(durability)
        .checkpoint_after(100)
        .build()
        .unwrap_or_else(|error| panic!("{error}"))
        .blocking();
    thread::scope(|scope| {
        for (caller, next) in next.iter().enumerate() {
            let registry = &registry;
            let next: u64 = next.parse().unwrap_or_else(|error| panic!("{next}: {error}"));
            scope.spawn(move || {
                for index in next.. {
                    say(&format!("{caller} {index} begins"));
                    let handed_out = Step::of(caller, index)
                        .on_host(registry)
                        .unwrap_or_else(|error| panic!("{caller} {index}: {error}"));
                    say(&format!("{caller} {index} done {}", handed_out.join(",")));
                }
            });
        }
    });
}

/// In one write, which a pipe takes whole or not at all.
fn say(line: &str) {
    // Nobody to talk to is the same as being killed.
    if stdout().write_all(format!("{line}\n").as_bytes()).is_err() {
        std::process::exit(1);
    }
}
