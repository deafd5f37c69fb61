//! One turn of the loop: run queue, due timers, inbox, poll.
//!
//! Every step is bounded, so that no kind of work can keep another waiting: I/O is looked at after
//! so many resumed coroutines or so much time, even when the run queue never empties.

use std::{cell::Cell, io};

use super::{
    Hub, TimerTarget, clock::NEVER_NS, inbox::Message, park::is_due, poller::INBOX_KEY,
    run_queue::Entry,
};
use crate::{
    WaitError,
    coroutine::{Signal, State, switch},
};

/// Coroutines resumed, callbacks called in one tick.
const RESUMES_PER_TICK_MAX: u32 = 64;
/// The clock is read after this many resumes, a power of two.
const RESUMES_PER_CLOCK_LOOK: u32 = 8;
/// A tick that has run coroutines for this long goes on to poll.
const TICK_NS_MAX: u64 = 100_000;
/// Timers fired in one tick.
const TIMERS_PER_TICK_MAX: u32 = 4096;
/// Messages handled in one tick.
const MESSAGES_PER_TICK_MAX: u32 = 1024;

/// What is left of the current tick.
#[derive(Debug, Default)]
pub(super) struct TickState {
    left: Cell<u32>,
    began_ns: Cell<u64>,
}

impl TickState {
    fn begin(&self, now_ns: u64) {
        self.left.set(RESUMES_PER_TICK_MAX);
        self.began_ns.set(now_ns);
    }

    pub(super) fn reset(&self) {
        self.left.set(0);
    }

    /// Whether one more coroutine may run before the hub looks around; counts it.
    #[inline]
    pub(super) fn may_hand_over(&self, now_ns: impl FnOnce() -> u64) -> bool {
        let left = self.left.get();
        if left == 0 {
            return false;
        }
        if left.is_multiple_of(RESUMES_PER_CLOCK_LOOK)
            && now_ns().saturating_sub(self.began_ns.get()) > TICK_NS_MAX
        {
            self.left.set(0);
            return false;
        }
        self.left.set(left - 1);
        true
    }
}

impl Hub {
    /// The loop. Called once, on the hub's coroutine.
    pub fn run(&'static self) -> ! {
        debug_assert!(self.thread.current() == self.coroutine);
        loop {
            self.run_ready();
            self.fire_timers();
            if self.thread.inbox.has_mail() {
                self.read_inbox();
            }
            self.poll();
        }
    }

    fn run_ready(&'static self) {
        self.tick.begin(self.now_ns());
        while self.tick.may_hand_over(|| self.now_ns()) {
            match self.run_queue.pop() {
                None => return,
                Some(Entry::Call((function, word))) => function(word),
                Some(Entry::Resume(coroutine, seq)) => {
                    if is_due(coroutine, seq)
                        && (coroutine.state() == State::Started || self.start(coroutine))
                    {
                        let signal = switch(self.thread, coroutine, Signal::Wake);
                        self.host.resumed(signal);
                    }
                }
            }
        }
    }

    fn fire_timers(&'static self) {
        if self.timers.borrow().next_ns().is_none() {
            return;
        }
        let now_ns = self.now_ns();
        for _ in 0..TIMERS_PER_TICK_MAX {
            let Some(entry) = self.timers.borrow_mut().pop_due(now_ns) else {
                return;
            };
            if !self.timer_is_live(&entry) {
                self.timers.borrow_mut().forget_stale();
                continue;
            }
            match entry.target {
                TimerTarget::Call(id) => {
                    if let Some((function, word)) = self.free_timer_slot(id) {
                        function(word);
                    }
                }
                TimerTarget::Park(coroutine) => {
                    let block = coroutine.block;
                    let deadline_ns = block.deadline_ns.get();
                    if !block.pending.get() || deadline_ns == NEVER_NS {
                        block.timer_ns.set(NEVER_NS);
                        block.timer_seq.set(0);
                    } else if block.deadline_seq.get() != entry.seq {
                        // Set anew while the entry waited: put it where it belongs.
                        let seq = block.deadline_seq.get();
                        block.timer_ns.set(deadline_ns);
                        block.timer_seq.set(seq);
                        self.timers
                            .borrow_mut()
                            .push(deadline_ns, seq, entry.target);
                    } else {
                        block.timer_ns.set(NEVER_NS);
                        block.timer_seq.set(0);
                        self.end_park(coroutine, WaitError::TimedOut);
                    }
                }
            }
        }
    }

    fn read_inbox(&'static self) {
        let inbox = &self.thread.inbox;
        inbox.begin();
        for _ in 0..MESSAGES_PER_TICK_MAX {
            match inbox.take() {
                None => return,
                Some(Message::Wake(waker)) => {
                    waker.wake_here();
                }
                Some(Message::Call(function)) => function(),
            }
        }
        inbox.mark();
    }

    fn poll(&'static self) {
        let timeout_ns = self.poll_timeout_ns();
        if timeout_ns == Some(0) && !self.sources.borrow().has_waiters() {
            return;
        }
        if timeout_ns.is_none() && self.is_deserted() {
            if let Some(waker) = self.idle.take() {
                waker.wake();
            } else {
                self.give_up();
            }
            return;
        }
        let sleeps = timeout_ns != Some(0);
        if sleeps {
            self.thread.stacks_idle(|| self.now_ns());
            self.host.before_poll();
        }
        let result = match &mut *self.poller.borrow_mut() {
            Some(poller) => poller.wait(timeout_ns),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        if sleeps {
            self.host.after_poll();
        }
        match result {
            Ok(()) => self.dispatch(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.host.interrupted(),
            Err(error) => panic!("the hub cannot wait for events: {error}"),
        }
        if let Some(waker) = self.idle.get()
            && self.run_queue.is_empty()
            && timeout_ns == Some(0)
        {
            self.idle.set(None);
            waker.wake();
        }
    }

    /// How long the poll may sleep: None is without limit.
    fn poll_timeout_ns(&self) -> Option<u64> {
        if !self.run_queue.is_empty() || self.thread.inbox.has_mail() {
            return Some(0);
        }
        let mut timers = self.timers.borrow_mut();
        timers.drop_stale_front(|entry| self.timer_is_live(entry));
        let next_ns = timers.next_ns();
        drop(timers);
        if self.clock.is_manual() {
            // Time stands still: only I/O can make something ready.
            let due = next_ns.is_some_and(|at| at <= self.now_ns());
            return (due || (self.idle.get().is_some() && self.sources.borrow().has_waiters()))
                .then_some(0);
        }
        next_ns.map(|at| at.saturating_sub(self.now_ns()))
    }

    /// Nothing here can ever become ready.
    fn is_deserted(&self) -> bool {
        !self.sources.borrow().has_waiters()
            && self.outside.get() == 0
            && !self.host.expects_outside_wakeup()
    }

    /// Wakes whoever waits for the events of the last poll.
    fn dispatch(&self) {
        let poller = self.poller.borrow();
        let Some(poller) = poller.as_ref() else {
            return;
        };
        let mut sources = self.sources.borrow_mut();
        for ready in poller.events() {
            if ready.key != INBOX_KEY {
                sources.wake(poller, ready);
            }
        }
    }
}
