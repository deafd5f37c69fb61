//! What other native threads may do to a hub: post to it and wake its coroutines.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rgevent_runtime::{
    WaitError,
    coroutine::Thread,
    hub::{Hub, ManualClock, Waker},
    spawn,
    sync::WaitQueue,
};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Keeps the hub waiting for other threads, until dropped.
struct Expecting(&'static Hub);

impl Expecting {
    fn new(hub: &'static Hub) -> Self {
        hub.expect_outside();
        Self(hub)
    }
}

impl Drop for Expecting {
    fn drop(&mut self) {
        self.0.outside_done();
    }
}

/// Yields until `done`, for half a minute at most.
fn wait_until(hub: &'static Hub, done: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !done() {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "it takes too long"
        );
        hub.sleep(ms(1)).expect("nobody kills");
    }
}

const SENDERS: usize = 8;
const POSTS: usize = 5000;

#[test]
fn no_post_is_lost() {
    let hub = Hub::current();
    let target: &'static Thread = hub.thread();
    let _expecting = Expecting::new(hub);
    let arrived = Arc::new(AtomicUsize::new(0));
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let arrived = Arc::clone(&arrived);
            thread::spawn(move || {
                for _ in 0..POSTS {
                    let arrived = Arc::clone(&arrived);
                    let count = move || {
                        arrived.fetch_add(1, Ordering::Relaxed);
                    };
                    Hub::post(target, Box::new(count));
                }
            })
        })
        .collect();
    wait_until(hub, || arrived.load(Ordering::Relaxed) == SENDERS * POSTS);
    for sender in senders {
        sender.join().expect("no panic");
    }
}

#[test]
fn posts_of_one_thread_arrive_in_order() {
    let hub = Hub::current();
    let target: &'static Thread = hub.thread();
    let _expecting = Expecting::new(hub);
    let next = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&next);
    let sender = thread::spawn(move || {
        for n in 0..POSTS {
            let next = Arc::clone(&theirs);
            let check = move || assert_eq!(next.fetch_add(1, Ordering::Relaxed), n);
            Hub::post(target, Box::new(check));
        }
    });
    wait_until(hub, || next.load(Ordering::Relaxed) == POSTS);
    sender.join().expect("no panic");
}

#[test]
fn a_post_ends_a_sleep_in_the_kernel() {
    let hub = Hub::current();
    let _expecting = Expecting::new(hub);
    for _ in 0..500 {
        // Parks with nothing else to do: only the other thread can end it.
        let waker = hub.prepare();
        let waking = thread::spawn(move || waker.wake());
        let limit = hub.deadline_after(Duration::from_secs(30));
        assert_eq!(hub.park(waker, Some(limit)), Ok(()));
        assert!(waking.join().expect("no panic"));
    }
}

#[test]
fn wakers_work_from_many_threads_at_once() {
    let hub = Hub::current();
    let _expecting = Expecting::new(hub);
    let barrier = Arc::new(Barrier::new(SENDERS));
    let wakers = Rc::new(Cell::new(Vec::<Waker>::new()));
    let sleepers: Vec<_> = (0..1000)
        .map(|_| {
            let wakers = Rc::clone(&wakers);
            spawn(move || {
                let waker = hub.prepare();
                let mut all = wakers.take();
                all.push(waker);
                wakers.set(all);
                hub.park(waker, None)
            })
        })
        .collect();
    wait_until(hub, || {
        let all = wakers.take();
        let count = all.len();
        wakers.set(all);
        count == 1000
    });
    let all = Arc::new(wakers.take());
    // Each waker is used by every thread; each coroutine wakes once.
    let threads: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (all, barrier) = (Arc::clone(&all), Arc::clone(&barrier));
            thread::spawn(move || {
                barrier.wait();
                for waker in all.iter() {
                    waker.wake();
                }
            })
        })
        .collect();
    for sleeper in sleepers {
        assert_eq!(sleeper.join().expect("joined").expect("no panic"), Ok(()));
    }
    for thread in threads {
        thread.join().expect("no panic");
    }
}

/// A wait queue used by two threads, one after the other.
struct Shared(WaitQueue);

// SAFETY: the test that shares it joins the other thread before it looks at the queue again.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

#[test]
fn a_grant_from_another_thread_is_not_lost_to_the_deadline() {
    thread_local! {
        static QUEUE: Arc<Shared> = Arc::new(Shared(WaitQueue::new()));
    }
    fn grant_elsewhere(_: *mut ()) {
        let queue = QUEUE.with(Arc::clone);
        let granting = thread::spawn(move || {
            let Shared(queue) = &*queue;
            queue.wake_one()
        });
        assert!(granting.join().expect("no panic"));
    }
    let hub = Hub::with_clock(ManualClock::new());
    let queue = QUEUE.with(Arc::clone);
    // Due in the same moment as the deadline and set before: the grant is on its way in the inbox
    // when the wait times out.
    hub.set_timer(ms(5), (grant_elsewhere, std::ptr::null_mut()));
    let waiter = spawn({
        let queue = Arc::clone(&queue);
        move || queue.0.wait(hub, Some(hub.deadline_after(ms(5))), || ())
    });
    hub.advance(ms(6));
    assert_eq!(waiter.join().expect("joined").expect("no panic"), Ok(()));
    assert_eq!(queue.0.parked(), 0);
}

#[test]
fn a_grant_from_another_thread_to_a_killed_waiter_is_passed_on() {
    let hub = Hub::with_clock(ManualClock::new());
    let queue = Arc::new(Shared(WaitQueue::new()));
    let given_back = Rc::new(Cell::new(false));
    let waiter = spawn({
        let (queue, given_back) = (Arc::clone(&queue), Rc::clone(&given_back));
        move || queue.0.wait(hub, None, || given_back.set(true))
    });
    hub.run_until_idle();
    let theirs = Arc::clone(&queue);
    let granting = thread::spawn(move || {
        let Shared(queue) = &*theirs;
        queue.wake_one()
    });
    assert!(granting.join().expect("no panic"));
    // The grant waits in the inbox; the kill comes first.
    waiter.kill();
    assert_eq!(
        waiter.join().expect("joined").expect("no panic"),
        Err(WaitError::Killed)
    );
    assert!(given_back.get());
}
