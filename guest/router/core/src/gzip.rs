//! Undoes gzip, which some providers send although they are asked not to. RFC 1952.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

/// The first byte of gzip, with which no text begins that an API answers.
const FIRST: u8 = 0x1f;
/// What stands behind the data: a check sum and the length.
const TRAILER_BYTES: usize = 8;
/// How much is decompressed at a time.
const STEP_BYTES: usize = 16 << 10;
/// The longest header; those in use have 10 bytes or some more.
const MOST_HEADER_BYTES: usize = 1 << 10;

/// Reads a body as it arrives, be it compressed or not.
#[derive(Debug, Default)]
pub(crate) enum Decoder {
    /// Nothing has arrived.
    #[default]
    New,
    /// It is not compressed.
    Plain,
    /// It is.
    Gzip(Gunzip),
}

/// Why a body cannot be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("cannot be decompressed")]
    Corrupt,
    #[error("is too long when it is decompressed")]
    TooLong,
}

impl Decoder {
    /// All of a body, decompressed.
    pub(crate) fn read_whole(body: &[u8], most: u64) -> Result<Cow<'_, [u8]>, Unreadable> {
        let mut decoder = Self::New;
        let decoded = decoder.read(body, most)?;
        match decoder {
            Self::Gzip(Gunzip { stage: Stage::Data, .. }) => Err(Unreadable::Corrupt),
            Self::Gzip(Gunzip { stage: Stage::Header(header), .. }) if !header.is_empty() => {
                Err(Unreadable::Corrupt)
            }
            _ => Ok(decoded),
        }
    }

    /// What has arrived, decompressed: at most `most` bytes of one piece.
    pub(crate) fn read<'p>(&mut self, piece: &'p [u8], most: u64) -> Result<Cow<'p, [u8]>, Unreadable> {
        if let (Self::New, Some(&first)) = (&self, piece.first()) {
            *self = if first == FIRST { Self::Gzip(Gunzip::new()) } else { Self::Plain };
        }
        match self {
            Self::New | Self::Plain => Ok(Cow::Borrowed(piece)),
            Self::Gzip(gunzip) => gunzip.read(piece, most).map(Cow::Owned),
        }
    }
}

/// Reads members of gzip, one behind the other.
pub(crate) struct Gunzip {
    state: Box<InflateState>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// In a header, of which so much has arrived.
    Header(Vec<u8>),
    Data,
    /// In what stands behind the data, so many bytes before its end.
    Trailer(usize),
}

impl Gunzip {
    fn new() -> Self {
        Self { state: InflateState::new_boxed(DataFormat::Raw), stage: Stage::Header(Vec::new()) }
    }

    fn read(&mut self, mut piece: &[u8], most: u64) -> Result<Vec<u8>, Unreadable> {
        let mut out = Vec::new();
        while !piece.is_empty() {
            match &mut self.stage {
                Stage::Header(header) => {
                    let before = header.len();
                    header.extend_from_slice(&piece[..piece.len().min(MOST_HEADER_BYTES - before)]);
                    match header_length(header)? {
                        Some(length) => {
                            piece = &piece[length - before..];
                            self.state.reset(DataFormat::Raw);
                            self.stage = Stage::Data;
                        }
                        None if header.len() < MOST_HEADER_BYTES => break,
                        None => return Err(Unreadable::Corrupt),
                    }
                }
                Stage::Data => piece = self.inflate(piece, most, &mut out)?,
                Stage::Trailer(left) => {
                    let skipped = piece.len().min(*left);
                    piece = &piece[skipped..];
                    *left -= skipped;
                    if *left == 0 {
                        self.stage = Stage::Header(Vec::new());
                    }
                }
            }
        }
        Ok(out)
    }

    /// Decompress a piece up to the end of the data; the rest of the piece is what stands behind.
    fn inflate<'p>(
        &mut self,
        mut piece: &'p [u8],
        most: u64,
        out: &mut Vec<u8>,
    ) -> Result<&'p [u8], Unreadable> {
        loop {
            let start = out.len();
            out.resize(start + STEP_BYTES, 0);
            let result = inflate(&mut self.state, piece, &mut out[start..], MZFlush::None);
            out.truncate(start + result.bytes_written);
            piece = &piece[result.bytes_consumed..];
            if out.len() as u64 > most {
                return Err(Unreadable::TooLong);
            }
            match result.status {
                Ok(MZStatus::StreamEnd) => {
                    self.stage = Stage::Trailer(TRAILER_BYTES);
                    return Ok(piece);
                }
                // There may be more where there was no room for it.
                Ok(_) | Err(MZError::Buf) if result.bytes_written == STEP_BYTES => {}
                Ok(_) | Err(MZError::Buf) if piece.is_empty() => return Ok(piece),
                Ok(_) if result.bytes_consumed > 0 || result.bytes_written > 0 => {}
                _ => return Err(Unreadable::Corrupt),
            }
        }
    }
}

impl fmt::Debug for Gunzip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gunzip").field("stage", &self.stage).finish_non_exhaustive()
    }
}

/// How long a header is that begins like this; none while its end has not arrived.
fn header_length(header: &[u8]) -> Result<Option<usize>, Unreadable> {
    const FIXED: usize = 10;
    const HAS_CHECK_SUM: u8 = 2;
    const HAS_EXTRA: u8 = 4;
    const HAS_NAME: u8 = 8;
    const HAS_COMMENT: u8 = 16;
    let start = [FIRST, 0x8b, 8];
    if header.iter().zip(start).any(|(&byte, right)| byte != right) {
        return Err(Unreadable::Corrupt);
    }
    let Some(&flags) = header.get(3) else { return Ok(None) };
    let mut length = FIXED;
    if flags & HAS_EXTRA != 0 {
        let Some(&[low, high]) = header.get(length..length + 2) else { return Ok(None) };
        length += 2 + usize::from(u16::from_le_bytes([low, high]));
    }
    for is_there in [flags & HAS_NAME != 0, flags & HAS_COMMENT != 0] {
        if is_there {
            let text = header.get(length..).and_then(|rest| rest.iter().position(|&byte| byte == 0));
            let Some(end) = text else { return Ok(None) };
            length += end + 1;
        }
    }
    if flags & HAS_CHECK_SUM != 0 {
        length += 2;
    }
    Ok((header.len() >= length).then_some(length))
}
