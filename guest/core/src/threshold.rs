//! Thresholds: the shares of the limit at which a thread is warned, each once.

/// How urgent a crossed threshold is, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum Severity {
    /// Early: plan the rest of the work.
    Warning,
    /// Soon: finish the current step, summarise or escalate.
    Critical,
    /// Last chance: the next request may be refused.
    Final,
}

/// A share of the limit at which a thread is warned, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Threshold {
    /// Whole percent of the limit, 1 to 100.
    pub percent: u32,
    /// What the warning is called.
    pub severity: Severity,
}

/// A percent that [`Thresholds::new`] does not take: outside 1 to 100, or given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("threshold {0} %: a percent is 1 to 100 and given once")]
pub struct InvalidThreshold(pub u32);

/// A set of percents from 1 to 100, in 16 bytes. Two words, since a `u128` would align, and so pad,
/// everything that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentSet([u64; 2]);

impl PercentSet {
    /// The percents that a threshold may have.
    pub const RANGE: core::ops::RangeInclusive<u32> = 1..=100;

    pub(crate) const EMPTY: Self = Self::from_bits(0);

    const fn from_bits(bits: u128) -> Self {
        Self([bits as u64, (bits >> 64) as u64])
    }

    const fn bits(self) -> u128 {
        self.0[0] as u128 | (self.0[1] as u128) << 64
    }

    /// `percent` must be in [`PercentSet::RANGE`], here and below.
    const fn only(percent: u32) -> Self {
        Self::from_bits(1 << percent)
    }

    fn contains(self, percent: u32) -> bool {
        !self.intersection(Self::only(percent)).is_empty()
    }

    pub(crate) fn insert(&mut self, percent: u32) {
        *self = self.union(Self::only(percent));
    }

    const fn union(self, other: Self) -> Self {
        Self::from_bits(self.bits() | other.bits())
    }

    fn intersection(self, other: Self) -> Self {
        Self::from_bits(self.bits() & other.bits())
    }

    /// Whether there is no percent in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.bits() == 0
    }

    /// How many percents there are.
    #[must_use]
    pub fn len(self) -> usize {
        self.bits().count_ones() as usize
    }

    /// The percents, ascending.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        let mut rest = self.bits();
        core::iter::from_fn(move || {
            let lowest = rest.trailing_zeros();
            rest &= rest.checked_sub(1)?;
            Some(lowest)
        })
    }
}

/// Which percents warn, and how urgently. At most one severity a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Those that are warnings or final.
    low: PercentSet,
    /// Those that are critical or final.
    high: PercentSet,
}

impl Thresholds {
    /// 75 warning, 90 critical, 95 final, as the reference system has them.
    pub const DEFAULT: Self = Self {
        low: PercentSet::only(75).union(PercentSet::only(95)),
        high: PercentSet::only(90).union(PercentSet::only(95)),
    };

    const NONE: Self = Self { low: PercentSet::EMPTY, high: PercentSet::EMPTY };

    /// Exactly these, in any order.
    ///
    /// # Errors
    /// The first percent that is outside 1 to 100 or was given before.
    pub fn new(thresholds: impl IntoIterator<Item = Threshold>) -> Result<Self, InvalidThreshold> {
        let mut these = Self::NONE;
        for threshold in thresholds {
            if !these.add(threshold) {
                return Err(InvalidThreshold(threshold.percent));
            }
        }
        Ok(these)
    }

    /// What of these can be reached: a percent outside 1 to 100 is left out, of two with the same
    /// percent the last counts.
    #[must_use]
    pub fn reachable(thresholds: impl DoubleEndedIterator<Item = Threshold>) -> Self {
        let mut these = Self::NONE;
        for threshold in thresholds.rev() {
            these.add(threshold);
        }
        these
    }

    /// Whether it could be added: its percent is from 1 to 100 and was not there.
    fn add(&mut self, Threshold { percent, severity }: Threshold) -> bool {
        let new = PercentSet::RANGE.contains(&percent) && !self.percents().contains(percent);
        if new {
            if severity != Severity::Critical {
                self.low.insert(percent);
            }
            if severity != Severity::Warning {
                self.high.insert(percent);
            }
        }
        new
    }

    /// The percents that warn.
    #[must_use]
    pub fn percents(&self) -> PercentSet {
        self.low.union(self.high)
    }

    /// The threshold of a percent that [`Thresholds::percents`] holds.
    pub(crate) fn get(&self, percent: u32) -> Threshold {
        let severity = match (self.low.contains(percent), self.high.contains(percent)) {
            (true, true) => Severity::Final,
            (false, true) => Severity::Critical,
            _ => Severity::Warning,
        };
        Threshold { percent, severity }
    }

    /// The thresholds, ascending by percent.
    pub fn iter(&self) -> impl Iterator<Item = Threshold> {
        self.percents().iter().map(|percent| self.get(percent))
    }
}
