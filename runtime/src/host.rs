//! What an embedder of the hub implements.

use crate::coroutine::Signal;

/// Called by the hub on its own stack. The defaults suit a program without an interpreter.
pub trait Host {
    /// The hub is about to sleep in the kernel.
    fn before_poll(&self) {}

    /// The hub has slept. Called after every [`before_poll`](Self::before_poll).
    fn after_poll(&self) {}

    /// A signal interrupted the sleep; run what handles it.
    fn interrupted(&self) {}

    /// Control is back after a coroutine was resumed; `Explicit` when something switched to the
    /// hub instead of waiting.
    fn resumed(&self, _signal: Signal) {}

    /// Whether something outside this thread may still wake a coroutine, although nothing here
    /// is left to wait for.
    fn expects_outside_wakeup(&self) -> bool {
        false
    }

    /// Nothing is left to wait for. Returning false lets the hub tell the main coroutine.
    fn loop_exit(&self) -> bool {
        false
    }
}

/// The host of plain Rust programs.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoHost;

impl Host for NoHost {}
