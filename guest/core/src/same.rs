//! Comparing names, which is most of a lookup: libc on WebAssembly does it byte by byte.

use core::cmp::Ordering;

/// An order of names, part by part.
pub(crate) fn compare<const PARTS: usize>(a: [&str; PARTS], b: [&str; PARTS]) -> Ordering {
    a.iter().zip(b).map(|(a, b)| compare_part(a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// Whether two names are the same.
pub(crate) fn is_same<const PARTS: usize>(a: [&str; PARTS], b: [&str; PARTS]) -> bool {
    compare(a, b).is_eq()
}

/// Eight bytes at a time.
fn compare_part(a: &str, b: &str) -> Ordering {
    let ((a_words, a_rest), (b_words, b_rest)) =
        (a.as_bytes().as_chunks::<8>(), b.as_bytes().as_chunks::<8>());
    for (a, b) in a_words.iter().zip(b_words) {
        let (a, b) = (u64::from_be_bytes(*a), u64::from_be_bytes(*b));
        if a != b {
            return a.cmp(&b);
        }
    }
    if a_words.len() == b_words.len() {
        word(a_rest).cmp(&word(b_rest)).then(a.len().cmp(&b.len()))
    } else {
        a.len().cmp(&b.len())
    }
}

/// Up to seven bytes, in their order, as a number.
fn word(bytes: &[u8]) -> u64 {
    let word = bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    word << (8 * (7 - bytes.len()))
}
