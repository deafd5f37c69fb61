//! Stackful coroutines that switch to each other explicitly.
//!
//! [`thread`] holds what one native thread has of them, [`block`] is one coroutine, [`switch`] is
//! the only place where control moves between stacks, [`stack`] is where the stacks come from and
//! [`shelf`] how they are kept; [`overflow`] says which one was too small.
//!
//! Invariants:
//! * A coroutine lives and dies on the thread that made it. [`Coroutine`] is not `Send`.
//! * Control blocks and [`Thread`]s are recycled, never freed, so a stale reference is harmless: it
//!   can be told by its number (`park_seq`) and is ignored.
//! * A suspended stack is never unwound by us. It runs to its end, or it is abandoned.

pub(crate) mod block;
mod overflow;
mod shelf;
pub mod stack;
mod switch;
pub(crate) mod thread;

pub use block::{Body, Coroutine, Entry, Slot, State};
pub use overflow::Write as ReportWrite;
pub use stack::{StackInfo, StackSizes};
pub use switch::{Signal, prefetch_stack, switch};
pub use thread::{Hooks, Thread};
