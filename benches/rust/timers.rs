//! What timers cost: those that fire, and the many that never do.
//!
//! `cargo bench -p rgevent-runtime --bench timers`

use std::{rc::Rc, time::Duration};

use divan::{Bencher, counter::ItemsCount};
use rgevent_runtime::{
    hub::{Hub, ManualClock},
    sleep, spawn,
    sync::WaitQueue,
    yield_now,
};

fn main() {
    divan::main();
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A hub whose time costs nothing to read, the same for all benches of this process.
fn hub() -> &'static Hub {
    match rgevent_runtime::coroutine::Thread::current_or_new().try_hub() {
        Some(hub) => hub,
        None => Hub::with_clock(ManualClock::new()),
    }
}

/// Coroutines that all sleep for different times.
#[divan::bench(args = [100, 10_000], sample_count = 20)]
fn sleeps(bencher: Bencher<'_, '_>, sleepers: u64) {
    let hub = hub();
    bencher.counter(ItemsCount::new(sleepers)).bench_local(|| {
        for n in 0..sleepers {
            spawn(move || sleep(ms(n * 7919 % sleepers + 1)));
        }
        hub.advance(ms(sleepers));
    });
}

/// A wait with a timeout that is set anew each time and never hit.
#[divan::bench]
fn timeout_not_hit(bencher: Bencher<'_, '_>) {
    let hub = hub();
    let gate = Rc::new(WaitQueue::new());
    let waiter = spawn({
        let gate = Rc::clone(&gate);
        move || {
            loop {
                let deadline = hub.deadline_after(ms(1000));
                if gate.wait(hub, Some(deadline), || ()).is_err() {
                    return;
                }
            }
        }
    });
    yield_now().expect("nobody kills");
    bencher.bench_local(|| {
        gate.wake_one();
        yield_now().expect("nobody kills");
    });
    waiter.kill();
    waiter.join().expect("joined").expect("no panic");
}

/// A callback timer set and cancelled.
#[divan::bench]
fn set_and_cancel(bencher: Bencher<'_, '_>) {
    let hub = hub();
    bencher.bench_local(|| {
        let id = hub.set_timer(ms(10), (|_| (), std::ptr::null_mut()));
        assert!(hub.cancel_timer(id));
    });
}
