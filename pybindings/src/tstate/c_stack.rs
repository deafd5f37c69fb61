//! The limits of the C stack, on 3.14 and later.
//!
//! CPython compares the stack pointer with bounds kept in a private part of the thread state:
//!
//! ```text
//!   low ............ hard ............ soft ...................... top      (addresses grow to the right)
//!        margin            margin            use
//! ```
//!
//! Below `soft` a call ends in RecursionError, and deallocators are put off. On a stack that is not between
//! the bounds there is no protection, and nothing that was put off is ever freed, so every greenlet brings its
//! own bounds. Beside them are the thread's original `base` and `top`, which
//! `PyUnstable_ThreadState_ResetStackProtection` goes back to; these are exchanged too.
//!
//! The place of these words has changed between patch releases of 3.14, so it is not compiled in but found at
//! import ([`find`]): the only three words in a row that are such limits, near where the headers have them.

use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::ffi::PyThreadState;

use super::Area;
use super::layout::{Field, Ts, header};

const MARGIN_BYTES: usize = header::C_STACK_MARGIN;
const WORD_BYTES: usize = size_of::<usize>();
/// How far from where the headers have them the words are looked for. Not farther ahead, because other fields
/// follow them, but not many.
const BEFORE_MAX: usize = 16 * WORD_BYTES;
const AFTER_MAX: usize = 4 * WORD_BYTES;
/// How far behind the limits the original bounds may lie.
const INITIAL_AFTER_MAX: usize = 8 * WORD_BYTES;

/// Offsets into the thread state: of `top, soft, hard`, and of `base, top`. Written at import only.
static LIMITS_AT: AtomicUsize = AtomicUsize::new(0);
static INITIAL_AT: AtomicUsize = AtomicUsize::new(0);
/// The offset of what follows.
static BEHIND_AT: AtomicUsize = AtomicUsize::new(0);

/// One stack's bounds, as CPython keeps them.
#[derive(Clone, Copy)]
pub(super) struct CStack {
    limits: [usize; 3],
    initial: [usize; 2],
}

fn limits() -> Ts<[usize; 3]> {
    Field::new(LIMITS_AT.load(Ordering::Relaxed))
}

fn initial() -> Ts<[usize; 2]> {
    Field::new(INITIAL_AT.load(Ordering::Relaxed))
}

/// The offset of what follows the limits (and the original bounds, if they are there) in the thread state.
#[inline(always)]
pub(super) fn behind() -> usize {
    BEHIND_AT.load(Ordering::Relaxed)
}

impl CStack {
    pub(super) const UNKNOWN: Self = Self {
        limits: [0; 3],
        initial: [0; 2],
    };

    /// The bounds of the stack in `area`.
    pub(super) fn of(area: &Area) -> Self {
        let hard = area.stack_low + MARGIN_BYTES;
        Self {
            limits: [area.stack_base, hard + MARGIN_BYTES, hard],
            initial: [area.stack_low, area.stack_base],
        }
    }

    /// # Safety
    /// `ts` is the current thread state, and `find` succeeded.
    #[inline(always)]
    pub(super) unsafe fn read(ts: *mut PyThreadState) -> Self {
        // SAFETY: the caller gives the current thread state; the offset was found in it.
        let limits = unsafe { limits().get(ts) };
        // SAFETY: as above.
        let initial = unsafe { initial().get(ts) };
        Self { limits, initial }
    }

    /// # Safety
    /// `ts` is the current thread state, `find` succeeded, and these are the bounds of the stack that runs.
    #[inline(always)]
    pub(super) unsafe fn write(self, ts: *mut PyThreadState) {
        // In this order: where a release has no original bounds, `INITIAL_AT` points among the limits.
        // SAFETY: the caller gives the current thread state; the offset was found in it.
        unsafe { initial().set(ts, self.initial) };
        // SAFETY: as above.
        unsafe { limits().set(ts, self.limits) };
    }
}

/// Finds the words in this interpreter. False if they are not there, or not the only ones that fit.
///
/// # Safety
/// `ts` is the current thread state, on the stack that CPython believes to run on.
pub(super) unsafe fn find(ts: *mut PyThreadState) -> bool {
    let word = |at: usize| {
        // SAFETY: the caller gives the current thread state, which goes on behind where the limits are expected.
        unsafe { Ts::<usize>::new(at).get(ts) }
    };
    // The last condition tells them from `soft, hard, base`, where the original bounds follow directly.
    let are_limits = |at: usize| {
        let [top, soft, hard] = [word(at), word(at + WORD_BYTES), word(at + 2 * WORD_BYTES)];
        hard > MARGIN_BYTES
            && soft.checked_sub(hard) == Some(MARGIN_BYTES)
            && top > soft + MARGIN_BYTES
    };
    let near = header::C_STACK_NEAR;
    let mut found = (near - BEFORE_MAX..=near + AFTER_MAX)
        .step_by(WORD_BYTES)
        .filter(|&at| are_limits(at));
    let (Some(limits_at), None) = (found.next(), found.next()) else {
        return false;
    };
    let [top, hard] = [word(limits_at), word(limits_at + 2 * WORD_BYTES)];
    let behind = limits_at + 3 * WORD_BYTES;
    let initial_at = (behind..behind + INITIAL_AFTER_MAX)
        .step_by(WORD_BYTES)
        .find(|&at| word(at) == hard - MARGIN_BYTES && word(at + WORD_BYTES) == top);
    LIMITS_AT.store(limits_at, Ordering::Relaxed);
    // 3.14 has the original bounds at the very end, 3.15 right here.
    let initial_bytes = if initial_at == Some(behind) {
        2 * WORD_BYTES
    } else {
        0
    };
    BEHIND_AT.store(behind + initial_bytes, Ordering::Relaxed);
    // Releases without original bounds have no way to reset either: then `soft, hard` are written twice.
    INITIAL_AT.store(
        initial_at.unwrap_or(limits_at + WORD_BYTES),
        Ordering::Relaxed,
    );
    true
}
