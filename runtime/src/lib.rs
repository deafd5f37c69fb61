//! Green threads on one native thread: stackful coroutines that switch to each other explicitly, a
//! hub that polls for them, and sockets and locks that park instead of blocking.
//!
//! ```
//! use std::time::Duration;
//!
//! let worker = rgevent_runtime::spawn(|| {
//!     rgevent_runtime::sleep(Duration::from_millis(1))?;
//!     Ok::<_, rgevent_runtime::WaitError>(6 * 7)
//! });
//! assert_eq!(worker.join().expect("not killed").expect("no panic"), Ok(42));
//! ```
//!
//! From the bottom up, each layer using only those before it:
//!
//! * [`coroutine`]: stacks and the one function that switches between them;
//! * [`hub`]: one event loop per native thread; parking and waking, timers, fds, the inbox that
//!   other threads post to;
//! * [`sync`], [`net`], [`blocking`]: primitives, sockets, and a pool of native threads for calls
//!   that cannot be made to park;
//! * [`spawn`], [`sleep`], [`switch`], [`JoinHandle`]: the front door for programs.
//!
//! A wait takes a deadline and ends in one of few ways: what was waited for has come, or a
//! [`WaitError`] says why not. A kill ends the current wait and all later ones of a coroutine; there
//! is no other way to end one from outside, and a stack is never unwound by us.
//!
//! An embedder (an interpreter, say) brings a [`Host`] and [`coroutine::Hooks`]; it then decides
//! what a coroutine runs and what travels with it.

pub mod blocking;
pub mod coroutine;
mod error;
mod host;
pub mod hub;
pub mod net;
pub mod sync;
mod sys;
mod task;

pub use error::WaitError;
pub use host::{Host, NoHost};
pub use sys::{Readiness, poll_now};
pub use task::{JoinHandle, Panic, current, sleep, spawn, switch, yield_now};
