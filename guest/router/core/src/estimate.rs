//! What a prompt takes, before anybody has counted its tokens: a rule of thumb, from its bytes.

/// The least that a prompt is estimated at, in tokens.
const LEAST: u64 = 100;

/// Bytes of UTF-8 in a token, of text and of code, in any script.
pub(crate) const BYTES_PER_TOKEN: u64 = 4;

/// The tokens of text of so many bytes.
pub(crate) fn of_bytes(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

/// The tokens of a prompt that is written in these pieces of JSON.
pub(crate) fn of_prompt<'a>(pieces: impl Iterator<Item = &'a str>) -> u64 {
    LEAST.max(of_bytes(pieces.map(|piece| piece.len() as u64).sum()))
}
