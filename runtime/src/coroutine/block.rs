//! One coroutine: its control block.

use std::{
    cell::{Cell, UnsafeCell},
    fmt, io,
    marker::PhantomData,
    mem::MaybeUninit,
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{Signal, Thread, stack::Stack};

/// What a coroutine runs: called once on the new stack with the word given to
/// [`Coroutine::new`]; says where control goes at the end, and why.
///
/// The function must not unwind out: below it are frames that cannot be unwound.
pub type Entry = fn(*mut ()) -> (Coroutine, Signal);

/// The same as a closure.
pub type Body = Box<dyn FnOnce() -> (Coroutine, Signal)>;

/// The addresses of a coroutine's stack slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slot {
    /// First usable address of the C stack, above the guard.
    pub low: usize,
    /// Where the C stack begins; it grows down from here.
    pub base: usize,
    /// End of the embedder's area, which begins at the base.
    pub high: usize,
}

/// How far a coroutine has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No stack yet.
    Unstarted,
    /// Has a stack: running, waiting below a running one, or suspended.
    Started,
    /// Returned, or abandoned.
    Finished,
}

pub(super) type Inner = corosensei::Coroutine<(), (), (), Stack>;
pub(super) type Yielder = corosensei::Yielder<(), ()>;

/// The memory behind a [`Coroutine`]. Recycled for the life of the process.
pub(crate) struct Block {
    pub(super) thread: &'static Thread,
    /// Present while `state` is `Started`.
    inner: UnsafeCell<MaybeUninit<Inner>>,
    pub(super) yielder: Cell<*const Yielder>,
    slot: Cell<Slot>,
    pub(super) state: Cell<State>,
    /// Running, or below the running one in the resume chain.
    pub(super) chained: Cell<bool>,
    pub(super) entry: Cell<Option<Entry>>,
    pub(super) data: Cell<*mut ()>,
    /// Handles that keep the block from being recycled; a started coroutine is one of them.
    pub(super) holds: Cell<u32>,
    /// Whatever the embedder wants to find again.
    pub(crate) user: Cell<*mut ()>,

    // --- parking, see `hub::park` ---
    /// Number of the current or last park; grows over the life of the block, across recycling.
    pub(crate) park_seq: Cell<u64>,
    /// Parked and not yet woken.
    pub(crate) pending: Cell<bool>,
    pub(crate) outcome: Cell<Option<crate::WaitError>>,
    pub(crate) killed: Cell<bool>,
    /// Absolute time in nanoseconds at which the current park times out; `u64::MAX` for never.
    pub(crate) deadline_ns: Cell<u64>,
    /// Number of that deadline; orders it among equal times.
    pub(crate) deadline_seq: Cell<u64>,
    /// The live timer entry of this coroutine: its time and number.
    pub(crate) timer_ns: Cell<u64>,
    pub(crate) timer_seq: Cell<u64>,
    /// Park number that a wait queue granted its condition to; written by the waking side, which
    /// may be another thread.
    pub(crate) granted: AtomicU64,
    /// Parks with smaller numbers ended with the native thread they were on.
    gone_before: AtomicU64,
}

impl Block {
    pub(super) fn new(thread: &'static Thread) -> Self {
        Self {
            thread,
            inner: UnsafeCell::new(MaybeUninit::uninit()),
            yielder: Cell::new(ptr::null()),
            slot: Cell::new(Slot::default()),
            state: Cell::new(State::Unstarted),
            chained: Cell::new(false),
            entry: Cell::new(None),
            data: Cell::new(ptr::null_mut()),
            holds: Cell::new(0),
            user: Cell::new(ptr::null_mut()),
            park_seq: Cell::new(0),
            pending: Cell::new(false),
            outcome: Cell::new(None),
            killed: Cell::new(false),
            deadline_ns: Cell::new(u64::MAX),
            deadline_seq: Cell::new(0),
            timer_ns: Cell::new(u64::MAX),
            timer_seq: Cell::new(0),
            granted: AtomicU64::new(0),
            gone_before: AtomicU64::new(0),
        }
    }

    /// Where the corosensei coroutine is while the state is `Started`.
    #[inline]
    pub(super) fn inner(&self) -> *mut Inner {
        self.inner.get().cast()
    }

    /// Its thread ends: makes wakers of the current park stale, also for other threads, and
    /// forgets the timers of a hub that is gone.
    pub(super) fn forget_wait(&self) {
        self.pending.set(false);
        let next = self.park_seq.get() + 1;
        self.park_seq.set(next);
        self.gone_before.store(next, Ordering::Release);
        self.deadline_ns.set(u64::MAX);
        self.timer_ns.set(u64::MAX);
        self.timer_seq.set(0);
    }

    /// Whether the park with this number ended, or can never end, because its native thread did.
    pub(crate) fn is_gone(&self, seq: u64) -> bool {
        !self.thread.is_alive() || seq < self.gone_before.load(Ordering::Acquire)
    }

