//! Primitives for coroutines of one thread. Each is a few fields and a [`WaitQueue`].
//!
//! They are not `Sync`. An embedder that serialises several threads by a lock of its own (an
//! interpreter lock) may share them: waking a coroutine of another thread goes through its inbox.
//!
//! Whatever can park takes the hub of the calling coroutine and a deadline; None is without limit.
//! What is free at once is taken without looking at either.
//!
//! ```compile_fail
//! fn needs_sync<T: Sync>() {}
//! needs_sync::<rgevent_runtime::sync::Semaphore>();
//! ```

mod condvar;
mod event;
mod mutex;
mod queue;
mod result;
mod semaphore;
mod wait_queue;

pub use condvar::Condvar;
pub use event::Event;
pub use mutex::{Mutex, MutexGuard};
pub use queue::{Queue, TryPutError};
pub use result::AsyncResult;
pub use semaphore::Semaphore;
pub use wait_queue::{Ticket, WaitQueue};
