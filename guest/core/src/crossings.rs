//! Which thresholds a thread has crossed, how urgent they were, and whether the agent has heard.

use crate::threshold::{Severity, Threshold};

/// Three bits a percent, the lowest percent first: two for the severity, 0 where it was not crossed, and
/// one for a pending warning. 40 bytes, because every thread has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crossings([u64; 5]);

const BITS: u32 = 3;
const PERCENTS_PER_WORD: u32 = u64::BITS / BITS;
const SEVERITY: u64 = 0b011;
const PENDING: u64 = 0b100;
/// The lowest bit of every percent in a word.
const LOWEST: u64 = 0o777_777_777_777_777_777_777 / 0o7;

impl Crossings {
    pub(crate) const NONE: Self = Self([0; 5]);

    /// `percent` must be from 1 to 100, here and below.
    pub(crate) fn contains(self, percent: u32) -> bool {
        self.bits(percent) != 0
    }

    pub(crate) fn is_pending(self, percent: u32) -> bool {
        self.bits(percent) & PENDING != 0
    }

    /// Note that a threshold was crossed, and that the agent has to hear of it.
    pub(crate) fn insert(&mut self, Threshold { percent, severity }: Threshold) {
        let severity = match severity {
            Severity::Warning => 1,
            Severity::Critical => 2,
            Severity::Final => 3,
        };
        self.remove(percent);
        let (word, shift) = place(percent);
        self.0[word] |= (severity | PENDING) << shift;
    }

    pub(crate) fn remove(&mut self, percent: u32) {
        let (word, shift) = place(percent);
        self.0[word] &= !((SEVERITY | PENDING) << shift);
    }

    /// The agent has heard.
    pub(crate) fn acknowledge(&mut self, percent: u32) {
        let (word, shift) = place(percent);
        self.0[word] &= !(PENDING << shift);
    }

    /// Those crossed, ascending by percent. Mostly there are none.
    pub(crate) fn iter(self) -> impl Iterator<Item = Threshold> {
        let last = if self == Self::NONE { 0 } else { 100 };
        let crossed = move |percent| Some(Threshold { percent, severity: severity(self.bits(percent))? });
        (1..=last).filter_map(crossed)
    }

    /// Those whose warnings are pending, ascending by percent.
    pub(crate) fn pending(self) -> impl Iterator<Item = Threshold> {
        self.iter().filter(move |threshold| self.is_pending(threshold.percent))
    }

    /// The most urgent severity among them. A consumption asks, so it looks at all of a word at once.
    pub(crate) fn severity(self) -> Option<Severity> {
        let (mut any, mut both) = (0, 0);
        for word in self.0 {
            any |= word;
            both |= word & word >> 1;
        }
        if both & LOWEST != 0 {
            Some(Severity::Final)
        } else if any & LOWEST << 1 != 0 {
            Some(Severity::Critical)
        } else {
            (any & LOWEST != 0).then_some(Severity::Warning)
        }
    }

    fn bits(self, percent: u32) -> u64 {
        let (word, shift) = place(percent);
        self.0[word] >> shift & (SEVERITY | PENDING)
    }
}

fn place(percent: u32) -> (usize, u32) {
    let at = percent - 1;
    ((at / PERCENTS_PER_WORD) as usize, at % PERCENTS_PER_WORD * BITS)
}

fn severity(bits: u64) -> Option<Severity> {
    match bits & SEVERITY {
        0 => None,
        1 => Some(Severity::Warning),
        2 => Some(Severity::Critical),
        _ => Some(Severity::Final),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    const SEVERITIES: [Severity; 3] = [Severity::Warning, Severity::Critical, Severity::Final];

    #[test]
    fn keeps_every_percent_apart() {
        let mut crossings = Crossings::NONE;
        let mut model = BTreeMap::new();
        let mut state = 1u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let percent = (state >> 33) as u32 % 100 + 1;
            let severity = SEVERITIES[(state >> 20) as usize % 3];
            match state >> 60 {
                0..=4 => {
                    crossings.insert(Threshold { percent, severity });
                    model.insert(percent, (severity, true));
                }
                5..=9 => {
                    crossings.acknowledge(percent);
                    model.entry(percent).and_modify(|(_, pending)| *pending = false);
                }
                _ => {
                    crossings.remove(percent);
                    model.remove(&percent);
                }
            }
            let expected = |only_pending: bool| -> Vec<_> {
                let matching = model.iter().filter(|(_, (_, pending))| *pending || !only_pending);
                matching.map(|(&percent, &(severity, _))| Threshold { percent, severity }).collect()
            };
            assert_eq!(crossings.iter().collect::<Vec<_>>(), expected(false));
            assert_eq!(crossings.pending().collect::<Vec<_>>(), expected(true));
            assert_eq!(crossings.contains(percent), model.contains_key(&percent));
            let most_urgent = model.values().map(|(severity, _)| *severity).max();
            assert_eq!(crossings.severity(), most_urgent);
        }
    }

    #[test]
    fn one_percent_is_as_urgent_as_it_was_crossed_with() {
        for percent in 1..=100 {
            for severity in SEVERITIES {
                let mut crossings = Crossings::NONE;
                crossings.insert(Threshold { percent, severity });
                assert_eq!(crossings.severity(), Some(severity), "{percent}");
            }
        }
        assert_eq!(Crossings::NONE.severity(), None);
    }
}
