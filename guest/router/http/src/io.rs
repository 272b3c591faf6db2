//! Reading and writing within a time.

use crate::bindings::wasi::clocks::monotonic_clock;
use crate::bindings::wasi::http::types::IncomingBody;
use crate::bindings::wasi::io::poll::{Pollable, poll};
use crate::bindings::wasi::io::streams::{InputStream, OutputStream, StreamError};

/// How much is read at once, in bytes.
const PIECE: u64 = 64 << 10;

/// A point in time.
pub(crate) struct Deadline(Pollable);

impl Deadline {
    pub(crate) fn in_ms(ms: u64) -> Self {
        Self(monotonic_clock::subscribe_duration(nanoseconds(ms)))
    }

    /// Wait for something else; false when the time is over before it is ready.
    pub(crate) fn wait(&self, event: &Pollable) -> bool {
        poll(&[event, &self.0]).contains(&0)
    }

    /// Whether the time is over.
    pub(crate) fn is_over(&self) -> bool {
        self.0.ready()
    }
}

pub(crate) fn nanoseconds(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}

/// Sleep.
pub(crate) fn pause(ms: u64) {
    monotonic_clock::subscribe_duration(nanoseconds(ms)).block();
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
}

impl Reader {
    /// None when it was read before.
    pub(crate) fn new(body: IncomingBody) -> Option<Self> {
        Some(Self { stream: body.stream().ok()?, _body: body })
    }

    /// What has arrived, at least a byte; none at its end.
    pub(crate) fn next(&self, deadline: &Deadline) -> Result<Option<Vec<u8>>, ReadError> {
        loop {
            match self.stream.read(PIECE) {
                Ok(piece) if !piece.is_empty() => return Ok(Some(piece)),
                Ok(_) => {
                    if !deadline.wait(&self.stream.subscribe()) {
                        return Err(ReadError::TooSlow);
                    }
                }
                Err(StreamError::Closed) => return Ok(None),
                Err(StreamError::LastOperationFailed(_)) => return Err(ReadError::Broken),
            }
        }
    }

    /// All of it, appended to what is there.
    pub(crate) fn all(&self, limit: u64, deadline: &Deadline, all: &mut Vec<u8>) -> Result<(), ReadError> {
        while let Some(piece) = self.next(deadline)? {
            if (all.len() + piece.len()) as u64 > limit {
                return Err(ReadError::TooLong);
            }
            if all.is_empty() {
                *all = piece;
            } else {
                all.extend_from_slice(&piece);
            }
        }
        Ok(())
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
