//! Thresholds: the shares of the limit at which a thread is warned, each once.

/// How urgent a crossed threshold is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// A set of percents from 1 to 100, in the 16 bytes that every thread carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentSet(u128);

impl PercentSet {
    /// The percents that a threshold may have.
    pub const RANGE: core::ops::RangeInclusive<u32> = 1..=100;

    pub(crate) const EMPTY: Self = Self(0);

    /// `percent` must be in [`PercentSet::RANGE`], here and below.
    const fn only(percent: u32) -> Self {
        Self(1 << percent)
    }

    fn contains(self, percent: u32) -> bool {
        self.0 & Self::only(percent).0 != 0
    }

    pub(crate) fn insert(&mut self, percent: u32) {
        *self = self.union(Self::only(percent));
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there is no percent in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many percents there are.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The percents, ascending.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        let mut rest = self.0;
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
    warning: PercentSet,
    critical: PercentSet,
    last: PercentSet,
}

impl Thresholds {
    /// 75 warning, 90 critical, 95 final, as the reference system has them.
    pub const DEFAULT: Self =
        Self { warning: PercentSet::only(75), critical: PercentSet::only(90), last: PercentSet::only(95) };

    const NONE: Self =
        Self { warning: PercentSet::EMPTY, critical: PercentSet::EMPTY, last: PercentSet::EMPTY };

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
            match severity {
                Severity::Warning => &mut self.warning,
                Severity::Critical => &mut self.critical,
                Severity::Final => &mut self.last,
            }
            .insert(percent);
        }
        new
    }

    /// The percents that warn.
    #[must_use]
    pub fn percents(&self) -> PercentSet {
        self.warning.union(self.critical).union(self.last)
    }

    /// The severity of a percent that [`Thresholds::percents`] holds.
    pub(crate) fn severity(&self, percent: u32) -> Severity {
        if self.last.contains(percent) {
            Severity::Final
        } else if self.critical.contains(percent) {
            Severity::Critical
        } else {
            Severity::Warning
        }
    }

    /// The thresholds, ascending by percent.
    pub fn iter(&self) -> impl Iterator<Item = Threshold> {
        self.percents().iter().map(|percent| Threshold { percent, severity: self.severity(percent) })
    }
}
