//! Writes what the hosts in C and JavaScript know of the contract, and the contract as a page to read, out of `wit/`.

mod c;
mod contract;
mod node;
mod page;

use contract::Contract;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn main() -> ExitCode {
    let written = files().and_then(|files| {
        files.into_iter().try_for_each(|(name, text)| {
            fs::write(Path::new(PROJECT).join(name), text).map_err(|error| format!("{name}: {error}"))
        })
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Every file, with what it has to hold.
fn files() -> Result<[(&'static str, String); 5], String> {
    let contract = Contract::read(&Path::new(PROJECT).join("wit"))?;
    Ok([
        ("host-example/c/contract.h", c::header(&contract)),
        ("host-example/c/contract.c", c::layer(&contract)),
        ("host-example/c/dispatch.c", c::dispatch(&contract)),
        ("host-example/node/src/arguments.ts", node::arguments(&contract)),
        ("wit/README.md", page::page(&contract)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_what_wit_says() {
        for (name, text) in files().expect("hosts can be made from wit/") {
            let committed = fs::read_to_string(Path::new(PROJECT).join(name)).unwrap_or_default();
            assert!(committed == text, "{name} is stale: run `cargo run -p thread-budget-generate`");
        }
    }
}
