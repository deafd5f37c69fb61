//! Settings, from the environment and from Python.

use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
};
use rgevent_runtime::coroutine::{
    StackSizes,
    stack::{STACK_BYTES_MAX, STACK_BYTES_MIN},
};

use crate::thread::PyThread;

/// Address space for Python frames above each C stack. The part beyond the first page costs
/// nothing until frames are there.
pub(crate) const FRAME_BYTES: usize = 64 * 1024;

/// Size of a stack slot.
///
/// CPython 3.11 bounds C recursion by the number of Python frames only, and 1000 of those through
/// `sorted(key=...)` take more than 2 MiB; later versions have a bound that is fitted to the stack.
const STACK_BYTES_DEFAULT: usize = if cfg!(Py_3_12) { 1 << 20 } else { 4 << 20 };

static STACK_BYTES: AtomicUsize = AtomicUsize::new(STACK_BYTES_DEFAULT);

/// Size of the stack slots of threads that begin to use greenlets from now on, in bytes.
pub(crate) fn stack_bytes() -> usize {
    STACK_BYTES.load(Ordering::Relaxed)
}

/// The least that is accepted. From 3.14 on CPython keeps some 32 KiB of a stack for itself, and its
/// JIT was seen to need more than 128 KiB in one piece.
const STACK_SIZE_MIN: usize = if cfg!(Py_3_14) {
    256 * 1024
} else {
    2 * STACK_BYTES_MIN + FRAME_BYTES
};

/// A stack size that somebody asked for, rounded up to what a slot can have.
///
/// # Errors
/// A sentence when it is out of range.
pub(crate) fn usable_stack_bytes(bytes: usize) -> Result<usize, String> {
    if !(STACK_SIZE_MIN..=STACK_BYTES_MAX).contains(&bytes) {
        return Err(format!(
            "stack size of {bytes} bytes is out of range: it must be between {STACK_SIZE_MIN} and \
             {STACK_BYTES_MAX}"
        ));
    }
    Ok(bytes.next_multiple_of(64 * 1024))
}

/// The same for an object from Python; None if it is None.
///
/// # Errors
/// `TypeError` for something that is not an integer, `ValueError` for one out of range.
pub(crate) fn stack_bytes_from(size: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    if size.is_none() {
        return Ok(None);
    }
    let bytes: i128 = size.extract().map_err(|_| {
        let name = size.get_type().name();
        let name = name.map_or_else(|_| "?".to_owned(), |name| name.to_string());
        PyTypeError::new_err(format!("stack size must be a number of bytes, not {name}"))
    })?;
    let bytes = usize::try_from(bytes)
        .map_err(|_| format!("stack size of {bytes} bytes is out of range"))
        .and_then(usable_stack_bytes);
    bytes.map(Some).map_err(PyValueError::new_err)
}

/// Size of the stacks of greenlets that start from now on, in bytes.
#[pyfunction]
pub(crate) fn get_stack_size() -> usize {
    stack_bytes()
}

/// Sets it, for the calling thread and for threads that begin to use greenlets later. Raises
/// ValueError for an absurd size.
#[pyfunction]
pub(crate) fn set_stack_size(size: &Bound<'_, PyAny>) -> PyResult<()> {
    let bytes = stack_bytes_from(size)?.unwrap_or(STACK_BYTES_DEFAULT);
    STACK_BYTES.store(bytes, Ordering::Relaxed);
    if let Some(thread) = PyThread::try_current() {
        thread.runtime.set_stack_sizes(stack_sizes());
    }
    Ok(())
}

/// How slots are laid out now.
pub(crate) fn stack_sizes() -> StackSizes {
    StackSizes {
        slot_bytes: stack_bytes(),
        upper_bytes: FRAME_BYTES,
    }
}

/// Numbers about the calling thread's stacks: slots, pooled, abandoned, trimmed, released.
#[pyfunction]
pub(crate) fn stack_counts(py: Python<'_>) -> PyResult<(usize, usize, usize, usize, usize)> {
    let info = PyThread::current_or_new(py)?.runtime.stack_info();
    Ok((
        info.slots,
        info.pooled,
        info.abandoned,
        info.trimmed,
        info.released,
    ))
}

/// Reads `RGEVENT_STACK_SIZE` (bytes).
///
/// # Errors
/// A sentence when it is not a usable number.
pub(crate) fn read_environment() -> Result<(), String> {
    let Some(text) = std::env::var_os("RGEVENT_STACK_SIZE") else {
        return Ok(());
    };
    let text = text.to_string_lossy();
    let bytes = text.parse().map_err(|_| {
        format!("RGEVENT_STACK_SIZE is {text:?}: expected a number of bytes such as 1048576")
    })?;
    let bytes = usable_stack_bytes(bytes).map_err(|why| format!("RGEVENT_STACK_SIZE: {why}"))?;
    STACK_BYTES.store(bytes, Ordering::Relaxed);
    Ok(())
}
