//! The hub: one event loop per native thread, run by a coroutine of its own.
//!
//! A coroutine that has to wait *parks*: it takes a [`Waker`], leaves it where the event will be
//! noticed, and switches away, straight to the next ready coroutine when there is one, else to the
//! hub. The hub runs a tick (see `tick.rs`) whenever control reaches it: run queue, due timers, inbox, poll.
//!
//! Invariants:
//! * The hub never waits: a callback that tries gets [`WaitError::InHub`].
//! * Nothing of the hub is borrowed while any coroutine runs.
//! * Every way out of a park disarms it: the park number moves on, so late wakers are stale.

mod clock;
mod inbox;
mod park;
mod poller;
mod run_queue;
mod sources;
mod tick;
mod timers;
mod waker;

use std::{
    cell::{Cell, RefCell},
    fmt, io,
    time::Duration,
};

pub(crate) use inbox::Inbox;

pub use clock::{Clock, ManualClock};
pub use park::Deadline;
pub use poller::Interest;
pub use run_queue::Callback;
pub use sources::{SourceId, WaitFdError};
pub use timers::TimerId;
pub use waker::Waker;

use crate::{
    WaitError,
    coroutine::{Coroutine, Signal, Thread, switch},
    host::{Host, NoHost},
};
use inbox::Message;
use poller::Poller;
use run_queue::RunQueue;
use sources::Sources;
use tick::TickState;
use timers::Timers;

/// What a timer is for.
#[derive(Debug, Clone, Copy)]
enum TimerTarget {
    Park(Coroutine),
    Call(TimerId),
}

/// A callback timer's slot.
#[derive(Debug, Clone, Copy)]
struct TimerSlot {
    generation: u32,
    /// Number of the live heap entry; 0 when the slot is free.
    seq: u64,
    at_ns: u64,
    callback: Callback,
}

/// What a hub is made of, where the default does not fit.
pub struct HubOptions {
    /// Where it reads the time.
    pub clock: Clock,
    /// What it calls around a poll.
    pub host: Box<dyn Host>,
    /// The coroutine that will call [`Hub::run`]; one is made when there is none.
    pub coroutine: Option<Coroutine>,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            clock: Clock::default(),
            host: Box::new(NoHost),
            coroutine: None,
        }
    }
}

impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("clock", &self.clock)
            .field("coroutine", &self.coroutine)
            .finish_non_exhaustive()
    }
}

