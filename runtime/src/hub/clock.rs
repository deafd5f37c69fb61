//! The hub's idea of time: nanoseconds since some fixed moment.

use std::{cell::Cell, rc::Rc, time::Duration};

use crate::sys;

/// Never.
pub(crate) const NEVER_NS: u64 = u64::MAX;

/// Where the hub reads the time.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The system's monotonic clock.
    #[default]
    Monotonic,
    /// A clock that moves only when told to; for tests.
    Manual(ManualClock),
}

impl Clock {
    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        match self {
            Self::Monotonic => sys::monotonic_ns(),
            Self::Manual(clock) => clock.now_ns.get(),
        }
    }

    pub(crate) fn is_manual(&self) -> bool {
        matches!(self, Self::Manual(_))
    }
}

/// A clock that moves only when told to.
#[derive(Debug, Clone, Default)]
pub struct ManualClock {
    now_ns: Rc<Cell<u64>>,
}

impl ManualClock {
    /// A clock that stands at its beginning.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.now_ns.set(self.now_ns.get() + duration_ns(by));
    }
}

/// A duration in nanoseconds; centuries are cut to "never".
pub(crate) fn duration_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER_NS)
}
