//! Says which coroutine has overflowed its stack, before the process dies of it.
//!
//! An overflow hits the guard below the stack, and the kernel sends a signal, which is handled on a
//! stack of its own. If the address lies in the guard of the running coroutine a report is written;
//! then whatever handled such faults before goes on, usually the end of the process.

use std::cell::OnceCell;

use super::{Thread, stack::GUARD_BYTES};
use crate::sys::fault::{self, SignalStack};

/// Writes a piece of a report to standard error. May be called in a signal handler.
pub type Write = fn(&[u8]);

/// One thread's part in this.
#[derive(Debug, Default)]
pub(super) struct Reporting {
    signal_stack: OnceCell<SignalStack>,
}

impl Reporting {
    /// Has overflows of the calling thread reported. Where the system refuses, they are not.
    pub(super) fn begin(&self) {
        if fault::observe_faults(report).is_err() {
            return;
        }
        if self.signal_stack.get().is_none()
            && let Ok(stack) = SignalStack::new()
        {
            let _ = self.signal_stack.set(stack);
        }
        if let Some(stack) = self.signal_stack.get() {
            // SAFETY: the `Thread` that this is part of belongs to the calling thread alone, lives
            // for ever, and calls `end` before it goes to another.
            unsafe { stack.install() };
        }
    }

    /// The calling thread gives its `Thread` up.
    pub(super) fn end(&self) {
        if let Some(stack) = self.signal_stack.get() {
            stack.remove();
        }
    }
}

/// Called in a signal handler with the address of a fault.
fn report(address: usize) {
    let Some(thread) = Thread::try_current() else {
        return;
    };
    let coroutine = thread.current();
    let Some(slot) = coroutine.slot() else {
        return;
    };
    if !(slot.low - GUARD_BYTES..slot.low).contains(&address) {
        return;
    }
    fault::write_error(b"Fatal error: stack overflow in ");
    (thread.hooks().describe)(coroutine.user(), fault::write_error);
    fault::write_error(b": all of its ");
    write_number((slot.base - slot.low) / 1024);
    fault::write_error(b" KiB of stack are used. ");
    fault::write_error(thread.hooks().overflow_advice.as_bytes());
    fault::write_error(b"\n");
}

fn write_number(number: usize) {
    let mut digits = [0; 20];
    let mut rest = number;
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    fault::write_error(&digits[at..]);
}
