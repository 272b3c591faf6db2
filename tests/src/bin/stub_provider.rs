//! An LLM provider's stand-in as a process, see `thread_budget_tests::provider`.

use clap::Parser;
use std::net::SocketAddr;
use std::{io, thread};
use thread_budget_tests::provider::{Provider, Work};

/// Stand in for OpenAI and Anthropic. The first line says where, as http://127.0.0.1:PORT.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 is any that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// Give any POST the same chat completion, unread and unrecorded, to measure what is in front
    #[arg(long)]
    lean: bool,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let work = if arguments.lean { Work::Least } else { Work::Everything };
    let provider = Provider::start_at(arguments.listen, work)?;
    println!("{}", provider.url());
    loop {
        thread::park();
    }
}
