//! `thread-budget watch`: a router's threads, live, in a terminal or as lines of JSON.

mod leave;
mod model;
mod screen;
mod stream;

use super::Failure;
use clap::Args;
use model::{Model, Move};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{env, thread};
use stream::{Source, Update};
use tokio::sync::mpsc;

/// Where the token is looked for when it is not given.
const TOKEN: &str = "THREAD_BUDGET_ADMIN_TOKEN";

/// How often the screen is drawn without a key being pressed.
const PACE: Duration = Duration::from_millis(100);

/// How many updates may wait for the screen or the output.
const BACKLOG: usize = 256;

/// Watch a router's threads live: their budgets, warnings and refusals.
///
/// In a terminal: arrows, Page Up and Page Down, Home and End move; s changes the order; q leaves. When
/// standard output is not a terminal every event is printed as a line of JSON. When the router goes
/// away it is tried again until it is back; when the terminal or the reader of the lines goes away this ends.
#[derive(Args)]
pub(super) struct WatchArgs {
    /// Where the router's admin side is.
    #[arg(default_value = "http://127.0.0.1:8081")]
    url: String,
    /// Its admin token. [default: what THREAD_BUDGET_ADMIN_TOKEN says, which other users cannot see]
    #[arg(long)]
    token: Option<String>,
}

pub(super) fn run(args: &WatchArgs) -> Result<(), Failure> {
    let token = args.token.clone().or_else(|| env::var(TOKEN).ok()).filter(|token| !token.is_empty());
    let source = Source::new(&args.url, token.as_deref())?;
    let (sender, updates) = mpsc::channel(BACKLOG);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // It ends with the process.
    thread::spawn(move || runtime.block_on(source.follow(sender)));
    leave::with_output();
    if io::stdout().is_terminal() { show(&args.url, updates) } else { print(updates) }
}

/// Every event as a line, until the reader or the router has had enough.
fn print(mut updates: mpsc::Receiver<Update>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    while let Some(update) = updates.blocking_recv() {
        match update {
            Update::Event { data, .. } => {
                writeln!(out, "{data}")?;
                out.flush()?;
            }
            Update::Connected => {}
            Update::Lost(reason) => anstream::eprintln!("{reason}; trying again"),
            Update::Refused(reason) => return Err(Failure::Input(reason)),
        }
    }
    Ok(())
}

fn show(url: &str, mut updates: mpsc::Receiver<Update>) -> Result<(), Failure> {
    let stopped = leave::on_signal()?;
    let has_colour = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut model = Model::new(url, has_colour);
    // A panic restores the terminal, too.
    let mut terminal = ratatui::try_init()?;
    let result = loop {
        match take_waiting(&mut updates, &mut model) {
            Ok(()) => {}
            failed => break failed,
        }
        if let Err(error) = terminal.draw(|frame| screen::draw(frame, &mut model)) {
            break Err(error.into());
        }
        match press(&mut model) {
            Ok(true) if !stopped.load(Ordering::Relaxed) => {}
            Ok(_) => break Ok(()),
            Err(error) => break Err(error.into()),
        }
    };
    ratatui::try_restore()?;
    result
}

fn take_waiting(updates: &mut mpsc::Receiver<Update>, model: &mut Model) -> Result<(), Failure> {
    while let Ok(update) = updates.try_recv() {
        match update {
            Update::Event { event, .. } => model.take(*event),
            Update::Connected => model.status = None,
            Update::Lost(reason) => model.status = Some(reason),
            Update::Refused(reason) => return Err(Failure::Input(reason)),
        }
    }
    Ok(())
}

/// Wait for a key for a while, and do what it says; false is to leave.
fn press(model: &mut Model) -> io::Result<bool> {
    if !event::poll(PACE)? {
        return Ok(true);
    }
    let Event::Key(key) = event::read()? else { return Ok(true) };
    if key.kind == KeyEventKind::Release {
        return Ok(true);
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return Ok(false),
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(false),
        KeyCode::Char('s') => model.next_order(),
        KeyCode::Down | KeyCode::Char('j') => model.go(Move::Down(1)),
        KeyCode::Up | KeyCode::Char('k') => model.go(Move::Up(1)),
        KeyCode::PageDown => model.go(Move::Down(model.page())),
        KeyCode::PageUp => model.go(Move::Up(model.page())),
        KeyCode::Home => model.go(Move::Up(usize::MAX)),
        KeyCode::End => model.go(Move::Down(usize::MAX)),
        _ => {}
    }
    Ok(true)
}
