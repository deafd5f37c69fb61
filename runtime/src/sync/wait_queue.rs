//! Coroutines parked on one condition, woken in arrival order.
//!
//! Locks, events and queues are each a few fields plus one of these, so fairness and removal on
//! timeout are argued here and nowhere else.
//!
//! A waiter's place is a ticket: its position in the line since the queue was made. Leaving the
//! line early empties the place in O(1); empty places vanish when they reach either end.
//!
//! Invariant: a waker in the line belongs to a wait that has not returned yet.

use std::{cell::RefCell, collections::VecDeque};

use crate::{
    WaitError,
    hub::{Deadline, Hub, Waker},
};

/// A place in a wait queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

#[derive(Debug, Default)]
struct Line {
    places: VecDeque<Option<Waker>>,
    /// Ticket of the first place.
    first: u64,
    parked: usize,
}

impl Line {
    fn pop_live(&mut self) -> Option<Waker> {
        loop {
            let place = self.places.pop_front()?;
            self.first += 1;
            if let Some(waker) = place {
                self.parked -= 1;
                return Some(waker);
            }
        }
    }

    fn trim(&mut self) {
        while let Some(None) = self.places.front() {
            self.places.pop_front();
            self.first += 1;
        }
        while let Some(None) = self.places.back() {
            self.places.pop_back();
        }
    }
}

/// The line of coroutines waiting for one thing.
#[derive(Debug, Default)]
pub struct WaitQueue {
    line: RefCell<Line>,
}

impl WaitQueue {
    /// An empty line. Allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many are waiting.
    pub fn parked(&self) -> usize {
        self.line.borrow().parked
    }

