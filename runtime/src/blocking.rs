//! Native threads for calls that block: DNS, files, foreign libraries.
//!
//! A coroutine that has such a call to make gives it to a [`Pool`] and parks; the other coroutines
//! of its thread run on. Threads are started when a job finds no idle one, up to a maximum, and
//! end after some idle seconds.
//!
//! Invariants:
//! * Every accepted job runs, once, even if its pool is dropped first.
//! * A pool thread never touches a coroutine: it leaves its result and wakes through the inbox.
//!
//! A forked child has none of its parent's threads, and the locks of its parent's pools may be held
//! for ever. So nothing of an old pool is used there: [`reset_after_fork`] puts a new one in place.

#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use crossbeam::atomic::AtomicCell;
use parking_lot::{Condvar, Mutex};

use crate::{
    WaitError,
    hub::{Deadline, Hub},
    sync::WaitQueue,
    task::Panic,
};

/// Threads of the shared pool, at most, unless [`Pool::set_threads_max`] says otherwise.
pub const THREADS_MAX_DEFAULT: usize = 10;
/// How long an idle thread waits for another job.
pub const IDLE_TIME_DEFAULT: Duration = Duration::from_secs(5);
/// Stack of a pool thread in bytes: as large as a main thread's, since embedders run interpreters
/// here. Only what is touched is committed.
const STACK_BYTES: usize = 8 << 20;

/// What a pool thread is given to do.
pub type Job = Box<dyn FnOnce() + Send>;

/// Why a call on a native thread has no result.
#[derive(Debug)]
pub enum RunError {
    /// The caller's wait ended first. The call itself goes on; its result is dropped.
    ///
    /// [`WaitError::Closed`] says that the process was forked and this is the child: the thread
    /// that makes the call is the parent's.
    Wait(WaitError),
    /// The operating system refused a thread; the call was not made.
    Io(io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RunError {}

impl From<WaitError> for RunError {
    fn from(error: WaitError) -> Self {
        Self::Wait(error)
    }
}

impl From<io::Error> for RunError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<RunError> for io::Error {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Wait(error) => error.into(),
            RunError::Io(error) => error,
        }
    }
}

struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Threads waiting for a job, including those notified of one and not yet awake.
    idle: usize,
    threads_max: usize,
    /// No handle is left; threads end when the jobs do.
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    idle_time: Duration,
}

/// Drops with the last handle; the threads hold `Shared` alone.
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

/// Native threads that run jobs. A handle: clones share the threads.
///
/// When the last handle is dropped the threads end, after the jobs that were accepted.
#[derive(Clone)]
pub struct Pool {
    owner: Arc<Owner>,
}

impl PartialEq for Pool {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.owner, &other.owner)
    }
}

impl Eq for Pool {}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.owner.shared.state.lock();
        f.debug_struct("Pool")
            .field("threads", &state.threads)
            .field("threads_max", &state.threads_max)
            .field("jobs", &state.jobs.len())
            .finish()
    }
}

