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

/// Eight bytes at a time, then by length, then by the bytes that are left.
#[inline(never)] // It is in every search, several times.
fn compare_part(a: &str, b: &str) -> Ordering {
    let (a_words, b_words) = (a.as_bytes().as_chunks::<8>().0, b.as_bytes().as_chunks::<8>().0);
    for (a, b) in a_words.iter().zip(b_words) {
        let (a, b) = (u64::from_be_bytes(*a), u64::from_be_bytes(*b));
        if a != b {
            return a.cmp(&b);
        }
    }
    a.len().cmp(&b.len()).then_with(|| last_word(a).cmp(&last_word(b)))
}

/// The last eight bytes as a number, or all when there are fewer.
pub(crate) fn last_word(part: &str) -> u64 {
    match part.as_bytes().last_chunk::<8>() {
        Some(word) => u64::from_be_bytes(*word),
        None => part.bytes().fold(0, |word, byte| word << 8 | u64::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    #[test]
    fn the_same_is_every_byte_the_same() {
        for len in 1..40 {
            let id = "a".repeat(len);
            assert!(is_same([&id], [&id.clone()]));
            assert!(!is_same([&id], [&id[1..]]) && !is_same([&id[1..]], [&id]));
            for at in 0..len {
                let other = [&id[..at], "b", &id[at + 1..]].concat();
                assert!(!is_same([&id], [&other]), "{id} {other}");
                assert!(!is_same(["x", &id], ["x", &other]) && !is_same([&id, "x"], [&other, "x"]));
            }
        }
    }

    #[test]
    fn it_is_an_order() {
        let mut ids: Vec<String> = std::vec![String::new()];
        for len in 1..20 {
            ids.extend([0, len / 2, len - 1].map(|at| {
                let mut id = std::vec![b'm'; len];
                id[at] = if len % 2 == 0 { 0 } else { b'z' };
                String::from_utf8(id).expect("ASCII")
            }));
        }
        for a in &ids {
            for b in &ids {
                assert_eq!(compare([a], [b]), compare([b], [a]).reverse());
                assert_eq!(compare([a], [b]).is_eq(), a == b);
                for c in &ids {
                    if compare([a], [b]).is_le() && compare([b], [c]).is_le() {
                        assert!(compare([a], [c]).is_le(), "{a} {b} {c}");
                    }
                }
            }
        }
    }
}