    /// Whether nobody waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.parked() == 0
    }

    /// Joins the line at its end.
    pub fn link(&self, waker: Waker) -> Ticket {
        let mut line = self.line.borrow_mut();
        line.places.push_back(Some(waker));
        line.parked += 1;
        Ticket(line.first + line.places.len() as u64 - 1)
    }

    /// Leaves the line. False when the place was taken out before, by a wake-up.
    pub fn unlink(&self, ticket: Ticket, waker: Waker) -> bool {
        let mut line = self.line.borrow_mut();
        let Some(index) = ticket.0.checked_sub(line.first) else {
            return false;
        };
        let Some(place) = line.places.get_mut(index as usize) else {
            return false;
        };
        if *place != Some(waker) {
            return false;
        }
        *place = None;
        line.parked -= 1;
        line.trim();
        true
    }

    /// Grants the condition to the first in line. False when nobody could be woken.
    ///
    /// A waiter that is passed over had its wait ended already, and will see that for itself.
    pub fn wake_one(&self) -> bool {
        loop {
            let waker = self.line.borrow_mut().pop_live();
            match waker {
                None => return false,
                Some(waker) if waker.grant() => return true,
                Some(_) => {}
            }
        }
    }

    /// Grants the condition to everyone in line, in order; says how many were woken.
    pub fn wake_all(&self) -> usize {
        let waiting = self.parked();
        (0..waiting).take_while(|_| self.wake_one()).count()
    }

    /// Takes everyone who is not of the calling thread out of the line, for a forked child, where
    /// the other threads do not exist.
    pub fn forget_other_threads(&self) {
        let mut line = self.line.borrow_mut();
        let mut gone = 0;
        for place in &mut line.places {
            if place.is_some_and(|waker| !waker.is_of_this_thread()) {
                *place = None;
                gone += 1;
            }
        }
        line.parked -= gone;
        line.trim();
    }

    /// Parks the running coroutine at the end of the line.
    ///
    /// A wait that was granted succeeds even if its deadline passed in the same moment, so nothing
    /// handed over is ever lost. The one exception is a granted wait that ends by a kill or an
    /// explicit switch: then `give_back` is called, to pass on what was handed over.
    ///
    /// # Errors
    /// As [`Hub::park`].
    #[inline]
    pub fn wait(
        &self,
        hub: &'static Hub,
        deadline: Option<Deadline>,
        give_back: impl FnOnce(),
    ) -> Result<(), WaitError> {
        let waker = hub.prepare();
        let ticket = self.link(waker);
        let outcome = hub.park(waker, deadline);
        if outcome.is_ok() {
            return Ok(());
        }
        if self.unlink(ticket, waker) || !waker.was_granted() {
            return outcome;
        }
        if outcome == Err(WaitError::TimedOut) {
            return Ok(());
        }
        give_back();
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JoinHandle, hub::ManualClock, spawn};
    use proptest::prelude::*;
    use std::{cell::Cell, rc::Rc};

    /// What may happen to a line.
    #[derive(Debug, Clone)]
    enum Step {
        Link,
        Unlink {
            which: usize,
        },
        /// Ends the wait of one in line, who has not run yet and so is still linked.
        Kill {
            which: usize,
        },
        WakeOne,
        WakeAll,
        /// Lets everybody run who was woken or killed.
        Run,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => Just(Step::Link),
            2 => any::<usize>().prop_map(|which| Step::Unlink { which }),
            2 => any::<usize>().prop_map(|which| Step::Kill { which }),
            2 => Just(Step::WakeOne),
            1 => Just(Step::WakeAll),
            2 => Just(Step::Run),
        ];
        prop::collection::vec(step, 1..200)
    }

    /// Somebody in line: the place, the waker and the coroutine that waits.
    struct Waiter {
        place: Rc<Cell<Option<(Ticket, Waker)>>>,
        handle: JoinHandle<()>,
    }

    /// The line, and what a plain list says about it.
    struct Line {
        hub: &'static Hub,
        queue: Rc<WaitQueue>,
        waiters: Vec<Waiter>,
        /// Who is linked, in order, and whether the wait goes on.
        model: VecDeque<(usize, bool)>,
        /// Who was woken by the queue, in order, by the queue and by the model.
        woken: Rc<RefCell<Vec<usize>>>,
        expected: Vec<usize>,
    }

    impl Line {
        fn new() -> Self {
            Self {
                hub: Hub::with_clock(ManualClock::new()),
                queue: Rc::default(),
                waiters: Vec::new(),
                model: VecDeque::new(),
                woken: Rc::default(),
                expected: Vec::new(),
            }
        }

        fn link(&mut self) {
            let me = self.waiters.len();
            let place = Rc::new(Cell::new(None));
            let (hub, queue) = (self.hub, Rc::clone(&self.queue));
            let (ours, woken) = (Rc::clone(&place), Rc::clone(&self.woken));
            let handle = spawn(move || {
                let waker = hub.prepare();
                let ticket = queue.link(waker);
                ours.set(Some((ticket, waker)));
                if hub.park(waker, None).is_ok() {
                    assert!(waker.was_granted());
                    assert!(!queue.unlink(ticket, waker), "taken out by the wake-up");
                    woken.borrow_mut().push(me);
                } else {
                    assert!(!waker.was_granted());
                    queue.unlink(ticket, waker);
                }
            });
            self.waiters.push(Waiter { place, handle });
            self.run();
            self.model.push_back((me, true));
        }

        fn unlink(&mut self, which: usize) {
            let who = which % self.waiters.len();
            let linked = self.model.iter().position(|&(other, _)| other == who);
            let (ticket, waker) = self.waiters[who].place.get().expect("it has run");
            assert_eq!(self.queue.unlink(ticket, waker), linked.is_some());
            assert!(!self.queue.unlink(ticket, waker), "twice");
            if let Some(index) = linked {
                self.model.remove(index);
            }
        }

        fn kill(&mut self, which: usize) {
            let who = which % self.waiters.len();
            self.waiters[who].handle.kill();
            if let Some(entry) = self.model.iter_mut().find(|entry| entry.0 == who) {
                entry.1 = false;
            }
        }

        fn model_wake_one(&mut self) -> bool {
            while let Some((who, waits)) = self.model.pop_front() {
                if waits {
                    self.expected.push(who);
                    return true;
                }
            }
            false
        }

        fn run(&mut self) {
            self.hub.run_until_idle();
            self.model.retain(|&(_, waits)| waits);
            assert_eq!(*self.woken.borrow(), self.expected);
        }

        fn step(&mut self, step: &Step) {
            match *step {
                Step::Link => self.link(),
                Step::Unlink { which } if !self.waiters.is_empty() => self.unlink(which),
                Step::Kill { which } if !self.waiters.is_empty() => self.kill(which),
                Step::Unlink { .. } | Step::Kill { .. } => {}
                Step::WakeOne => assert_eq!(self.queue.wake_one(), self.model_wake_one()),
                Step::WakeAll => {
                    let waiting = self.model.iter().filter(|entry| entry.1).count();
                    assert_eq!(self.queue.wake_all(), waiting);
                    while self.model_wake_one() {}
                }
                Step::Run => self.run(),
            }
            assert_eq!(self.queue.parked(), self.model.len());
            assert_eq!(self.queue.is_empty(), self.model.is_empty());
        }
    }

    proptest! {
        /// Whatever happens to it, the line agrees with a plain list: who is in it, who is woken.
        #[test]
        fn the_line_agrees_with_a_plain_list(steps in steps()) {
            let outcome = std::thread::spawn(move || {
                let mut line = Line::new();
                steps.iter().for_each(|step| line.step(step));
                line.run();
            })
            .join();
            prop_assert!(outcome.is_ok());
        }
    }

    #[test]
    fn places_left_early_do_not_pile_up() {
        let hub = Hub::with_clock(ManualClock::new());
        let queue = Rc::new(WaitQueue::new());
        let wait = || {
            let queue = Rc::clone(&queue);
            let handle = spawn(move || queue.wait(hub, None, || ()));
            hub.run_until_idle();
            handle
        };
        let stays = wait();
        for _ in 0..1000 {
            wait().kill();
            hub.run_until_idle();
        }
        assert_eq!(queue.line.borrow().places.len(), 1);
        assert!(queue.wake_one());
        assert_eq!(stays.join().expect("joined").expect("no panic"), Ok(()));
    }

    /// A waker of a coroutine that waits on a native thread which has ended since.
    fn waker_of_an_ended_thread() -> Waker {
        let thread = std::thread::spawn(|| {
            let waiting = Rc::new(Cell::new(None));
            let theirs = Rc::clone(&waiting);
            let hub = Hub::with_clock(ManualClock::new());
            spawn(move || {
                let waker = hub.prepare();
                theirs.set(Some(waker));
                hub.park(waker, None)
            });
            hub.run_until_idle();
            waiting.get().expect("it waits")
        });
        thread.join().expect("no panic")
    }

    #[test]
    fn nothing_is_granted_to_a_thread_that_has_ended() {
        let hub = Hub::with_clock(ManualClock::new());
        let queue = Rc::new(WaitQueue::new());
        queue.link(waker_of_an_ended_thread());
        let ours = Rc::clone(&queue);
        let waiter = spawn(move || ours.wait(hub, None, || ()));
        hub.run_until_idle();
        // The next native thread goes on with what the ended one has left.
        let leave = std::sync::Arc::new(std::sync::Barrier::new(2));
        let theirs = std::sync::Arc::clone(&leave);
        let successor = std::thread::spawn(move || {
            spawn(|| ()).join().expect("joined").expect("no panic");
            theirs.wait();
            theirs.wait();
        });
        leave.wait();
        assert!(queue.wake_one());
        assert!(!queue.wake_one());
        leave.wait();
        successor.join().expect("no panic");
        assert_eq!(waiter.join().expect("joined").expect("no panic"), Ok(()));
    }

    #[test]
    fn those_of_other_threads_can_be_forgotten() {
        let hub = Hub::with_clock(ManualClock::new());
        let queue = Rc::new(WaitQueue::new());
        let [first, second] = [(); 2].map(|()| {
            let queue = Rc::clone(&queue);
            spawn(move || queue.wait(hub, None, || ()))
        });
        hub.run_until_idle();
        let foreign = std::thread::spawn(|| {
            let hub = Hub::current();
            let waker = hub.prepare();
            hub.abort_park();
            waker
        });
        queue.link(foreign.join().expect("no panic"));
        assert_eq!(queue.parked(), 3);
        queue.forget_other_threads();
        assert_eq!(queue.parked(), 2);
        assert_eq!(queue.wake_all(), 2);
        for waiter in [first, second] {
            assert_eq!(waiter.join().expect("joined").expect("no panic"), Ok(()));
        }
    }
}
