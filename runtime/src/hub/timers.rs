//! Timers: a heap of times, with entries that go stale instead of being removed.
//!
//! A timer that is moved later keeps its old entry: when that comes up too early, the owner says
//! so and it is pushed again (*lazy re-arm*). So an I/O timeout that is set anew for every read
//! costs a store, not a heap operation. Cancelling is a store too; the heap is rebuilt when more
//! than half of it is stale.
//!
//! Equal times fire in the order in which they were set.

use std::{cmp::Reverse, collections::BinaryHeap};

/// A slot of the callback timers, with its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<T> {
    pub(super) at_ns: u64,
    pub(super) seq: u64,
    pub(super) target: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at_ns, self.seq) == (other.at_ns, other.seq)
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ns, self.seq).cmp(&(other.at_ns, other.seq))
    }
}

/// Heaps smaller than this are not worth rebuilding.
const REBUILD_MIN: usize = 64;

/// The heap. The owner of each target knows which entry number is its live one.
#[derive(Debug)]
pub(super) struct Timers<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    next_seq: u64,
    /// Entries known to be stale.
    stale: usize,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            next_seq: 1,
            stale: 0,
        }
    }
}

impl<T> Timers<T> {
    /// A number for a new timer; smaller numbers fire first among equal times.
    #[inline]
    pub(super) fn number(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    #[inline]
    pub(super) fn push(&mut self, at_ns: u64, seq: u64, target: T) {
        self.heap.push(Reverse(Entry { at_ns, seq, target }));
    }

    /// When the next entry, live or stale, is due.
    #[inline]
    pub(super) fn next_ns(&self) -> Option<u64> {
        self.heap.peek().map(|entry| entry.0.at_ns)
    }

    /// Takes the next entry that is due at `now_ns`.
    #[inline]
    pub(super) fn pop_due(&mut self, now_ns: u64) -> Option<Entry<T>> {
        if self.next_ns()? > now_ns {
            return None;
        }
        self.heap.pop().map(|entry| entry.0)
    }

    /// Says that one entry went stale; rebuilds the heap with `is_live` when most of it is.
    pub(super) fn note_stale(&mut self, is_live: impl Fn(&Entry<T>) -> bool) {
        self.stale += 1;
        if self.heap.len() >= REBUILD_MIN && self.stale * 2 > self.heap.len() {
            self.heap.retain(|entry| is_live(&entry.0));
            self.stale = 0;
        }
    }

    /// Says that a stale entry came up and is gone.
    #[inline]
    pub(super) fn forget_stale(&mut self) {
        self.stale = self.stale.saturating_sub(1);
    }

    /// Drops stale entries at the front, so that `next_ns` is about a live one.
    pub(super) fn drop_stale_front(&mut self, is_live: impl Fn(&Entry<T>) -> bool) {
        while let Some(entry) = self.heap.peek() {
            if is_live(&entry.0) {
                return;
            }
            self.heap.pop();
            self.forget_stale();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(super) fn clear(&mut self) {
        self.heap.clear();
        self.stale = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hub::{Hub, ManualClock},
        spawn,
        sync::WaitQueue,
    };
    use proptest::prelude::*;
    use std::{cell::RefCell, rc::Rc, time::Duration};

    fn ns(n: u64) -> Duration {
        Duration::from_nanos(n)
    }

    /// What may be done to a set of timers.
    #[derive(Debug, Clone)]
    enum Step {
        Set { delay_ns: u64 },
        Cancel { which: usize },
        MoveLater { which: usize, by_ns: u64 },
        Pass { time_ns: u64 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..50u64).prop_map(|delay_ns| Step::Set { delay_ns }),
            2 => any::<usize>().prop_map(|which| Step::Cancel { which }),
            2 => (any::<usize>(), 0..30u64)
                .prop_map(|(which, by_ns)| Step::MoveLater { which, by_ns }),
            1 => (0..20u64).prop_map(|time_ns| Step::Pass { time_ns }),
        ];
        prop::collection::vec(step, 1..400)
    }

    /// A timer as its owner knows it: until when, and the number of its live entry.
    #[derive(Debug, Clone, Copy)]
    struct Owned {
        until_ns: u64,
        seq: u64,
    }

    proptest! {
        /// The heap with its stale entries fires what a plain sorted list would, in its order.
        #[test]
        fn the_heap_agrees_with_a_sorted_list(steps in steps()) {
            let mut timers: Timers<usize> = Timers::default();
            let mut owned: Vec<Option<Owned>> = Vec::new();
            // The model: time, number and owner of every live timer.
            let mut model: Vec<(u64, u64, usize)> = Vec::new();
            let mut now_ns = 0;
            for step in steps {
                let live: Vec<usize> = (0..owned.len()).filter(|&i| owned[i].is_some()).collect();
                match step {
                    Step::Set { delay_ns } => {
                        let (until_ns, seq) = (now_ns + delay_ns, timers.number());
                        timers.push(until_ns, seq, owned.len());
                        model.push((until_ns, seq, owned.len()));
                        owned.push(Some(Owned { until_ns, seq }));
                    }
                    Step::Cancel { which } if !live.is_empty() => {
                        let owner = live[which % live.len()];
                        owned[owner] = None;
                        let snapshot = owned.clone();
                        timers.note_stale(|entry| {
                            snapshot[entry.target].is_some_and(|own| own.seq == entry.seq)
                        });
                        model.retain(|&(_, _, of)| of != owner);
                    }
                    Step::MoveLater { which, by_ns } if !live.is_empty() => {
                        // The entry stays where it is; only its owner knows.
                        let owner = live[which % live.len()];
                        let own = owned[owner].as_mut().expect("it is live");
                        own.until_ns += by_ns;
                        let entry = model.iter_mut().find(|entry| entry.2 == owner);
                        entry.expect("the model has every live timer").0 += by_ns;
                    }
                    Step::Cancel { .. } | Step::MoveLater { .. } => {}
                    Step::Pass { time_ns } => now_ns += time_ns,
                }
                let mut fired = Vec::new();
                while let Some(entry) = timers.pop_due(now_ns) {
                    match owned[entry.target] {
                        Some(own) if own.seq == entry.seq && own.until_ns > entry.at_ns => {
                            timers.push(own.until_ns, entry.seq, entry.target);
                        }
                        Some(own) if own.seq == entry.seq => {
                            owned[entry.target] = None;
                            fired.push(entry.target);
                        }
                        _ => timers.forget_stale(),
                    }
                }
                model.sort_unstable();
                let due = model.partition_point(|&(at_ns, ..)| at_ns <= now_ns);
                let expected: Vec<usize> = model.drain(..due).map(|(.., owner)| owner).collect();
                prop_assert_eq!(fired, expected);
                let snapshot = owned.clone();
                timers.drop_stale_front(|entry| {
                    snapshot[entry.target].is_some_and(|own| own.seq == entry.seq)
                });
                prop_assert_eq!(timers.next_ns().is_none(), model.is_empty());
            }
        }

        /// Callback timers of a hub: set and cancelled at will, each fires once, in order.
        #[test]
        fn callback_timers_fire_once_in_order(
            timers in prop::collection::vec((0..40u64, any::<bool>()), 1..120),
        ) {
            thread_local! {
                static FIRED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
            }
            fn note(word: *mut ()) {
                FIRED.with_borrow_mut(|fired| fired.push(word as usize));
            }
            let (fired, late_cancels) = on_a_thread(move || {
                let hub = Hub::with_clock(ManualClock::new());
                let ids: Vec<_> = timers
                    .iter()
                    .enumerate()
                    .map(|(n, &(delay, cancel))| {
                        (hub.set_timer(ns(delay), (note, n as *mut ())), cancel)
                    })
                    .collect();
                for &(id, cancel) in &ids {
                    if cancel {
                        assert!(hub.cancel_timer(id));
                        assert!(!hub.cancel_timer(id), "cancelled once already");
                    }
                }
                hub.advance(ns(100));
                let late = ids.iter().filter(|(id, _)| hub.cancel_timer(*id)).count();
                let mut expected: Vec<(u64, usize)> = timers
                    .iter()
                    .enumerate()
                    .filter(|(_, (_, cancel))| !cancel)
                    .map(|(n, &(delay, _))| (delay, n))
                    .collect();
                expected.sort_unstable();
                let expected: Vec<usize> = expected.into_iter().map(|(_, n)| n).collect();
                let fired = FIRED.take();
                ((fired, expected), late)
            });
            prop_assert_eq!(fired.0, fired.1);
            prop_assert_eq!(late_cancels, 0);
        }

        /// Coroutines whose waits end early leave entries behind; the order of what does time out
        /// is that of the times, and of setting among equal ones, all the same.
        #[test]
        fn timeouts_fire_in_the_order_of_their_deadlines(
            rounds in prop::collection::vec(
                prop::collection::vec((1..6u64, any::<bool>()), 1..8),
                1..8,
            ),
        ) {
            let (log, expected) = on_a_thread(move || timeouts(rounds));
            prop_assert_eq!(log, expected);
        }
    }

    /// Runs `body` on a native thread of its own, which has a hub of its own.
    fn on_a_thread<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(body)
            .join()
            .expect("the body does not panic")
    }

    /// Each round every coroutine waits so long, or seven times as long and is woken before. Says
    /// in which order the waits timed out, and in which they should have.
    fn timeouts(rounds: Vec<Vec<(u64, bool)>>) -> (Vec<usize>, Vec<usize>) {
        let hub = Hub::with_clock(ManualClock::new());
        let width = rounds.iter().map(Vec::len).max().unwrap_or(0);
        let gates: Vec<_> = (0..width).map(|_| Rc::new(WaitQueue::new())).collect();
        let log = Rc::new(RefCell::new(Vec::new()));
        // Who is to time out in the current round, in the order of setting.
        let set = Rc::new(RefCell::new(Vec::new()));
        let plan = Rc::new(RefCell::new(Vec::new()));
        let start = Rc::new(WaitQueue::new());
        for (who, gate) in gates.iter().enumerate() {
            let (gate, log, set) = (Rc::clone(gate), Rc::clone(&log), Rc::clone(&set));
            let (plan, start) = (Rc::clone(&plan), Rc::clone(&start));
            spawn(move || {
                loop {
                    start.wait(hub, None, || ()).expect("nobody kills");
                    let planned: Option<(u64, bool)> = plan.borrow().get(who).copied();
                    let delay_ns = match planned {
                        None => continue,
                        Some((delay_ns, true)) => 7 * delay_ns,
                        Some((delay_ns, false)) => {
                            set.borrow_mut().push((delay_ns, who));
                            delay_ns
                        }
                    };
                    let deadline = hub.deadline_after(ns(delay_ns));
                    if gate.wait(hub, Some(deadline), || ()).is_err() {
                        log.borrow_mut().push(who);
                    }
                }
            });
        }
        hub.run_until_idle();
        let mut expected = Vec::new();
        for round in rounds {
            *plan.borrow_mut() = round.clone();
            start.wake_all();
            hub.run_until_idle();
            for (who, _) in round.iter().enumerate().filter(|(_, (_, woken))| *woken) {
                assert!(gates[who].wake_one());
            }
            let mut due = set.take();
            due.sort_by_key(|&(delay_ns, _)| delay_ns);
            expected.extend(due.into_iter().map(|(_, who)| who));
            hub.advance(ns(6));
        }
        let log = log.take();
        (log, expected)
    }

    #[test]
    fn most_of_a_heap_being_stale_rebuilds_it() {
        let mut timers: Timers<usize> = Timers::default();
        for n in 0..1000 {
            let seq = timers.number();
            timers.push(n, seq, n as usize);
        }
        for cancelled in 0..990 {
            timers.note_stale(|entry| entry.target > cancelled);
        }
        assert!(timers.len() < 2 * REBUILD_MIN, "{} entries", timers.len());
        let left: Vec<usize> = std::iter::from_fn(|| timers.pop_due(u64::MAX))
            .map(|entry| entry.target)
            .filter(|target| *target >= 990)
            .collect();
        assert_eq!(left, (990..1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_timeout_set_anew_for_every_wait_costs_one_entry() {
        let hub = Hub::with_clock(ManualClock::new());
        let gate = Rc::new(WaitQueue::new());
        let waiter = spawn({
            let gate = Rc::clone(&gate);
            move || {
                for _ in 0..100 {
                    let deadline = Hub::current().deadline_after(ns(1000));
                    gate.wait(Hub::current(), Some(deadline), || ())
                        .expect("woken in time");
                }
            }
        });
        for _ in 0..100 {
            hub.advance(ns(1));
            gate.wake_one();
        }
        waiter.join().expect("joined").expect("no panic");
        assert_eq!(hub.timers.borrow().len(), 1);
    }
}
