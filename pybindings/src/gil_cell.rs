//! State of Python objects that only the interpreter lock protects.

use std::ops::Deref;

/// A value used with the GIL held only, in an object that several native threads may share.
///
/// It gives out shared references: what changes inside sits in a `Cell` or `RefCell`.
#[derive(Debug, Default)]
pub(crate) struct GilCell<T>(T);

// SAFETY: the value is reached through a Python object's methods, its collection and its
// deallocation, and all of them hold the GIL. So threads take turns, and each sees what the one
// before it wrote.
unsafe impl<T> Send for GilCell<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for GilCell<T> {}

impl<T> GilCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for GilCell<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}
