//! The right to wake one coroutine out of one particular wait.

use std::{fmt, sync::atomic::Ordering};

use super::inbox::Message;
use crate::{
    WaitError,
    coroutine::{Coroutine, block::Block},
};

/// Wakes a coroutine from the wait it was made for, and from no other. Usable from any thread.
///
/// Keeping one costs nothing and delays nothing: control blocks are recycled, never freed, and
/// the park number tells a stale waker from a current one.
#[derive(Clone, Copy)]
pub struct Waker {
    block: &'static Block,
    seq: u64,
}

// SAFETY: another thread uses only `thread` (set once, before the block was shared), the atomic
// fields and `seq` (this value's own); see `wake` and `grant`.
unsafe impl Send for Waker {}
// SAFETY: as above; there is no interior state.
unsafe impl Sync for Waker {}

impl PartialEq for Waker {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.block, other.block) && self.seq == other.seq
    }
}

impl Eq for Waker {}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").field("seq", &self.seq).finish()
    }
}

impl Waker {
    pub(super) fn new(coroutine: Coroutine, seq: u64) -> Self {
        Self {
            block: coroutine.block,
            seq,
        }
    }

    /// Puts the coroutine into its hub's run queue.
    ///
    /// False when it is known to have been woken already. From another thread the answer is
    /// always true: the message is on its way.
    #[inline]
    pub fn wake(self) -> bool {
        let thread = self.block.thread_of();
        if thread.is_current() {
            self.wake_here()
        } else {
            thread.inbox.post(Message::Wake(self));
            true
        }
    }

    /// As [`wake`](Self::wake), and records that the wait got what it was for. A coroutine that
    /// timed out in the same moment can tell by [`was_granted`](Self::was_granted).
    ///
    /// False, too, when the coroutine's native thread has ended: it takes nothing any more.
    #[inline]
    pub fn grant(self) -> bool {
        let thread = self.block.thread_of();
        if thread.is_current() {
            let woken = self.wake_here();
            if woken {
                self.block.granted.store(self.seq, Ordering::Release);
            }
            woken
        } else if self.block.is_gone(self.seq) {
            false
        } else {
            self.block.granted.store(self.seq, Ordering::Release);
            thread.inbox.post(Message::Wake(self));
            true
        }
    }

    /// Ends the wait with an error instead.
    pub(super) fn fail(self, why: WaitError) {
        if self.wake() && self.block.thread_of().is_current() {
            self.block.outcome.set(Some(why));
        }
    }

    pub(super) fn is_for(self, coroutine: Coroutine) -> bool {
        std::ptr::eq(self.block, coroutine.block) && self.seq == self.block.park_seq.get()
    }

    /// Whether the coroutine is one of the calling thread's.
    pub(crate) fn is_of_this_thread(self) -> bool {
        self.block.thread_of().is_current()
    }

    /// Whether [`grant`](Self::grant) succeeded on this very wait.
    #[inline]
    pub fn was_granted(self) -> bool {
        self.block.granted.load(Ordering::Acquire) == self.seq
    }

    /// On the coroutine's own thread: marks it woken and queues it. False when stale.
    #[inline]
    pub(super) fn wake_here(self) -> bool {
        let block = self.block;
        if block.park_seq.get() != self.seq || !block.pending.get() {
            return false;
        }
        block.pending.set(false);
        block.outcome.set(None);
        if let Some(hub) = block.thread_of().try_hub() {
            hub.push_ready(Coroutine::from_block(block), self.seq);
        }
        true
    }
}
