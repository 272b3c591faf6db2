//! Reading and writing within a time.

use crate::bindings::wasi::clocks::monotonic_clock;
use crate::bindings::wasi::http::types::IncomingBody;
use crate::bindings::wasi::io::poll::{Pollable, poll};
use crate::bindings::wasi::io::streams::{InputStream, OutputStream, StreamError};

/// How much is read at once, in bytes.
const PIECE: u64 = 64 << 10;

/// Milliseconds by a clock that never goes back.
pub(crate) fn now_ms() -> u64 {
    monotonic_clock::now() / 1_000_000
}

pub(crate) fn nanoseconds(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}

/// Sleep.
pub(crate) fn pause(ms: u64) {
    monotonic_clock::subscribe_duration(nanoseconds(ms)).block();
}

/// A point in time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline(u64);

impl Deadline {
    pub(crate) fn in_ms(ms: u64) -> Self {
        Self(monotonic_clock::now().saturating_add(nanoseconds(ms)))
    }

    /// Wait for one of these; none when the time is over before any is ready.
    pub(crate) fn first_of(self, events: &[&Pollable]) -> Option<usize> {
        let timer = monotonic_clock::subscribe_instant(self.0);
        let all: Vec<_> = events.iter().copied().chain([&timer]).collect();
        // In the order that they were given in, and there is at least one.
        let first = *poll(&all).first()? as usize;
        (first < events.len()).then_some(first)
    }
}

/// Why a body could not be read.
pub(crate) enum ReadError {
    /// It is longer than allowed.
    TooLong,
    /// It took longer than allowed.
    TooSlow,
    /// The other side broke it off.
    Broken,
}

/// A body that is being read.
pub(crate) struct Reader {
    stream: InputStream,
    // Dropped after the stream, which is a part of it.
    _body: IncomingBody,
    /// How many bytes have come.
    pub(crate) received: u64,
}

impl Reader {
    /// None when it was read before.
    pub(crate) fn new(body: IncomingBody) -> Option<Self> {
        Some(Self { stream: body.stream().ok()?, _body: body, received: 0 })
    }

    /// What has arrived, at least a byte; none at its end.
    pub(crate) fn next(&mut self, by: Deadline) -> Result<Option<Vec<u8>>, ReadError> {
        loop {
            match self.stream.read(PIECE) {
                Ok(piece) if !piece.is_empty() => {
                    self.received = self.received.saturating_add(piece.len() as u64);
                    return Ok(Some(piece));
                }
                Ok(_) => {
                    by.first_of(&[&self.stream.subscribe()]).ok_or(ReadError::TooSlow)?;
                }
                Err(StreamError::Closed) => return Ok(None),
                Err(StreamError::LastOperationFailed(_)) => return Err(ReadError::Broken),
            }
        }
    }

    /// All that is left of it, each piece by a time of its own.
    pub(crate) fn rest(&mut self, most: u64, by: impl Fn() -> Deadline) -> Result<Vec<u8>, ReadError> {
        let mut all = Vec::new();
        while let Some(piece) = self.next(by())? {
            if (all.len() + piece.len()) as u64 > most {
                return Err(ReadError::TooLong);
            }
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }
}

/// Write all of it; false when the other side no longer takes it, or `wait` says so: it is asked to wait
/// until the stream takes more.
pub(crate) fn write(stream: &OutputStream, mut bytes: &[u8], wait: impl Fn(&Pollable) -> bool) -> bool {
    while !bytes.is_empty() {
        match stream.check_write() {
            Ok(0) => {
                if !wait(&stream.subscribe()) {
                    return false;
                }
            }
            Ok(room) => {
                let (now, later) =
                    bytes.split_at(bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
                if stream.write(now).is_err() {
                    return false;
                }
                bytes = later;
            }
            Err(_) => return false,
        }
    }
    true
}
