//! Which thresholds a budget has crossed, how urgent they were, and whether the agent has heard.

use crate::budget::Budget;
use crate::threshold::{PercentSet, Severity, Threshold, Thresholds};

/// 38 bytes, because every thread has them. Every percent is from 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crossings {
    /// Two bits a percent: 0 where it was not crossed.
    severities: [u8; 25],
    /// A bit a percent: whether its warning is pending.
    pending: [u8; 13],
}

impl Crossings {
    pub(crate) const NONE: Self = Self { severities: [0; 25], pending: [0; 13] };

    /// Those of these thresholds that the budget reaches and has not crossed yet.
    pub(crate) fn new_of(&self, thresholds: &Thresholds, budget: &Budget) -> PercentSet {
        let mut new = PercentSet::EMPTY;
        // Ascending: when one is not reached, those above it are not either.
        for percent in thresholds.percents().iter().take_while(|percent| budget.reaches(*percent)) {
            if self.severity_at(percent).is_none() {
                new.insert(percent);
            }
        }
        new
    }

    /// How many of these thresholds can still be crossed.
    pub(crate) fn most_new_of(&self, thresholds: &Thresholds) -> usize {
        thresholds.percents().iter().filter(|percent| self.severity_at(*percent).is_none()).count()
    }

    /// Cross a threshold that was not crossed yet. The agent has to hear of it.
    pub(crate) fn insert(&mut self, Threshold { percent, severity }: Threshold) {
        let bits = match severity {
            Severity::Warning => 1,
            Severity::Critical => 2,
            Severity::Final => 3,
        };
        let at = percent as usize - 1;
        self.severities[at / 4] |= bits << (at % 4 * 2);
        self.pending[at / 8] |= 1 << (at % 8);
    }

    /// Under another limit: what is not reached is no longer crossed.
    pub(crate) fn keep_reached(&mut self, budget: &Budget) {
        for Threshold { percent, .. } in self.iter().filter(|threshold| !budget.reaches(threshold.percent)) {
            let at = percent as usize - 1;
            self.severities[at / 4] &= !(0b11 << (at % 4 * 2));
            self.acknowledge(percent);
        }
    }

    /// The agent has heard.
    pub(crate) fn acknowledge(&mut self, percent: u32) {
        let at = percent as usize - 1;
        self.pending[at / 8] &= !(1 << (at % 8));
    }

    /// Those crossed, ascending by percent. Mostly there are none.
    pub(crate) fn iter(self) -> impl Iterator<Item = Threshold> {
        let last = if self == Self::NONE { 0 } else { 100 };
        let crossed = move |percent| Some(Threshold { percent, severity: self.severity_at(percent)? });
        (1..=last).filter_map(crossed)
    }

    /// Those whose warnings are pending, ascending by percent.
    pub(crate) fn pending(self) -> impl Iterator<Item = Threshold> {
        let is_pending = move |percent: u32| {
            let at = percent as usize - 1;
            self.pending[at / 8] >> (at % 8) & 1 == 1
        };
        self.iter().filter(move |threshold| is_pending(threshold.percent))
    }

    /// The most urgent severity among them.
    pub(crate) fn severity(self) -> Option<Severity> {
        self.iter().map(|threshold| threshold.severity).max()
    }