    /// Set when the block was made; beside the atomic ones the only field other threads may read.
    #[inline]
    pub(crate) fn thread_of(&self) -> &'static Thread {
        self.thread
    }
}

/// A coroutine of the current thread. A plain reference: copying it holds nothing.
///
/// ```compile_fail
/// fn needs_send<T: Send>() {}
/// needs_send::<rgevent_runtime::coroutine::Coroutine>();
/// ```
#[derive(Clone, Copy)]
pub struct Coroutine {
    pub(crate) block: &'static Block,
    not_send: PhantomData<*mut ()>,
}

impl PartialEq for Coroutine {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.block, other.block)
    }
}

impl Eq for Coroutine {}

impl fmt::Debug for Coroutine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coroutine")
            .field("at", &ptr::from_ref(self.block))
            .field("state", &self.state())
            .finish()
    }
}

impl Coroutine {
    #[inline]
    pub(crate) fn from_block(block: &'static Block) -> Self {
        Self {
            block,
            not_send: PhantomData,
        }
    }

    /// A coroutine that will run `entry(data)`. It holds nothing but a small block until started.
    ///
    /// The caller owns one hold on it and must [`release`](Self::release) it once.
    #[inline]
    pub fn new(thread: &'static Thread, entry: Entry, data: *mut ()) -> Self {
        let block = thread.take_block();
        debug_assert_eq!(block.holds.get(), 0);
        block.state.set(State::Unstarted);
        block.entry.set(Some(entry));
        block.data.set(data);
        block.user.set(ptr::null_mut());
        block.killed.set(false);
        block.outcome.set(None);
        block.holds.set(1);
        Self::from_block(block)
    }

    /// As [`new`](Self::new), for a closure. One that is never started is leaked.
    pub fn from_body(thread: &'static Thread, body: Body) -> Self {
        fn run(word: *mut ()) -> (Coroutine, Signal) {
            // SAFETY: the word is the box leaked below, and an entry function is called once.
            let body = unsafe { Box::from_raw(word.cast::<Body>()) };
            body()
        }
        Self::new(thread, run, Box::into_raw(Box::new(body)).cast())
    }

    /// Gets a stack, so that the next switch to this coroutine cannot fail.
    ///
    /// # Errors
    /// When no stack can be had; the coroutine stays unstarted.
    #[inline]
    pub fn start(self) -> io::Result<()> {
        self.start_on(self.block.thread.stacks.take()?);
        Ok(())
    }

    /// As [`start`](Self::start), in a slot of `slot_bytes` whatever the thread's default is.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_sized(self, slot_bytes: usize) -> io::Result<()> {
        self.start_on(self.block.thread.stacks.take_sized(slot_bytes)?);
        Ok(())
    }

    #[inline]
    fn start_on(self, stack: Stack) {
        debug_assert_eq!(self.state(), State::Unstarted);
        let block = self.block;
        block.slot.set(Slot {
            low: stack.low(),
            base: stack.base(),
            high: stack.high(),
        });
        let inner = Inner::with_stack(stack, move |yielder, ()| {
            block.yielder.set(yielder);
            let entry = block
                .entry
                .get()
                .expect("a started coroutine has its entry function");
            let (next, signal) = entry(block.data.get());
            block.thread.next.set(Some(next));
            block.thread.signal.set(signal);
        });
        // SAFETY: the coroutine is unstarted, so `inner` is empty and nobody looks at it.
        unsafe { block.inner().write(inner) };
        block.state.set(State::Started);
        self.hold();
    }

    /// How far it has come.
    #[inline]
    pub fn state(self) -> State {
        self.block.state.get()
    }

    /// The thread it belongs to.
    #[inline]
    pub fn thread(self) -> &'static Thread {
        self.block.thread
    }

    /// What [`set_user`](Self::set_user) stored; null at first.
    #[inline]
    pub fn user(self) -> *mut () {
        self.block.user.get()
    }

    /// Stores a word for the embedder, given to its [`Hooks`](super::Hooks).
    #[inline]
    pub fn set_user(self, user: *mut ()) {
        self.block.user.set(user);
    }

    /// Its stack slot while it has one; see `stack` for the layout.
    #[inline]
    pub fn slot(self) -> Option<Slot> {
        let slot = self.block.slot.get();
        (self.state() == State::Started && slot.base != 0).then_some(slot)
    }

    /// Keeps the block from being recycled until [`release`](Self::release).
    #[inline]
    pub fn hold(self) {
        self.block.holds.set(self.block.holds.get() + 1);
    }

    /// Gives one hold back. The value must not be used after its last one.
    #[inline]
    pub fn release(self) {
        let holds = self.block.holds.get();
        debug_assert!(holds > 0, "a coroutine is released once per hold");
        self.block.holds.set(holds - 1);
        if holds == 1 {
            self.block.thread.recycle(self.block);
        }
    }
}
