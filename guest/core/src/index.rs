//! What has a name, found by it in logarithmic time whatever the names are.
//!
//! Names come from outside and there is no entropy inside to seed a hash table with, so chosen names
//! must not be able to pile up in one place. Entries are therefore kept in order: by a hash, a number that
//! lies beside the pointer and is compared without following it, and by the name itself where hashes
//! are equal. The order is cut into pages, so that inserting moves little, and nothing is ever
//! rehashed, so that no call takes the blame for the growth of all.

use crate::same::{compare, is_same};
use alloc::collections::TryReserveError;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// Entries a page holds before it is split in two. Small pages move less on insertion, large ones
/// make a shorter list of pages; 64 measured best between a thousand and a million threads.
const PAGE: usize = 64;

/// What an index keeps. No two in an index have the same name. Names of several parts that start with the
/// same one lie together.
pub(crate) trait Named<const PARTS: usize> {
    fn name(&self) -> [&str; PARTS];

    /// Whether [`Index::after`] finds it. It does not change.
    fn is_listed(&self) -> bool {
        true
    }
}

#[derive(Debug)]
pub(crate) struct Index<T, const PARTS: usize> {
    /// In order.
    pages: Vec<Page<T>>,
    len: usize,
}

/// A run of the order, never empty.
#[derive(Debug)]
struct Page<T> {
    /// The hash of the first entry, here so that a search reads no more than the list of pages.
    first: u32,
    /// How many of the entries are listed.
    listed: u32,
    entries: Vec<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    hash: u32,
    kept: T,
}

impl<T> Entry<T> {
    fn compare<const PARTS: usize>(&self, hash: u32, name: [&str; PARTS]) -> Ordering
    where
        T: Named<PARTS>,
    {
        self.hash.cmp(&hash).then_with(|| compare(self.kept.name(), name))
    }
}

impl<T> Page<T> {
    fn compare<const PARTS: usize>(&self, hash: u32, name: [&str; PARTS]) -> Ordering
    where
        T: Named<PARTS>,
    {
        match (self.first.cmp(&hash), self.entries.first()) {
            (Ordering::Equal, Some(entry)) => entry.compare(hash, name),
            (order, _) => order,
        }
    }
}

impl<T, const PARTS: usize> Default for Index<T, PARTS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const PARTS: usize> Index<T, PARTS> {
    pub(crate) const fn new() -> Self {
        Self { pages: Vec::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Make room in the list of pages, the one allocation here that has no small bound.
    pub(crate) fn reserve(&mut self) -> Result<(), TryReserveError> {
        self.pages.try_reserve(1)
    }

    /// Everything, in the order of the index, which is none to the eye.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| &page.entries).map(|entry| &entry.kept)
    }

    /// Make one page of two that have become small, so that entries that come and go do not leave ever
    /// more pages behind.
    fn join(&mut self, page: usize) {
        let Some([one, other]) = self.pages.get_mut(page..).and_then(<[Page<T>]>::first_chunk_mut) else {
            return;
        };
        if one.entries.len() + other.entries.len() <= PAGE / 2 {
            one.entries.append(&mut other.entries);
            one.listed += other.listed;
            self.pages.remove(page + 1);
        }
    }
}

impl<T: Named<PARTS>, const PARTS: usize> Index<T, PARTS> {
    pub(crate) fn get(&self, name: [&str; PARTS]) -> Option<&T> {
        let (page, Ok(at)) = self.find(hash(name), name) else { return None };
        Some(&self.pages[page].entries[at].kept)
    }

    /// Add what has a name that is not in the index yet.
    pub(crate) fn insert(&mut self, kept: T) {
        let hash = hash(kept.name());
        let (page, Ok(at) | Err(at)) = self.find(hash, kept.name());
        let listed = u32::from(kept.is_listed());
        let entry = Entry { hash, kept };
        self.len += 1;
        let Some(page_at) = self.pages.get_mut(page) else {
            self.pages.push(Page { first: hash, listed, entries: vec![entry] });
            return;
        };
        page_at.first = hash.min(page_at.first);
        page_at.listed += listed;
        page_at.entries.insert(at, entry);
        if page_at.entries.len() > PAGE {
            let entries = page_at.entries.split_off(PAGE / 2);
            let listed = entries.iter().filter(|entry| entry.kept.is_listed()).count() as u32;
            page_at.listed -= listed;
            self.pages.insert(page + 1, Page { first: entries[0].hash, listed, entries });
        }
    }

    /// Put it in the place of what has the same name, if there is that.
    pub(crate) fn replace(&mut self, kept: T) {
        if let (page, Ok(at)) = self.find(hash(kept.name()), kept.name()) {
            self.pages[page].entries[at].kept = kept;
        }
    }

    pub(crate) fn remove(&mut self, name: [&str; PARTS]) -> Option<T> {
        let (page, Ok(at)) = self.find(hash(name), name) else { return None };
        let Page { first, listed, entries } = &mut self.pages[page];
        let removed = entries.remove(at).kept;
        *listed -= u32::from(removed.is_listed());
        match entries.first() {
            Some(entry) => *first = entry.hash,
            None => _ = self.pages.remove(page),
        }
        self.join(page);
        self.len -= 1;
        Some(removed)
    }

    /// The first that is listed or, after a name, the next in the order of the index, whether the name is
    /// there or not.
    pub(crate) fn after(&self, name: Option<[&str; PARTS]>) -> Option<&T> {
        let (page, at) = match name.map(|name| self.find(hash(name), name)) {
            None => (0, 0),
            Some((page, Ok(at))) => (page, at + 1),
            Some((page, Err(at))) => (page, at),
        };
        let (page, later) = self.pages.get(page..)?.split_first()?;
        let rest = page.entries.get(at..)?.iter();
        let later = later.iter().filter(|page| page.listed > 0).flat_map(|page| &page.entries);
        rest.chain(later).map(|entry| &entry.kept).find(|kept| kept.is_listed())
    }

