//! What waiting for each other costs: the wait queue, and what is built on it.
//!
//! `cargo bench -p rgevent-runtime --bench wait_queue`

use std::rc::Rc;

use divan::{Bencher, counter::ItemsCount};
use rgevent_runtime::{
    hub::Hub,
    spawn,
    sync::{Event, Queue, Semaphore, WaitQueue},
    yield_now,
};

fn main() {
    divan::main();
}

/// A waiter parked, woken and parked again.
#[divan::bench]
fn park_and_wake(bencher: Bencher<'_, '_>) {
    let hub = Hub::current();
    let line = Rc::new(WaitQueue::new());
    let waiter = spawn({
        let line = Rc::clone(&line);
        move || while line.wait(hub, None, || ()).is_ok() {}
    });
    yield_now().expect("nobody kills");
    bencher.bench_local(|| {
        assert!(line.wake_one());
        yield_now().expect("nobody kills");
    });
    waiter.kill();
    waiter.join().expect("joined").expect("no panic");
}

/// One event that wakes so many, each spawned for it.
#[divan::bench(args = [1, 1000])]
fn event_fan_out(bencher: Bencher<'_, '_>, waiters: usize) {
    let hub = Hub::current();
    bencher.counter(ItemsCount::new(waiters)).bench_local(|| {
        let event = Rc::new(Event::new());
        let handles: Vec<_> = (0..waiters)
            .map(|_| {
                let event = Rc::clone(&event);
                spawn(move || event.wait(hub, None))
            })
            .collect();
        yield_now().expect("nobody kills");
        event.set();
        for handle in handles {
            let waited = handle.join().expect("joined").expect("no panic");
            waited.expect("nobody kills");
        }
    });
}

/// A free semaphore.
#[divan::bench]
fn semaphore_free(bencher: Bencher<'_, '_>) {
    let hub = Hub::current();
    let semaphore = Semaphore::new(1);
    bencher.bench_local(|| {
        semaphore.acquire(hub, None).expect("nobody kills");
        semaphore.release();
    });
}

/// An item through a queue that always has room, without a wait.
#[divan::bench]
fn queue_without_waiting(bencher: Bencher<'_, '_>) {
    let hub = Hub::current();
    let queue = Queue::unbounded();
    bencher.bench_local(|| {
        queue.try_put(1).expect("there is room");
        queue.get(hub, None).expect("nobody kills")
    });
}

/// An item through a queue of one: a wait on either side.
#[divan::bench]
fn queue_of_one(bencher: Bencher<'_, '_>) {
    let hub = Hub::current();
    let queue = Rc::new(Queue::bounded(1));
    let putter = spawn({
        let queue = Rc::clone(&queue);
        move || while queue.put(1, hub, None).is_ok() {}
    });
    bencher.bench_local(|| queue.get(hub, None).expect("nobody kills"));
    putter.kill();
    putter.join().expect("joined").expect("no panic");
}
