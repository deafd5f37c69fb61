//! What one native thread has of coroutines.

use std::{
    cell::{Cell, OnceCell, RefCell},
    fmt, io, ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;

use super::{
    Coroutine, StackInfo, StackSizes,
    block::{Block, Inner, State},
    overflow,
    stack::StackPool,
    switch::Signal,
};
use crate::hub::{Hub, Inbox};

/// What an embedder does around every switch of stacks. Called with the coroutine's user word.
///
/// The functions must not switch, allocate or run foreign code.
#[derive(Debug, Clone, Copy)]
pub struct Hooks {
    /// The running coroutine is about to be suspended.
    pub leave: fn(*mut ()),
    /// The coroutine runs again.
    pub arrive: fn(*mut ()),
    /// A queued coroutine could not be started: there is no memory for its stack.
    pub start_failed: fn(*mut (), io::Error),
    /// Writes what the coroutine is to a report of its stack overflow. Called in a signal handler,
    /// in the middle of anything: it may look at what it knows, and neither lock nor allocate.
    pub describe: fn(*mut (), overflow::Write),
    /// What to do about a stack overflow, a sentence.
    pub overflow_advice: &'static str,
    /// The thread ended with this coroutine suspended or unstarted; it will never run again. True
    /// when nothing points into its stack any more, so that the memory may go.
    pub abandon: fn(*mut ()) -> bool,
}

static NO_HOOKS: Hooks = Hooks {
    leave: |_| (),
    arrive: |_| (),
    start_failed: |_, error| panic!("a coroutine cannot be started: {error}"),
    describe: |_, write| write(b"a coroutine"),
    overflow_advice: "Choose a larger slot: Thread::set_stack_sizes.",
    abandon: |_| false,
};

thread_local! {
    /// The `Thread` of this native thread; null before first use and after its end.
    static CURRENT: Cell<*const Thread> = const { Cell::new(ptr::null()) };
    /// Ends the thread's coroutines for programs that do not do it themselves.
    static END: EndOfThread = const { EndOfThread };
}

/// Threads that ended and wait for the next native thread to use them.
///
/// A plain list without a destructor: nothing of it may die before the last thread does.
static RECYCLED: Mutex<Vec<&'static Thread>> = Mutex::new(Vec::new());

/// The coroutines of one native thread. Never freed; recycled when the native thread is gone.
pub struct Thread {
    /// The running coroutine; empty only while the thread is being made.
    pub(super) current: Cell<Option<&'static Block>>,
    pub(super) next: Cell<Option<Coroutine>>,
    pub(super) signal: Cell<Signal>,
    pub(super) hooks: Cell<&'static Hooks>,
    pub(super) stacks: StackPool,
    reporting: overflow::Reporting,
    main: OnceCell<&'static Block>,
    user: Cell<*mut ()>,
    free_blocks: RefCell<Vec<&'static Block>>,
    all_blocks: RefCell<Vec<&'static [Block]>>,
    pub(crate) hub: RefCell<Option<&'static Hub>>,
    pub(crate) inbox: Inbox,
    alive: AtomicBool,
}

// SAFETY: other threads reach a `Thread` only through a `Waker`, which uses `inbox` and `alive`
// alone, and those are `Sync`. Everything else is used by the owning thread only: `Thread::current`
// is the one way to a reference, and recycling hands the whole over after the old owner ended.
unsafe impl Sync for Thread {}
// SAFETY: as above.
unsafe impl Send for Thread {}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread")
            .field("at", &ptr::from_ref(self))
            .field("stacks", &self.stacks.info())
            .finish_non_exhaustive()
    }
}

/// Blocks made at a time.
const BLOCKS_PER_CHUNK: usize = 64;

