//! A cell whose content is cloned instead of copied.

use core::cell::Cell;
use core::fmt;

#[derive(Default)]
pub(crate) struct CloneCell<T>(Cell<T>);

impl<T> CloneCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Cell::new(value))
    }

    pub(crate) fn replace(&self, value: T) -> T {
        self.0.replace(value)
    }
}

impl<T: Default> CloneCell<T> {
    pub(crate) fn take(&self) -> T {
        self.0.take()
    }
}

impl<T: Clone + Default> CloneCell<T> {
    pub(crate) fn get(&self) -> T {
        let value = self.0.take();
        let clone = value.clone();
        self.0.set(value);
        clone
    }
}

/// What is in it may lead back to it.
impl<T> fmt::Debug for CloneCell<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CloneCell").finish_non_exhaustive()
    }
}
