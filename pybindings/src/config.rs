//! Settings, from the environment and from Python.

use std::sync::atomic::{AtomicUsize, Ordering};

use rgevent_runtime::coroutine::stack::{STACK_BYTES_MAX, STACK_BYTES_MIN};

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

/// Sets it.
///
/// # Errors
/// A sentence when `bytes` is out of range.
pub(crate) fn set_stack_bytes(bytes: usize) -> Result<(), String> {
    let least = 2 * STACK_BYTES_MIN + FRAME_BYTES;
    if !(least..=STACK_BYTES_MAX).contains(&bytes) {
        return Err(format!(
            "stack size of {bytes} bytes is out of range: it must be between {least} and \
             {STACK_BYTES_MAX}"
        ));
    }
    STACK_BYTES.store(bytes.next_multiple_of(64 * 1024), Ordering::Relaxed);
    Ok(())
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
    set_stack_bytes(bytes).map_err(|why| format!("RGEVENT_STACK_SIZE: {why}"))
}