impl Thread {
    /// The current thread's coroutines, set up on first use; ended when the native thread ends.
    pub fn current_or_new() -> &'static Thread {
        match Self::try_current() {
            Some(thread) => thread,
            None => {
                let thread = Self::attach();
                // Registers the destructor; fails only while the thread is ending already.
                let _ = END.try_with(|_| ());
                thread
            }
        }
    }

    /// The current thread's coroutines, if it has any.
    #[inline]
    pub fn try_current() -> Option<&'static Thread> {
        let thread = CURRENT.get();
        // SAFETY: null, or a `Thread` that is never freed.
        unsafe { thread.as_ref() }
    }

    /// Sets the current thread up for an embedder that will call [`shutdown`](Self::shutdown).
    pub fn attach() -> &'static Thread {
        assert!(
            CURRENT.get().is_null(),
            "this native thread is set up already"
        );
        let recycled = RECYCLED.lock().pop();
        let thread = recycled.unwrap_or_else(Self::leak);
        thread.alive.store(true, Ordering::Release);
        CURRENT.set(thread);
        thread.reporting.begin();
        thread
    }

    fn leak() -> &'static Thread {
        // The main block and its thread refer to each other, so the first is made in two steps.
        let thread: &'static Thread = Box::leak(Box::new(Thread {
            current: Cell::new(None),
            next: Cell::new(None),
            signal: Cell::new(Signal::Wake),
            hooks: Cell::new(&NO_HOOKS),
            stacks: StackPool::default(),
            reporting: overflow::Reporting::default(),
            main: OnceCell::new(),
            user: Cell::new(ptr::null_mut()),
            free_blocks: RefCell::new(Vec::new()),
            all_blocks: RefCell::new(Vec::new()),
            hub: RefCell::new(None),
            inbox: Inbox::new(),
            alive: AtomicBool::new(false),
        }));
        let main: &'static Block = Box::leak(Box::new(Block::new(thread)));
        main.state.set(State::Started);
        main.chained.set(true);
        main.holds.set(1);
        thread.main.get_or_init(|| main);
        thread.current.set(Some(main));
        thread
    }

    /// Installs what an embedder wants done around switches.
    pub fn set_hooks(&self, hooks: &'static Hooks) {
        self.hooks.set(hooks);
    }

    #[inline]
    pub(crate) fn hooks(&self) -> &'static Hooks {
        self.hooks.get()
    }

    /// Chooses the sizes of the stacks of coroutines that are started from now on.
    pub fn set_stack_sizes(&self, sizes: StackSizes) {
        self.stacks.set_sizes(sizes);
    }

    /// The sizes of this thread's stacks.
    pub fn stack_sizes(&self) -> StackSizes {
        self.stacks.sizes()
    }

    /// Numbers about this thread's stacks.
    pub fn stack_info(&self) -> StackInfo {
        self.stacks.info()
    }

    /// What [`set_user`](Self::set_user) stored; null at first.
    #[inline]
    pub fn user(&self) -> *mut () {
        self.user.get()
    }

    /// Stores a word for the embedder.
    pub fn set_user(&self, user: *mut ()) {
        self.user.set(user);
    }

    /// The hub is about to sleep.
    #[inline]
    pub(crate) fn stacks_idle(&self, now_ns: impl FnOnce() -> u64) {
        if self.stacks.has_surplus() {
            self.stacks.idle(now_ns());
        }
    }

    /// The coroutine that is running.
    #[inline]
    pub fn current(&self) -> Coroutine {
        let block = self.current.get();
        Coroutine::from_block(block.expect("a thread always runs some coroutine"))
    }

    /// The coroutine that is the native thread's own stack.
    #[inline]
    pub fn main(&self) -> Coroutine {
        Coroutine::from_block(self.main.get().expect("every thread has a main coroutine"))
    }

    /// Whether this is the calling thread's own.
    #[inline]
    pub fn is_current(&self) -> bool {
        ptr::eq(CURRENT.get(), self)
    }

    /// Whether the native thread still runs.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// Whether a coroutine other than the main one is running or suspended.
    pub fn has_suspended(&self) -> bool {
        let blocks = self.all_blocks.borrow();
        blocks
            .iter()
            .flat_map(|chunk| chunk.iter())
            .any(|block| block.state.get() == State::Started)
    }

    /// Abandons a suspended coroutine: it will never run again, and its stack is lost until the
    /// thread ends. Does nothing to one that is running or below a running one.
    pub fn abandon(&self, coroutine: Coroutine) {
        let block = coroutine.block;
        if block.state.get() != State::Started || block.chained.get() {
            return;
        }
        self.stacks.lose(reset(block));
        coroutine.release();
    }

    /// Ends the thread's coroutines: what is suspended is abandoned, the hub is closed.
    ///
    /// Must be called on the thread itself, on its main stack.
    pub fn shutdown(&'static self) {
        assert!(self.is_current(), "a thread is ended by itself");
        assert!(
            self.current() == self.main(),
            "a thread ends on its main stack"
        );
        self.reporting.end();
        CURRENT.set(ptr::null());
        self.end();
    }

    /// Says that the embedder is about to end this thread: what other threads hand over from now
    /// on goes to somebody else.
    pub fn retire(&self) {
        self.alive.store(false, Ordering::Release);
    }

    /// Says that the native thread, which is ending, will not call
    /// [`shutdown`](Self::shutdown). Somebody may [`bury`](Self::bury) it later.
    pub fn detach(&'static self) {
        assert!(self.is_current(), "a thread is detached by itself");
        self.alive.store(false, Ordering::Release);
        self.reporting.end();
        CURRENT.set(ptr::null());
    }

    /// Ends the coroutines of a native thread that has [detached](Self::detach), from another.
    ///
    /// # Safety
    /// No code runs on the stacks of that thread's coroutines any more, and nobody else looks at
    /// them during the call.
    pub unsafe fn bury(&'static self) {
        assert!(!self.is_alive(), "only a detached thread is buried");
        self.end();
    }

    fn end(&'static self) {
        let hooks = self.hooks.get();
        let hub = self.hub.borrow_mut().take();
        let chunks: Vec<&'static [Block]> = self.all_blocks.borrow().clone();
        for block in chunks.iter().flat_map(|chunk| chunk.iter()) {
            block.forget_wait();
            if block.holds.get() == 0 {
                continue;
            }
            let user = block.user.replace(ptr::null_mut());
            let suspended = block.state.get() == State::Started;
            block.chained.set(false);
            if suspended {
                let stack = reset(block);
                if (hooks.abandon)(user) {
                    self.stacks.give(stack);
                } else {
                    self.stacks.lose(stack);
                }
            } else {
                block.state.set(State::Finished);
                (hooks.abandon)(user);
            }
            block.holds.set(0);
            self.free_blocks.borrow_mut().push(block);
        }
        let main = self.main();
        main.set_user(ptr::null_mut());
        main.block.forget_wait();
        main.block.killed.set(false);
        self.current.set(Some(self.main().block));
        if let Some(hub) = hub {
            hub.close();
        }
        self.alive.store(false, Ordering::Release);
        self.inbox.clear();
        // SAFETY: every coroutine with a stack was abandoned above, and lost stacks are kept.
        unsafe { self.stacks.release_all() };
        self.hooks.set(&NO_HOOKS);
        self.user.set(ptr::null_mut());
        RECYCLED.lock().push(self);
    }

    #[inline]
    pub(super) fn take_block(&'static self) -> &'static Block {
        let free = self.free_blocks.borrow_mut().pop();
        free.unwrap_or_else(|| self.more_blocks())
    }

    #[cold]
    fn more_blocks(&'static self) -> &'static Block {
        let chunk: Vec<Block> = (0..BLOCKS_PER_CHUNK).map(|_| Block::new(self)).collect();
        let chunk: &'static [Block] = chunk.leak();
        self.all_blocks.borrow_mut().push(chunk);
        let mut free = self.free_blocks.borrow_mut();
        free.extend(chunk.iter().rev());
        free.pop().expect("a chunk of blocks is not empty")
    }

    #[inline]
    pub(super) fn recycle(&self, block: &'static Block) {
        debug_assert!(block.state.get() != State::Started);
        block.park_seq.set(block.park_seq.get() + 1);
        block.pending.set(false);
        self.free_blocks.borrow_mut().push(block);
    }

    /// Makes the hub of this thread, unless it has one.
    ///
    /// # Errors
    /// When the operating system refuses the poller's fds, or a stack.
    pub fn hub(&'static self) -> io::Result<&'static Hub> {
        if let Some(hub) = *self.hub.borrow() {
            return Ok(hub);
        }
        Hub::install(self, crate::hub::HubOptions::default())
    }

    /// The hub of this thread, if it was made.
    #[inline]
    pub fn try_hub(&self) -> Option<&'static Hub> {
        *self.hub.borrow()
    }
}

/// Takes the stack away from a suspended coroutine that will never run again.
fn reset(block: &'static Block) -> super::stack::Stack {
    block.state.set(State::Finished);
    // SAFETY: the caller saw `Started`, so `inner` is present; `Finished` marks it as taken.
    let mut inner: Inner = unsafe { block.inner().read() };
    // SAFETY: nothing will run on this stack again, so what lives there is leaked, not reused:
    // its memory is never handed out again.
    unsafe { inner.force_reset() };
    inner.into_stack()
}

/// Its destructor ends the coroutines of a thread that did not do so itself.
struct EndOfThread;

impl Drop for EndOfThread {
    fn drop(&mut self) {
        if let Some(thread) = Thread::try_current() {
            if thread.current() == thread.main() {
                thread.shutdown();
            } else {
                thread.detach();
            }
        }
    }
}
