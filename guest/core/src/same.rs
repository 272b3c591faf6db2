//! Comparing names, which is most of a lookup: libc on WebAssembly does it byte by byte.

/// Whether two names are the same, part by part.
pub(crate) fn is_same<const PARTS: usize>(a: [&str; PARTS], b: [&str; PARTS]) -> bool {
    a.iter().zip(b).all(|(a, b)| is_same_part(a, b))
}

/// Eight bytes at a time.
fn is_same_part(a: &str, b: &str) -> bool {
    let ((a_words, a_rest), (b_words, b_rest)) =
        (a.as_bytes().as_chunks::<8>(), b.as_bytes().as_chunks::<8>());
    a.len() == b.len()
        && a_words.iter().zip(b_words).all(|(a, b)| u64::from_le_bytes(*a) == u64::from_le_bytes(*b))
        && a_rest.iter().zip(b_rest).all(|(a, b)| a == b)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn the_same_is_every_byte_the_same() {
        for len in 1..40 {
            let id = "a".repeat(len);
            assert!(is_same([&id], [&id.clone()]));
            assert!(!is_same([&id], [&id[1..]]) && !is_same([&id[1..]], [&id]));
            for at in 0..len {
                let other = [&id[..at], "b", &id[at + 1..]].concat();
                assert!(!is_same([&id], [&other]), "{id} {other}");
            }
        }
    }
}