impl Pool {
    /// A pool without threads yet.
    ///
    /// # Panics
    /// When `threads_max` is 0.
    pub fn new(threads_max: usize, idle_time: Duration) -> Self {
        assert!(threads_max > 0, "a pool has room for at least one thread");
        let state = State {
            jobs: VecDeque::new(),
            threads: 0,
            idle: 0,
            threads_max,
            closed: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            idle_time,
        });
        Self {
            owner: Arc::new(Owner { shared }),
        }
    }

    /// The pool that all threads of the process share, made on first use.
    pub fn shared() -> Self {
        if let Some(pool) = SHARED.load() {
            return pool.clone();
        }
        // No lock here: a fork could leave it held. Of two that race, the first one's pool stays.
        let pool: &'static Pool = Box::leak(Box::new(Self::default()));
        match SHARED.compare_exchange(None, Some(pool)) {
            Ok(_) => pool.clone(),
            Err(first) => first.expect("only a first pool wins").clone(),
        }
    }

    /// Gives a job to an idle thread, else to a new one, else queues it; never waits for it.
    ///
    /// A panic of the job ends nothing but the job.
    ///
    /// # Errors
    /// When the operating system refuses the pool's first thread; the job is dropped.
    pub fn submit(&self, job: Job) -> io::Result<()> {
        let shared = &self.owner.shared;
        let mut state = shared.state.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            drop(state);
            shared.changed.notify_one();
            return Ok(());
        }
        match shared.add_thread(&mut state) {
            // Without any thread it would never run; else those there are will come to it.
            Err(error) if state.threads == 0 => {
                let job = state.jobs.pop_back();
                drop(state);
                drop(job);
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Runs `function` on a native thread and parks the running coroutine until it has returned.
    ///
    /// A panic of `function` goes on in the caller.
    ///
    /// # Errors
    /// When the wait ends first (see [`Hub::park`]), or there is no thread to be had.
    pub fn run<T: Send + 'static>(
        &self,
        hub: &'static Hub,
        deadline: Option<Deadline>,
        function: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RunError> {
        let current = hub.thread().current();
        // Looked at before the call begins: it could not be stopped.
        if current == hub.coroutine() {
            return Err(WaitError::InHub.into());
        }
        if current.block.killed.get() {
            return Err(WaitError::Killed.into());
        }
        let result: Arc<Mutex<Option<Result<T, Panic>>>> = Arc::default();
        let theirs = Arc::clone(&result);
        let waker = hub.prepare();
        let submitted = self.submit(Box::new(move || {
            let outcome = catch_unwind(AssertUnwindSafe(function));
            *theirs.lock() = Some(outcome);
            waker.wake();
        }));
        if let Err(error) = submitted {
            hub.abort_park();
            return Err(error.into());
        }
        hub.expect_outside();
        let ticket = WAITING.with(|waiting| waiting.link(waker));
        let waited = hub.park(waker, deadline);
        WAITING.with(|waiting| waiting.unlink(ticket, waker));
        hub.outside_done();
        // Locked means not done: the waker is used after the lock is given up. In a forked child it
        // may be locked for ever.
        let outcome = result.try_lock().and_then(|mut result| result.take());
        match (waited, outcome) {
            // Done in the moment in which the deadline passed: nothing is lost.
            (Ok(()) | Err(WaitError::TimedOut), Some(Ok(value))) => Ok(value),
            (_, Some(Err(panic))) => resume_unwind(panic),
            (Err(error), _) => Err(error.into()),
            // The job leaves its result before it wakes: this was `reset_after_fork`.
            (Ok(()), None) => Err(WaitError::Closed.into()),
        }
    }

    /// Changes how many threads there may be. Those too many end after their current job; jobs that
    /// wait get the new ones.
    ///
    /// # Panics
    /// When `threads_max` is 0.
    pub fn set_threads_max(&self, threads_max: usize) {
        assert!(threads_max > 0, "a pool has room for at least one thread");
        let shared = &self.owner.shared;
        let mut state = shared.state.lock();
        state.threads_max = threads_max;
        let waiting = state.jobs.len().saturating_sub(state.idle);
        for _ in 0..waiting {
            // One that the operating system refuses is one less to share the work.
            if !shared.add_thread(&mut state).unwrap_or(false) {
                break;
            }
        }
        drop(state);
        shared.changed.notify_all();
    }

    /// How many threads there may be.
    pub fn threads_max(&self) -> usize {
        self.owner.shared.state.lock().threads_max
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.owner.shared.state.lock().threads
    }

    /// How many jobs wait for a thread.
    pub fn queued(&self) -> usize {
        self.owner.shared.state.lock().jobs.len()
    }

    /// Makes this handle one of a new, empty pool for at most `threads_max` threads, without
    /// looking at the old one. For a forked child; jobs of the parent are not run there.
    pub fn renew_after_fork(&mut self, threads_max: usize) {
        let idle_time = self.owner.shared.idle_time;
        let old = std::mem::replace(self, Self::new(threads_max, idle_time));
        // Dropping it would take its lock, which a thread of the parent may have held.
        std::mem::forget(old);
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new(THREADS_MAX_DEFAULT, IDLE_TIME_DEFAULT)
    }
}

impl Shared {
    /// Starts one more thread. False when there may be no more.
    fn add_thread(self: &Arc<Self>, state: &mut State) -> io::Result<bool> {
        if state.threads >= state.threads_max {
            return Ok(false);
        }
        let ours = Arc::clone(self);
        thread::Builder::new()
            .name("rgevent-pool".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || ours.serve())?;
        state.threads += 1;
        Ok(true)
    }

    /// What a pool thread does.
    fn serve(&self) {
        let mut state = self.state.lock();
        loop {
            if state.threads > state.threads_max {
                break;
            }
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                // The panic hook has spoken; the thread goes on.
                let _ = catch_unwind(AssertUnwindSafe(job));
                state = self.state.lock();
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let waited = self.changed.wait_for(&mut state, self.idle_time);
            state.idle -= 1;
            if waited.timed_out() && state.jobs.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }
}

thread_local! {
    /// Coroutines of this thread that are inside a [`Pool::run`].
    static WAITING: WaitQueue = WaitQueue::new();
}

/// The process's pool. Replaced, never changed, so that a fork cannot find it half-made.
static SHARED: AtomicCell<Option<&'static Pool>> = AtomicCell::new(None);

/// Runs `function` on a thread of the [shared pool](Pool::shared), as [`Pool::run`] does.
///
/// ```
/// use rgevent_runtime::{blocking, hub::Hub};
///
/// let sum = blocking::run(Hub::current(), || (1..=100).sum::<u32>());
/// assert_eq!(sum.expect("a thread"), 5050);
/// ```
///
/// What crosses to the other thread must be `Send`:
/// ```compile_fail
/// use rgevent_runtime::{blocking, hub::Hub};
///
/// let here = std::rc::Rc::new(1);
/// blocking::run(Hub::current(), move || *here);
/// ```
///
/// # Errors
/// As [`Pool::run`].
pub fn run<T: Send + 'static>(
    hub: &'static Hub,
    function: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RunError> {
    Pool::shared().run(hub, None, function)
}

/// Gives a job to the [shared pool](Pool::shared), as [`Pool::submit`] does.
///
/// Whoever waits for it has to be woken by the job; a hub that may have nothing else to wait for is
/// told by [`Hub::expect_outside`].
///
/// # Errors
/// As [`Pool::submit`].
pub fn submit(job: Job) -> io::Result<()> {
    Pool::shared().submit(job)
}

/// Gives a forked child an empty shared pool. Calls that were under way go on in the parent; the
/// coroutines that wait for them in the child fail with [`WaitError::Closed`].
pub fn reset_after_fork() {
    SHARED.store(None);
    WAITING.with(WaitQueue::wake_all);
}
