//! Whether what requests use can be recorded. While it cannot, nothing is admitted, and operators are told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whether what requests use can be recorded. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<Option<Arc<str>>>>);

impl Health {
    fn trouble_now(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why it cannot be; none when all is well.
    #[must_use]
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.trouble_now().clone()
    }

    /// It could not be, for that reason.
    pub(super) fn fails(&self, reason: &str) {
        let trouble = &mut *self.trouble_now();
        if trouble.as_deref() != Some(reason) {
            tracing::error!("nothing is admitted, since what requests use cannot be recorded: {reason}");
            *trouble = Some(reason.into());
        }
    }

    /// It can be again.
    pub(super) fn recovers(&self) {
        if self.trouble_now().take().is_some() {
            tracing::info!("what requests use is recorded again");
        }
    }
}