    /// The page that the name belongs to, and where it is in it (`Ok`) or would be (`Err`).
    fn find(&self, hash: u32, name: [&str; PARTS]) -> (usize, Result<usize, usize>) {
        let page = self.pages.partition_point(|page| page.compare(hash, name).is_le()).saturating_sub(1);
        match self.pages.get(page) {
            Some(Page { entries, .. }) => {
                let at = entries.partition_point(|entry| entry.hash < hash);
                let place = match entries.get(at).filter(|entry| entry.hash == hash) {
                    None => Err(at),
                    // Nearly always, and found without comparing names more than once.
                    Some(entry) if is_same(entry.kept.name(), name) => Ok(at),
                    Some(_) => entries.binary_search_by(|entry| entry.compare(hash, name)),
                };
                (page, place)
            }
            None => (page, Err(0)),
        }
    }
}

/// Of the first part, eight bytes at a time. It has to tell apart names that nobody chose to collide, no
/// more: equal hashes cost only a comparison of names.
fn hash<const PARTS: usize>(name: [&str; PARTS]) -> u32 {
    let (words, rest) = name[0].as_bytes().as_chunks::<8>();
    let hash = words.iter().fold(name[0].len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let last = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    (mix(hash, last) >> 32) as u32
}

fn mix(hash: u64, word: u64) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15; // 2^64 / golden ratio, odd
    (hash.rotate_left(23) ^ word).wrapping_mul(FACTOR)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::string::String;
    use std::vec::Vec;

    #[derive(Clone, Debug, PartialEq)]
    struct Kept {
        id: String,
        number: u64,
    }

    impl Named<1> for Kept {
        fn name(&self) -> [&str; 1] {
            [&self.id]
        }
    }

    fn kept(id: &str, number: u64) -> Kept {
        Kept { id: id.into(), number }
    }

    fn number(kept: Option<&Kept>) -> Option<u64> {
        kept.map(|kept| kept.number)
    }

    /// Printable 16-byte ids that all hash alike: for a first word, the second that leads back to
    /// the target is computed, and kept when it is printable too.
    fn colliding_ids(count: usize) -> Vec<String> {
        let first_half = |word: u64| mix(16, word).rotate_left(23);
        let target = u64::from_le_bytes(*b"anything");
        let mut state = 1u64;
        let mut ids = Vec::new();
        while ids.len() < count {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let first = (state & 0x0F0F_0F0F_0F0F_0F0F) | 0x6060_6060_6060_6060;
            let bytes = [first.to_le_bytes(), (first_half(first) ^ target).to_le_bytes()].concat();
            if let Ok(id) = String::from_utf8(bytes) {
                ids.push(id);
            }
        }
        ids
    }

    #[test]
    fn ids_that_collide_stay_apart() {
        let ids = colliding_ids(50);
        assert_eq!(ids.iter().map(|id| hash([id])).collect::<BTreeSet<_>>().len(), 1);

        let mut index = Index::new();
        for (n, id) in ids.iter().enumerate() {
            assert!(index.get([id]).is_none(), "not there yet");
            index.insert(kept(id, n as u64));
            assert_eq!(index.len(), n + 1);
        }
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(number(index.get([id])), Some(n as u64));
        }
        assert_eq!(index.iter().count(), ids.len());
        for id in &ids {
            assert_eq!(index.remove([id]).map(|kept| kept.id).as_ref(), Some(id));
            assert!(index.remove([id]).is_none(), "only once");
        }
        assert_eq!(index.len(), 0);
        assert!(index.pages.is_empty(), "an empty page is not kept");
    }

    /// Many pages, filled and emptied in random order, ids that collide among them.
    #[test]
    fn stays_in_order_while_it_grows_and_shrinks() {
        let mut ids = colliding_ids(300);
        ids.extend((0..3_000).map(|n| std::format!("thread-{n}")));
        let mut index = Index::new();
        let mut model = BTreeMap::new();
        let mut state = 7u64;
        for step in 0..60_000u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let id = &ids[(state >> 33) as usize % ids.len()];
            // Mostly growing at first, mostly shrinking at the end.
            if (state >> 20) % 60_000 < step {
                assert_eq!(number(index.remove([id]).as_ref()), model.remove(id));
            } else if index.get([id]).is_none() {
                index.insert(kept(id, step));
                model.insert(id, step);
            }
            assert_eq!(number(index.get([id])), model.get(id).copied());
            assert_eq!(index.len(), model.len());
            if step % 500 == 0 {
                check_invariants(&index);
            }
        }
        for id in &ids {
            assert_eq!(number(index.get([id])), model.get(id).copied());
        }
        assert_eq!(index.iter().count(), model.len());
    }

    fn check_invariants(index: &Index<Kept, 1>) {
        let entries: Vec<_> = index.pages.iter().flat_map(|page| &page.entries).collect();
        assert_eq!(entries.len(), index.len());
        assert!(entries.windows(2).all(|pair| pair[0].compare(pair[1].hash, pair[1].kept.name()).is_lt()));
        for page in &index.pages {
            assert!((1..=PAGE).contains(&page.entries.len()));
            assert_eq!(page.first, page.entries[0].hash);
        }
    }

    #[test]
    fn a_colliding_stranger_is_not_the_only_thread() {
        let ids = colliding_ids(2);
        let mut index = Index::new();
        index.insert(kept(&ids[0], 1));
        assert!(index.get([&ids[1]]).is_none());
        assert!(index.remove([&ids[1]]).is_none());
        assert!(index.get([&ids[0]]).is_some());
    }
}
