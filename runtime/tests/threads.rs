//! Native threads that come and go, and what their successors find.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rgevent_runtime::{
    JoinHandle, WaitError,
    coroutine::Thread,
    hub::{Hub, ManualClock},
    sleep, spawn,
    sync::WaitQueue,
    yield_now,
};

/// Threads are recycled in the order in which they end, so the tests here take turns, and use
/// coroutines only on threads that they have ended before the next one begins.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn on_a_thread<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(body).join().expect("the body does not panic")
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn a_thread_that_ends_with_suspended_coroutines_is_used_again() {
    let _alone = alone();
    let addresses: Vec<usize> = (0..20)
        .map(|_| {
            on_a_thread(|| {
                for _ in 0..50 {
                    spawn(|| WaitQueue::new().wait(Hub::current(), None, || ()));
                }
                yield_now().expect("nobody kills");
                let thread = Thread::try_current().expect("it was made by spawn");
                assert!(thread.has_suspended());
                assert!(thread.stack_info().slots >= 50);
                std::ptr::from_ref(thread) as usize
            })
        })
        .collect();
    assert!(
        addresses.iter().all(|address| *address == addresses[0]),
        "each thread ended before the next one began"
    );
}

#[test]
fn the_stacks_of_an_ended_thread_are_given_back() {
    let _alone = alone();
    for _ in 0..5 {
        on_a_thread(|| {
            let thread = Thread::current_or_new();
            assert_eq!(thread.stack_info().slots, 0, "nothing of the predecessor");
            spawn(|| WaitQueue::new().wait(Hub::current(), None, || ()));
            yield_now().expect("nobody kills");
        });
    }
}

#[test]
fn timers_of_an_ended_thread_are_forgotten() {
    let _alone = alone();
    on_a_thread(|| {
        let hub = Hub::with_clock(ManualClock::new());
        let wait = move || {
            let early = spawn(yield_now);
            early.wait(Some(hub.deadline_after(ms(1))))
        };
        // Woken early, so that timers for 1 ms are left behind.
        wait().expect("it ends at once");
        let waiter = spawn(wait);
        assert_eq!(waiter.join().expect("joined").expect("no panic"), Ok(()));
    });
    on_a_thread(|| {
        let hub = Hub::with_clock(ManualClock::new());
        let sleepers: Vec<_> = (0..4).map(|_| spawn(|| sleep(ms(2)))).collect();
        hub.advance(ms(3));
        assert!(sleepers.iter().all(JoinHandle::is_finished));
        let past = Some(hub.deadline_after(ms(0)));
        let outcome = WaitQueue::new().wait(hub, past, || ());
        assert_eq!(outcome, Err(WaitError::TimedOut));
    });
}

#[test]
fn wakers_of_an_ended_thread_wake_nobody() {
    let _alone = alone();
    let wakers = on_a_thread(|| {
        let hub = Hub::current();
        let wakers = Arc::new(Mutex::new(Vec::new()));
        for _ in 0..10 {
            let wakers = Arc::clone(&wakers);
            spawn(move || {
                let waker = hub.prepare();
                wakers.lock().expect("not poisoned").push(waker);
                hub.park(waker, None)
            });
        }
        yield_now().expect("nobody kills");
        std::mem::take(&mut *wakers.lock().expect("not poisoned"))
    });
    assert_eq!(wakers.len(), 10);
    on_a_thread(move || {
        let hub = Hub::current();
        let woken = spawn(move || WaitQueue::new().wait(hub, None, || ()));
        yield_now().expect("nobody kills");
        assert!(wakers.iter().all(|waker| !waker.wake()), "all are stale");
        yield_now().expect("nobody kills");
        assert!(!woken.is_finished());
    });
}

#[test]
fn a_post_to_an_ended_thread_is_dropped() {
    let _alone = alone();
    let target: &'static Thread = on_a_thread(Thread::current_or_new);
    assert!(!target.is_alive());
    let dropped = Arc::new(());
    let kept = Arc::clone(&dropped);
    Hub::post(target, Box::new(move || drop(kept)));
    assert_eq!(Arc::strong_count(&dropped), 1);
}

#[test]
fn a_thread_is_unknown_to_the_coroutines_of_another() {
    let _alone = alone();
    on_a_thread(|| {
        assert!(Thread::try_current().is_none());
        let here = Thread::current_or_new();
        let there = std::ptr::from_ref(here) as usize;
        assert!(on_a_thread(|| Thread::try_current().is_none()));
        assert!(on_a_thread(move || {
            std::ptr::from_ref(Thread::current_or_new()) as usize != there
        }));
        assert!(here.is_alive() && here.is_current());
    });
}

#[test]
fn threads_work_side_by_side() {
    let _alone = alone();
    let total = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let total = Arc::clone(&total);
            thread::spawn(move || {
                let workers: Vec<_> = (0..100)
                    .map(|_| {
                        let total = Arc::clone(&total);
                        spawn(move || {
                            for _ in 0..10 {
                                total.fetch_add(1, Ordering::Relaxed);
                                yield_now().expect("nobody kills");
                            }
                        })
                    })
                    .collect();
                for worker in workers {
                    worker.join().expect("joined").expect("no panic");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    assert_eq!(total.load(Ordering::Relaxed), 8000);
}