/// The event loop of one native thread.
pub struct Hub {
    thread: &'static Thread,
    coroutine: Coroutine,
    clock: Clock,
    host: Box<dyn Host>,
    run_queue: RunQueue,
    timers: RefCell<Timers<TimerTarget>>,
    timer_slots: RefCell<Vec<TimerSlot>>,
    free_timer_slots: RefCell<Vec<u32>>,
    poller: RefCell<Option<Poller>>,
    sources: RefCell<Sources>,
    tick: TickState,
    /// Things under way elsewhere that will post to the inbox, such as blocking calls.
    outside: Cell<usize>,
    /// Woken when nothing is ready; see [`Hub::run_until_idle`].
    idle: Cell<Option<Waker>>,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("ready", &self.run_queue.len())
            .field("timers", &self.timers.borrow().len())
            .field("sources", &self.sources.borrow().len())
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// Makes a thread's hub. The thread must not have one.
    ///
    /// # Errors
    /// When the operating system refuses the poller's fds, or a stack.
    pub fn install(thread: &'static Thread, options: HubOptions) -> io::Result<&'static Hub> {
        assert!(thread.try_hub().is_none(), "a thread has one hub");
        let poller = Poller::new(thread.inbox.wake_fd()?)?;
        let coroutine = match options.coroutine {
            Some(coroutine) => {
                coroutine.hold();
                coroutine
            }
            None => {
                let coroutine = Coroutine::from_body(
                    thread,
                    Box::new(|| {
                        let hub = thread.try_hub();
                        hub.expect("a hub is installed before it runs").run()
                    }),
                );
                coroutine.start().inspect_err(|_| coroutine.release())?;
                coroutine
            }
        };
        let hub: &'static Hub = Box::leak(Box::new(Hub {
            thread,
            coroutine,
            clock: options.clock,
            host: options.host,
            run_queue: RunQueue::default(),
            timers: RefCell::default(),
            timer_slots: RefCell::default(),
            free_timer_slots: RefCell::default(),
            poller: RefCell::new(Some(poller)),
            sources: RefCell::default(),
            tick: TickState::default(),
            outside: Cell::new(0),
            idle: Cell::new(None),
        }));
        *thread.hub.borrow_mut() = Some(hub);
        Ok(hub)
    }

    /// The current thread's hub, made on first use with default options.
    ///
    /// # Panics
    /// When the operating system refuses the poller's fds, or a stack.
    pub fn current() -> &'static Hub {
        Thread::current_or_new()
            .hub()
            .expect("the operating system has fds and memory for an event loop")
    }

    /// A hub on a clock that moves only when told to. The thread must not have a hub yet.
    ///
    /// # Panics
    /// As [`current`](Self::current).
    pub fn with_clock(clock: ManualClock) -> &'static Hub {
        let options = HubOptions {
            clock: Clock::Manual(clock),
            ..HubOptions::default()
        };
        Self::install(Thread::current_or_new(), options)
            .expect("the operating system has fds and memory for an event loop")
    }

    /// The thread it serves.
    #[inline]
    pub fn thread(&self) -> &'static Thread {
        self.thread
    }

    /// The coroutine that runs it.
    #[inline]
    pub fn coroutine(&self) -> Coroutine {
        self.coroutine
    }

    /// The time on the hub's clock, in nanoseconds since an arbitrary moment.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// Queues a callback for the next tick; it runs on the hub's stack.
    #[inline]
    pub fn call_soon(&self, callback: Callback) {
        self.run_queue.push(run_queue::Entry::Call(callback));
    }

    /// Queues an unstarted coroutine. It runs when its turn comes, unless it is started or
    /// [unscheduled](Self::unschedule) before.
    #[inline]
    pub fn schedule(&self, coroutine: Coroutine) {
        let block = coroutine.block;
        block.park_seq.set(block.park_seq.get() + 1);
        self.push_ready(coroutine, block.park_seq.get());
    }

    /// Takes a coroutine's place in the run queue away.
    pub fn unschedule(&self, coroutine: Coroutine) {
        let block = coroutine.block;
        block.park_seq.set(block.park_seq.get() + 1);
    }

    #[inline]
    pub(crate) fn push_ready(&self, coroutine: Coroutine, seq: u64) {
        self.run_queue
            .push(run_queue::Entry::Resume(coroutine, seq));
    }

    /// Runs `function` on the hub of `thread`, from any thread. Dropped if that thread is gone.
    pub fn post(thread: &'static Thread, function: Box<dyn FnOnce() + Send>) {
        if thread.is_alive() {
            thread.inbox.post(Message::Call(function));
        }
    }

    /// Keeps the hub from giving up while something outside is going to wake a coroutine.
    pub fn expect_outside(&self) {
        self.outside.set(self.outside.get() + 1);
    }

    /// Takes one [`expect_outside`](Self::expect_outside) back.
    pub fn outside_done(&self) {
        self.outside.set(self.outside.get() - 1);
    }

    /// Calls `callback` on the hub's stack in `delay`, once.
    pub fn set_timer(&self, delay: Duration, callback: Callback) -> TimerId {
        let at_ns = self.now_ns().saturating_add(clock::duration_ns(delay));
        let mut timers = self.timers.borrow_mut();
        let seq = timers.number();
        let mut slots = self.timer_slots.borrow_mut();
        let index = match self.free_timer_slots.borrow_mut().pop() {
            Some(index) => index,
            None => {
                slots.push(TimerSlot {
                    generation: 0,
                    seq: 0,
                    at_ns: 0,
                    callback,
                });
                u32::try_from(slots.len() - 1).expect("fewer than four billion timers")
            }
        };
        let slot = &mut slots[index as usize];
        slot.seq = seq;
        slot.at_ns = at_ns;
        slot.callback = callback;
        let id = TimerId {
            index,
            generation: slot.generation,
        };
        timers.push(at_ns, seq, TimerTarget::Call(id));
        id
    }

    /// Cancels a timer. False when it has fired or was cancelled before.
    pub fn cancel_timer(&self, id: TimerId) -> bool {
        if self.free_timer_slot(id).is_none() {
            return false;
        }
        self.timers
            .borrow_mut()
            .note_stale(|entry| self.timer_is_live(entry));
        true
    }

    /// Empties a timer's slot and says what it was to call.
    fn free_timer_slot(&self, id: TimerId) -> Option<Callback> {
        let mut slots = self.timer_slots.borrow_mut();
        let slot = slots.get_mut(id.index as usize)?;
        if slot.generation != id.generation || slot.seq == 0 {
            return None;
        }
        slot.generation = slot.generation.wrapping_add(1);
        slot.seq = 0;
        self.free_timer_slots.borrow_mut().push(id.index);
        Some(slot.callback)
    }

    /// Whether a heap entry is the one its owner waits for.
    fn timer_is_live(&self, entry: &timers::Entry<TimerTarget>) -> bool {
        match entry.target {
            TimerTarget::Park(coroutine) => coroutine.block.timer_seq.get() == entry.seq,
            TimerTarget::Call(id) => self
                .timer_slots
                .borrow()
                .get(id.index as usize)
                .is_some_and(|slot| slot.seq == entry.seq),
        }
    }

    /// Moves a manual clock and runs what becomes due, until nothing is ready.
    ///
    /// # Panics
    /// When the hub is not on a [`ManualClock`].
    pub fn advance(&'static self, by: Duration) {
        let Clock::Manual(clock) = &self.clock else {
            panic!("only a hub on a manual clock can be advanced");
        };
        self.run_until_idle();
        clock.advance(by);
        self.run_until_idle();
    }

    /// Parks the caller until nothing is ready to run.
    pub fn run_until_idle(&'static self) {
        let waker = self.prepare();
        self.idle.set(Some(waker));
        let outcome = self.park(waker, None);
        debug_assert!(outcome.is_ok(), "an idle wait ends by being woken");
    }

    /// Makes a forked child's hub independent of its parent's: the epoll instance would be shared.
    ///
    /// Coroutines stay as they are; what they wait for is registered anew.
    ///
    /// # Errors
    /// When the operating system refuses new fds.
    pub fn reinit_after_fork(&self) -> io::Result<()> {
        let wake_fd = self.thread.inbox.renew()?;
        let poller = Poller::new(wake_fd)?;
        let result = self.sources.borrow_mut().register_again(&poller);
        *self.poller.borrow_mut() = Some(poller);
        self.tick.reset();
        result
    }

    /// Drops what it holds, at the end of its thread.
    pub(crate) fn close(&self) {
        self.run_queue.clear();
        self.timers.borrow_mut().clear();
        self.timer_slots.borrow_mut().clear();
        self.free_timer_slots.borrow_mut().clear();
        *self.sources.borrow_mut() = Sources::default();
        *self.poller.borrow_mut() = None;
        self.idle.set(None);
    }

    /// Tells the main coroutine that its wait would never end.
    fn give_up(&'static self) {
        if self.host.loop_exit() {
            return;
        }
        let main = self.thread.main();
        let block = main.block;
        if block.pending.get() {
            block.pending.set(false);
            block.outcome.set(Some(WaitError::LoopExit));
            switch(self.thread, main, Signal::Wake);
        } else {
            switch(self.thread, main, Signal::LoopExit);
        }
    }
}
