//! Thread ids: ordinary ones, and those of somebody who wants to slow the registry down.

/// What an agent runtime calls a conversation.
pub(crate) const ONE: &str = "conversation-0000001";

/// The tokens of one request; no thread here comes near a threshold of [`LIMIT`] with them.
pub(crate) const PROMPT_TOKENS: u64 = 1_400;
pub(crate) const COMPLETION_TOKENS: u64 = 300;
pub(crate) const LIMIT: u64 = 1 << 50;

/// Ids in the order in which their threads are created.
pub(crate) fn ordinary(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("conversation-{n:07}")).collect()
}

/// How far apart ids are that come one after the other when they are scattered. Odd, and no multiple of 5.
const STEP: usize = 618_033;

/// The same ids scattered, and laid out in memory in that order, so that walking through them costs
/// the caller little and the registry a random access each. The number of ids has no factor in common
/// with [`STEP`].
pub(crate) fn scattered(ids: &[String]) -> Vec<String> {
    (0..ids.len()).map(|n| ids[n * STEP % ids.len()].clone()).collect()
}

/// Ids one after the other, for ever.
pub(crate) struct InTurn {
    ids: Vec<String>,
    at: usize,
}

impl InTurn {
    pub(crate) fn new(ids: Vec<String>) -> Self {
        Self { ids, at: 0 }
    }

    pub(crate) fn next(&mut self) -> &str {
        self.at = if self.at + 1 < self.ids.len() { self.at + 1 } else { 0 };
        &self.ids[self.at]
    }
}

/// Ids of that many bytes each.
pub(crate) fn long(count: usize, bytes: usize) -> Vec<String> {
    (0..count).map(|n| format!("{n:0bytes$}")).collect()
}

/// All ids of one byte that are ASCII.
pub(crate) fn one_byte() -> Vec<String> {
    (0..128).map(|byte| char::from(byte).to_string()).collect()
}

/// Ids of 16 bytes that all have one hash in the registry's index: for a first word, the second that
/// leads to the target is computed, and kept when it is UTF-8. This has to follow `guest/core/src/index.rs`.
pub(crate) fn colliding(count: usize) -> Vec<String> {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let after = |first: u64| (16u64.rotate_left(23) ^ first).wrapping_mul(FACTOR).rotate_left(23);
    let target = u64::from_le_bytes(*b"anything");
    let mut state = 1u64;
    let mut ids = Vec::new();
    while ids.len() < count {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let first = (state & 0x0F0F_0F0F_0F0F_0F0F) | 0x6060_6060_6060_6060;
        let bytes = [first.to_le_bytes(), (after(first) ^ target).to_le_bytes()].concat();
        ids.extend(String::from_utf8(bytes));
    }
    ids
}