    fn severity_at(&self, percent: u32) -> Option<Severity> {
        let at = percent as usize - 1;
        match self.severities[at / 4] >> (at % 4 * 2) & 0b11 {
            0 => None,
            1 => Some(Severity::Warning),
            2 => Some(Severity::Critical),
            _ => Some(Severity::Final),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Tokens;
    use alloc::collections::BTreeMap;
    use alloc::vec;
    use alloc::vec::Vec;

    const SEVERITIES: [Severity; 3] = [Severity::Warning, Severity::Critical, Severity::Final];

    fn used(max_tokens: u64, tokens: u64) -> Budget {
        let mut budget = Budget::new(max_tokens);
        budget.record(Tokens::new(tokens, 0), true);
        budget
    }

    fn cross(crossings: &mut Crossings, thresholds: &Thresholds, budget: &Budget) -> Vec<u32> {
        let new = crossings.new_of(thresholds, budget);
        new.iter().for_each(|percent| crossings.insert(thresholds.get(percent)));
        new.iter().collect()
    }

    fn percents(thresholds: impl Iterator<Item = Threshold>) -> Vec<u32> {
        thresholds.map(|threshold| threshold.percent).collect()
    }

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
                0..=5 if !model.contains_key(&percent) => {
                    crossings.insert(Threshold { percent, severity });
                    model.insert(percent, (severity, true));
                }
                6..=12 => {
                    crossings.acknowledge(percent);
                    model.entry(percent).and_modify(|(_, pending)| *pending = false);
                }
                13 => {
                    // Reaches the percents up to this one.
                    crossings.keep_reached(&used(100, u64::from(percent)));
                    model.retain(|crossed, _| *crossed <= percent);
                }
                _ => {}
            }
            let expected = |only_pending: bool| -> Vec<_> {
                let matching = model.iter().filter(|(_, (_, pending))| *pending || !only_pending);
                matching.map(|(&percent, &(severity, _))| Threshold { percent, severity }).collect()
            };
            assert_eq!(crossings.iter().collect::<Vec<_>>(), expected(false));
            assert_eq!(crossings.pending().collect::<Vec<_>>(), expected(true));
            assert_eq!(crossings.severity(), model.values().map(|(severity, _)| *severity).max());
        }
    }

    #[test]
    fn another_limit_leaves_crossed_what_is_reached_under_it() {
        for (max, still) in [
            (0, &[][..]),
            (1, &[75, 90, 95]),
            (900, &[75, 90, 95]),
            (1_000, &[75, 90]),
            (1_001, &[75]),
            (1_200, &[75]),
            (1_201, &[]),
            (u64::MAX, &[]),
        ] {
            for acknowledged in [false, true] {
                let mut crossings = Crossings::NONE;
                let mut budget = used(900, 900);
                cross(&mut crossings, &Thresholds::DEFAULT, &budget);
                if acknowledged {
                    [75, 90, 95].into_iter().for_each(|percent| crossings.acknowledge(percent));
                }
                budget.set_limit(max);
                crossings.keep_reached(&budget);
                assert_eq!(percents(crossings.iter()), still, "of {max}");
                let pending = if acknowledged { &[] } else { still };
                assert_eq!(percents(crossings.pending()), pending, "of {max}");

                budget.set_limit(900);
                let again: Vec<_> = [75, 90, 95].into_iter().filter(|it| !still.contains(it)).collect();
                assert_eq!(cross(&mut crossings, &Thresholds::DEFAULT, &budget), again, "after {max}");
                let pending = if acknowledged { again } else { vec![75, 90, 95] };
                assert_eq!(percents(crossings.pending()), pending, "after {max}");
            }
        }
    }

    #[test]
    fn a_lower_limit_is_reached_with_the_next_crossing() {
        let mut crossings = Crossings::NONE;
        let mut budget = used(1_000, 800);
        assert_eq!(cross(&mut crossings, &Thresholds::DEFAULT, &budget), [75]);
        budget.set_limit(850);
        crossings.keep_reached(&budget);
        assert_eq!(percents(crossings.pending()), [75]);
        assert_eq!(cross(&mut crossings, &Thresholds::DEFAULT, &budget), [90]);
    }

    #[test]
    fn a_crossing_keeps_the_severity_it_had() {
        let only = |severity| Thresholds::new([Threshold { percent: 50, severity }]).expect("one is valid");
        let mut crossings = Crossings::NONE;
        cross(&mut crossings, &only(Severity::Final), &used(100, 50));
        assert_eq!(cross(&mut crossings, &only(Severity::Warning), &used(100, 50)), []);
        assert_eq!(crossings.severity(), Some(Severity::Final));
    }
}
