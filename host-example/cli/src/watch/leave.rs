//! The end of a watch: when somebody asks for it, or whoever saw it is gone. It comes even where a terminal that is
//! gone keeps its reader busy for ever.

use super::super::Failure;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{process, thread};

/// How long the screen may take to leave when it is asked to.
const PATIENCE: Duration = Duration::from_secs(1);

/// Turns true with the first signal to end; a moment later it ends in any case.
pub(super) fn on_signal() -> Result<Arc<AtomicBool>, Failure> {
    let asked = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&asked);
    ctrlc::set_handler(move || {
        told.store(true, Ordering::Relaxed);
        thread::sleep(PATIENCE);
        process::exit(0);
    })
    .map_err(|error| Failure::Other(format!("cannot listen for signals: {error}")))?;
    Ok(asked)
}

/// End with standard output: when its terminal, or the program that reads it, is gone.
pub(super) fn with_output() {
    #[cfg(unix)]
    thread::spawn(|| {
        use rustix::event::{PollFd, PollFlags, poll};
        use rustix::io::Errno;

        let output = std::io::stdout();
        // Nothing is waited for but that there is nobody any more.
        let mut ends = [PollFd::new(&output, PollFlags::empty())];
        loop {
            match poll(&mut ends, None) {
                Ok(_) => process::exit(0),
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    });
}
