//! Parking: how a coroutine gives way until it is woken.

use std::time::Duration;

use super::{
    Hub, TimerTarget, Waker,
    clock::{NEVER_NS, duration_ns},
};
use crate::{
    WaitError,
    coroutine::{Coroutine, Signal, State, switch},
};

/// A moment on a hub's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    ns: u64,
}

impl Hub {
    /// The moment `timeout` from now.
    #[inline]
    pub fn deadline_after(&self, timeout: Duration) -> Deadline {
        Deadline {
            ns: self.now_ns().saturating_add(duration_ns(timeout)),
        }
    }

    /// Opens a park of the running coroutine: whoever gets the waker can end it.
    ///
    /// Must be followed by [`park`](Self::park) or [`abort_park`](Self::abort_park), with no other
    /// wait in between.
    #[inline]
    pub fn prepare(&self) -> Waker {
        let current = self.thread.current();
        let block = current.block;
        debug_assert!(!block.pending.get(), "one park at a time");
        let seq = block.park_seq.get() + 1;
        block.park_seq.set(seq);
        block.pending.set(true);
        block.outcome.set(None);
        Waker::new(current, seq)
    }

    /// Closes a prepared park without waiting.
    #[inline]
    pub fn abort_park(&self) {
        self.disarm(self.thread.current());
    }

    /// Gives way until the waker is used, the deadline passes, or something else ends the wait.
    ///
    /// Nothing may be borrowed across the call. Whatever holds the waker has to be unlinked by
    /// the caller afterwards.
    ///
    /// # Errors
    /// Each [`WaitError`] but `Closed`, which comes from whoever closes.
    #[inline]
    pub fn park(&'static self, waker: Waker, deadline: Option<Deadline>) -> Result<(), WaitError> {
        let current = self.thread.current();
        let block = current.block;
        debug_assert!(waker.is_for(current), "a coroutine parks itself");
        if current == self.coroutine {
            self.disarm(current);
            return Err(WaitError::InHub);
        }
        if block.killed.get() {
            self.disarm(current);
            return Err(WaitError::Killed);
        }
        if let Some(deadline) = deadline {
            self.arm(current, deadline.ns);
        }
        let signal = self.give_way(current);
        block.deadline_ns.set(NEVER_NS);
        match signal {
            Signal::Wake => match block.outcome.take() {
                None => Ok(()),
                Some(error) => Err(error),
            },
            Signal::Explicit => {
                self.disarm(current);
                Err(WaitError::Interrupted)
            }
            Signal::LoopExit => {
                self.disarm(current);
                Err(WaitError::LoopExit)
            }
        }
    }

    /// Lets everything else that is ready run once, then goes on.
    ///
    /// # Errors
    /// As [`park`](Self::park).
    #[inline]
    pub fn yield_now(&'static self) -> Result<(), WaitError> {
        let waker = self.prepare();
        waker.wake();
        self.park(waker, None)
    }

    /// Parks for a time.
    ///
    /// # Errors
    /// As [`park`](Self::park), but never `TimedOut`.
    pub fn sleep(&'static self, time: Duration) -> Result<(), WaitError> {
        if time.is_zero() {
            return self.yield_now();
        }
        let deadline = self.deadline_after(time);
        let waker = self.prepare();
        match self.park(waker, Some(deadline)) {
            Err(WaitError::TimedOut) => Ok(()),
            result => result,
        }
    }

    /// Gives control to the hub without opening a park: only an explicit switch brings it back.
    pub fn switch_to_hub(&'static self) -> Signal {
        switch(self.thread, self.coroutine, Signal::Explicit)
    }

    /// Ends a kill-able wait of `coroutine`: its current and all later waits fail.
    pub(crate) fn kill(&self, coroutine: Coroutine) {
        let block = coroutine.block;
        block.killed.set(true);
        if block.pending.get() {
            self.end_park(coroutine, WaitError::Killed);
        }
    }

    /// Queues a parked coroutine with the reason why its wait failed.
    pub(super) fn end_park(&self, coroutine: Coroutine, why: WaitError) {
        let block = coroutine.block;
        debug_assert!(block.pending.get());
        block.pending.set(false);
        block.outcome.set(Some(why));
        self.push_ready(coroutine, block.park_seq.get());
    }

    /// Where a coroutine that has come to its end leaves control.
    #[inline]
    pub fn after_end(&'static self) -> (Coroutine, Signal) {
        let next = self.next_ready(None).unwrap_or(self.coroutine);
        (next, Signal::Wake)
    }

    /// Switches to whoever is next.
    #[inline]
    fn give_way(&'static self, current: Coroutine) -> Signal {
        match self.next_ready(Some(current)) {
            Some(next) if next == current => Signal::Wake,
            Some(next) => switch(self.thread, next, Signal::Wake),
            None => switch(self.thread, self.coroutine, Signal::Wake),
        }
    }

    /// Takes the next ready coroutine, started, out of the run queue, if the hub need not run first.
    #[inline]
    fn next_ready(&'static self, current: Option<Coroutine>) -> Option<Coroutine> {
        while self.tick.may_hand_over(|| self.now_ns()) {
            let (next, seq) = self.run_queue.pop_resume()?;
            if is_due(next, seq)
                && (Some(next) == current || next.state() == State::Started || self.start(next))
            {
                return Some(next);
            }
        }
        None
    }

    /// Gets a queued coroutine its stack; tells the embedder when there is none to be had.
    pub(super) fn start(&self, coroutine: Coroutine) -> bool {
        match coroutine.start() {
            Ok(()) => true,
            Err(error) => {
                (self.thread.hooks().start_failed)(coroutine.user(), error);
                false
            }
        }
    }

    /// Makes late wakers of the current park stale.
    #[inline]
    fn disarm(&self, coroutine: Coroutine) {
        let block = coroutine.block;
        block.pending.set(false);
        block.park_seq.set(block.park_seq.get() + 1);
        block.outcome.set(None);
    }

    /// Sees to it that the park ends at `at_ns`. See `timers` for why this is usually a few stores.
    #[inline]
    fn arm(&self, coroutine: Coroutine, at_ns: u64) {
        let block = coroutine.block;
        let mut timers = self.timers.borrow_mut();
        let seq = timers.number();
        block.deadline_ns.set(at_ns);
        block.deadline_seq.set(seq);
        if block.timer_ns.get() <= at_ns {
            return;
        }
        let had_entry = block.timer_ns.get() != NEVER_NS;
        block.timer_ns.set(at_ns);
        block.timer_seq.set(seq);
        timers.push(at_ns, seq, TimerTarget::Park(coroutine));
        if had_entry {
            timers.note_stale(|entry| self.timer_is_live(entry));
        }
    }
}

/// Whether a run-queue entry still stands: nothing else has resumed or ended the coroutine.
#[inline]
pub(super) fn is_due(coroutine: Coroutine, seq: u64) -> bool {
    coroutine.block.park_seq.get() == seq && coroutine.state() != State::Finished
}
