//! The one door: the only function that moves control from one stack to another.
//!
//! corosensei resumes and suspends; we want to switch from anywhere to anywhere. The bridge is the
//! *resume chain*. The thread's main stack is at its bottom, and each coroutine in it was resumed
//! from the stack below; the running one is on top.
//!
//! ```text
//!   main ──resumed──> hub ──resumed──> a          a switches to b: b is not in the chain,
//!   main ──────────> hub ──────────> a ──> b      so a resumes b on top of itself
//!   main ──────────> hub                          b switches to hub: hub is below, so b and a
//!                                                 suspend, and each passes control down
//! ```
//!
//! So a switch between a coroutine and the hub, or between two that take turns, is one stack
//! switch, and any sequence costs at most two per switch: a coroutine suspended on the way down
//! was resumed once before.

use super::{
    Coroutine, Thread,
    block::{Inner, State},
};

/// Why a suspended coroutine runs again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The hub resumes a parked coroutine that was woken.
    Wake,
    /// The embedder switched explicitly; what it passed is its own affair.
    Explicit,
    /// The hub found that nothing is left to wait for. Only the main coroutine receives it.
    LoopExit,
}

/// Switches from the running coroutine to `target` and returns when something switches back.
///
/// `target` must be started, unfinished and of this thread; switching to oneself is the caller's
/// case to handle. Nothing may be borrowed across the call.
// Inlined into its callers, as are its parts: after a jump the processor predicts every return
// address wrong, so each stack frame between here and the interpreter costs some five nanoseconds.
#[inline(always)]
pub fn switch(thread: &'static Thread, target: Coroutine, signal: Signal) -> Signal {
    let from = thread.current();
    debug_assert!(from != target, "a switch to the running coroutine");
    debug_assert_eq!(target.state(), State::Started);
    debug_assert!(std::ptr::eq(target.thread(), thread));
    let hooks = thread.hooks.get();
    (hooks.leave)(from.user());
    thread.signal.set(signal);
    if target.block.chained.get() {
        descend(thread, from, target);
    } else {
        ascend(thread, from, target);
    }
    debug_assert!(thread.current() == from);
    (hooks.arrive)(from.user());
    thread.signal.get()
}

/// How much of a suspended stack is read first when it goes on.
#[cfg(target_arch = "x86_64")]
const PREFETCHED_BYTES: usize = 320;
#[cfg(target_arch = "x86_64")]
const CACHE_LINE_BYTES: usize = 64;

/// Tells the processor that the coroutine whose stack was left at `address` is about to go on.
///
/// Worth a sixth of the time when a hundred thousand take turns: a cold stack is a page walk and
/// some cache lines, and this way they are fetched while the way to the switch is prepared. Any
/// address will do, nothing is read.
#[inline(always)]
pub fn prefetch_stack(address: usize) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..PREFETCHED_BYTES).step_by(CACHE_LINE_BYTES) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = address.wrapping_add(offset) as *const i8;
        // SAFETY: a hint: it may name any address, mapped or not.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
    }
    let _ = address;
}

/// Gives control to a coroutine below in the chain.
#[inline(always)]
fn descend(thread: &'static Thread, from: Coroutine, target: Coroutine) {
    thread.next.set(Some(target));
    suspend(from);
}

/// Runs `target`, and whatever it names when it gives control back, on top of `from`, until
/// control is meant for `from` itself.
#[inline(always)]
fn ascend(thread: &'static Thread, from: Coroutine, mut target: Coroutine) {
    loop {
        thread.current.set(Some(target.block));
        target.block.chained.set(true);
        // SAFETY: the coroutine is started, so `inner` is present, and it is not in the chain, so
        // nobody else holds this reference: the chain is the only place that resumes.
        let inner = unsafe { &mut *target.block.inner() };
        let finished = inner.resume(()).as_return().is_some();
        target.block.chained.set(false);
        let next = thread
            .next
            .get()
            .expect("whoever gives control back names where it goes");
        if finished {
            finish(target);
        }
        if next == from {
            thread.current.set(Some(from.block));
            return;
        }
        if next.block.chained.get() {
            // Further down; who resumes us next means us, and has set `current`.
            suspend(from);
            return;
        }
        debug_assert_eq!(next.state(), State::Started);
        target = next;
    }
}

/// Suspends the running coroutine in favour of the stack that resumed it.
#[inline(always)]
fn suspend(from: Coroutine) {
    let yielder = from.block.yielder.get();
    debug_assert!(
        !yielder.is_null(),
        "the main coroutine is at the bottom of the chain"
    );
    // SAFETY: a running coroutine other than main has stored its yielder, which lives at the base
    // of its own stack.
    let yielder = unsafe { &*yielder };
    yielder.suspend(());
}

/// Takes the stack of a coroutine that has returned. Runs on another stack.
#[inline]
fn finish(coroutine: Coroutine) {
    let block = coroutine.block;
    block.state.set(State::Finished);
    // SAFETY: it was started, so `inner` is present; `Finished` marks it as taken.
    let inner: Inner = unsafe { block.inner().read() };
    block.thread.stacks.give(inner.into_stack());
    coroutine.release();
}
