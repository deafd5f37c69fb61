//! Ready, timeout and kill for every primitive, on a clock that the test owns.

use std::{cell::RefCell, rc::Rc, time::Duration};

use rgevent_runtime::{
    JoinHandle, WaitError,
    hub::{Deadline, Hub, ManualClock},
    spawn, switch,
    sync::{AsyncResult, Condvar, Event, Mutex, Queue, Semaphore},
    yield_now,
};

fn hub() -> &'static Hub {
    Hub::with_clock(ManualClock::new())
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn done<T>(handle: JoinHandle<T>) -> T {
    assert!(handle.is_finished(), "the coroutine is still waiting");
    handle.join().expect("joined").expect("no panic")
}

/// Runs one wait three times: made ready, timed out, killed; nobody is left in the line.
fn three_ways<P: 'static, T: PartialEq + std::fmt::Debug + 'static>(
    hub: &'static Hub,
    primitive: &Rc<P>,
    wait: fn(&P, &'static Hub, Option<Deadline>) -> Result<T, WaitError>,
    ready: fn(&P) -> T,
    parked: fn(&P) -> usize,
) {
    let start = |timeout: Option<Duration>| {
        let primitive = Rc::clone(primitive);
        let handle = spawn(move || {
            let deadline = timeout.map(|timeout| hub.deadline_after(timeout));
            wait(&primitive, hub, deadline)
        });
        hub.run_until_idle();
        handle
    };
    let timed_out = start(Some(ms(5)));
    assert_eq!(parked(primitive), 1);
    hub.advance(ms(6));
    assert_eq!(done(timed_out), Err(WaitError::TimedOut));
    assert_eq!(parked(primitive), 0);

    let killed = start(None);
    assert_eq!(parked(primitive), 1);
    killed.kill();
    hub.run_until_idle();
    assert_eq!(done(killed), Err(WaitError::Killed));
    assert_eq!(parked(primitive), 0);

    let woken = start(Some(ms(5)));
    let value = ready(primitive);
    hub.run_until_idle();
    assert_eq!(done(woken), Ok(value));
    assert_eq!(parked(primitive), 0);
}

#[test]
fn event_three_ways() {
    let ready = |e: &Event| assert_eq!(e.set(), 1);
    three_ways(
        hub(),
        &Rc::new(Event::new()),
        |e, h, d| e.wait(h, d),
        ready,
        Event::parked,
    );
}

#[test]
fn semaphore_three_ways() {
    let s = Rc::new(Semaphore::new(0));
    three_ways(
        hub(),
        &s,
        |s, h, d| s.acquire(h, d),
        Semaphore::release,
        Semaphore::parked,
    );
    assert_eq!(s.free(), 0);
}

#[test]
fn result_three_ways() {
    let ready = |r: &AsyncResult<u8>| {
        r.set(7).expect("not set before");
        7
    };
    let wait = |r: &AsyncResult<u8>, h, d| r.wait(h, d).copied();
    three_ways(
        hub(),
        &Rc::new(AsyncResult::new()),
        wait,
        ready,
        AsyncResult::parked,
    );
}

#[test]
fn queue_get_three_ways() {
    let ready = |q: &Queue<u8>| {
        q.try_put(9).expect("room");
        9
    };
    three_ways(
        hub(),
        &Rc::new(Queue::unbounded()),
        |q, h, d| q.get(h, d),
        ready,
        Queue::getters,
    );
}

#[test]
fn queue_put_three_ways() {
    let queue = Rc::new(Queue::bounded(1));
    queue.try_put(1u8).expect("room");
    assert_eq!(queue.try_put(2).expect_err("full").item, 2);
    let put = |q: &Queue<u8>, h, d| q.put(2, h, d).map_err(|error| error.why);
    let ready = |q: &Queue<u8>| assert_eq!(q.try_get(), Some(1));
    three_ways(hub(), &queue, put, ready, Queue::putters);
    assert_eq!((queue.try_get(), queue.try_get()), (Some(2), None));
}

#[test]
fn condvar_wait_ends_by_notice_timeout_and_kill() {
    let hub = hub();
    let pair = Rc::new((Mutex::new(0), Condvar::new()));
    let wait = |timeout: Option<Duration>| {
        let pair = Rc::clone(&pair);
        let handle = spawn(move || {
            let deadline = timeout.map(|timeout| hub.deadline_after(timeout));
            let guard = pair.0.lock(hub, None)?;
            let (mut guard, notified) = pair.1.wait(guard, hub, deadline)?;
            *guard += 1;
            Ok::<_, WaitError>(notified)
        });
        hub.run_until_idle();
        handle
    };
    let timed_out = wait(Some(ms(5)));
    hub.advance(ms(6));
    assert_eq!(done(timed_out), Ok(false));
    let killed = wait(None);
    killed.kill();
    hub.run_until_idle();
    assert_eq!(done(killed), Err(WaitError::Killed));
    let notified = wait(None);
    assert!(pair.1.notify_one());
    hub.run_until_idle();
    assert_eq!(done(notified), Ok(true));
    assert!(!pair.0.is_locked());
    assert_eq!((pair.1.parked(), *pair.0.try_lock().expect("free")), (0, 2));
}

#[test]
fn mutex_goes_to_waiters_in_order_and_survives_kill_and_timeout() {
    let hub = hub();
    let mutex = Rc::new(Mutex::new(Vec::new()));
    let guard = mutex.try_lock().expect("free");
    let start = |n: u32, timeout: Option<Duration>| {
        let mutex = Rc::clone(&mutex);
        let deadline = timeout.map(|timeout| hub.deadline_after(timeout));
        spawn(move || mutex.lock(hub, deadline).map(|mut log| log.push(n)))
    };
    let all = [
        start(1, None),
        start(2, Some(ms(5))),
        start(3, None),
        start(4, None),
    ];
    hub.advance(ms(6));
    all[2].kill();
    hub.run_until_idle();
    drop(guard);
    hub.run_until_idle();
    let [a, b, c, d] = all.map(done);
    assert_eq!((a, d), (Ok(()), Ok(())));
    assert_eq!((b, c), (Err(WaitError::TimedOut), Err(WaitError::Killed)));
    assert_eq!(*mutex.try_lock().expect("free"), [1, 4]);
}

#[test]
fn a_unit_granted_to_a_killed_waiter_goes_to_the_next() {
    let hub = hub();
    let semaphore = Rc::new(Semaphore::new(0));
    let log = Rc::new(RefCell::new(Vec::new()));
    let start = |n: u32| {
        let (semaphore, log) = (Rc::clone(&semaphore), Rc::clone(&log));
        spawn(move || {
            let outcome = semaphore.acquire(hub, None);
            log.borrow_mut().push((n, outcome));
        })
    };
    let (first, _second) = (start(1), start(2));
    hub.run_until_idle();
    semaphore.release();
    first.kill();
    hub.run_until_idle();
    let granted = log
        .borrow()
        .iter()
        .filter(|(_, outcome)| outcome.is_ok())
        .count();
    assert_eq!(
        granted + semaphore.free(),
        1,
        "the unit is neither lost nor doubled: {log:?}"
    );
}

#[test]
fn a_late_comer_cannot_overtake_a_granted_waiter() {
    let hub = hub();
    let queue = Rc::new(Queue::unbounded());
    let ours = Rc::clone(&queue);
    let getter = spawn(move || ours.get(hub, None));
    hub.run_until_idle();
    queue.try_put(5).expect("room");
    assert_eq!(queue.try_get(), None);
    hub.run_until_idle();
    assert_eq!(done(getter), Ok(5));
}

#[test]
fn a_grant_in_the_moment_of_the_deadline_is_kept() {
    let hub = hub();
    let semaphore = Rc::new(Semaphore::new(0));
    let ours = Rc::clone(&semaphore);
    let deadline = hub.deadline_after(ms(5));
    let waiter = spawn(move || ours.acquire(hub, Some(deadline)));
    hub.run_until_idle();
    let ours = Rc::clone(&semaphore);
    let releaser = spawn(move || {
        hub.sleep(ms(5)).expect("nobody kills");
        ours.release();
    });
    hub.advance(ms(5));
    done(releaser);
    let taken = usize::from(done(waiter).is_ok());
    assert_eq!(taken + semaphore.free(), 1);
}

#[test]
fn a_set_event_does_not_park_and_clearing_takes_no_wake_up_back() {
    let hub = hub();
    let event = Rc::new(Event::new());
    let ours = Rc::clone(&event);
    let waiter = spawn(move || ours.wait(hub, Some(hub.deadline_after(ms(5)))));
    hub.run_until_idle();
    assert_eq!(event.set(), 1);
    assert_eq!(event.wait(hub, None), Ok(()));
    event.clear();
    assert!(!event.is_set());
    hub.run_until_idle();
    assert_eq!(done(waiter), Ok(()));
}

#[test]
fn everybody_gets_the_one_value_of_a_result() {
    let hub = hub();
    let result = Rc::new(AsyncResult::new());
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let result = Rc::clone(&result);
            spawn(move || result.wait(hub, None).cloned())
        })
        .collect();
    hub.run_until_idle();
    result.set("here").expect("not set before");
    assert_eq!(result.set("again"), Err("again"));
    hub.run_until_idle();
    for waiter in waiters {
        assert_eq!(done(waiter), Ok("here"));
    }
    assert_eq!(result.get(), Some(&"here"));
}

#[test]
fn units_go_to_waiters_in_order() {
    let hub = hub();
    let semaphore = Rc::new(Semaphore::new(0));
    let order = Rc::new(RefCell::new(Vec::new()));
    for who in 0..3 {
        let (semaphore, order) = (Rc::clone(&semaphore), Rc::clone(&order));
        spawn(move || {
            semaphore.acquire(hub, None).expect("nobody kills");
            order.borrow_mut().push(who);
        });
    }
    hub.run_until_idle();
    for _ in 0..3 {
        semaphore.release();
        assert!(!semaphore.try_acquire(), "the unit is promised");
    }
    hub.run_until_idle();
    assert_eq!(*order.borrow(), [0, 1, 2]);
}

#[test]
fn what_was_promised_to_an_interrupted_waiter_is_passed_on() {
    let hub = hub();
    let queue = Rc::new(Queue::bounded(1));
    let [first, second] = [(); 2].map(|()| {
        let queue = Rc::clone(&queue);
        spawn(move || queue.get(hub, None))
    });
    hub.run_until_idle();
    queue.try_put(5).expect("room");
    switch(first.coroutine().expect("alive")).expect("it is parked");
    assert_eq!(done(first), Err(WaitError::Interrupted));
    hub.run_until_idle();
    assert_eq!(done(second), Ok(5));
}

#[test]
fn items_arrive_in_order_through_any_limit() {
    let hub = hub();
    for items_max in [1, 2, 7] {
        let queue = Rc::new(Queue::bounded(items_max));
        let ours = Rc::clone(&queue);
        let putter = spawn(move || {
            for n in 0..50 {
                ours.put(n, hub, None).expect("nobody kills");
            }
        });
        for n in 0..50 {
            assert_eq!(queue.get(hub, None), Ok(n));
            assert!(queue.len() <= items_max);
        }
        hub.run_until_idle();
        done(putter);
        assert!(queue.is_empty());
    }
}

#[test]
fn a_lock_held_across_waits_keeps_others_out() {
    let hub = hub();
    let mutex = Rc::new(Mutex::new(0));
    let workers: Vec<_> = (0..10)
        .map(|_| {
            let mutex = Rc::clone(&mutex);
            spawn(move || {
                for _ in 0..10 {
                    let mut value = mutex.lock(hub, None).expect("nobody kills");
                    let seen = *value;
                    yield_now().expect("nobody kills");
                    *value = seen + 1;
                }
            })
        })
        .collect();
    hub.run_until_idle();
    workers.into_iter().for_each(done);
    assert_eq!(*mutex.try_lock().expect("free"), 100);
}

#[test]
fn a_panic_gives_the_lock_up() {
    let hub = hub();
    let mutex = Rc::new(Mutex::new(()));
    let ours = Rc::clone(&mutex);
    let bad = spawn(move || {
        let _guard = ours.lock(hub, None).expect("nobody kills");
        panic!("as planned");
    });
    assert!(bad.join().expect("joined").is_err());
    assert!(mutex.try_lock().is_some());
}

#[test]
fn a_notified_waiter_waits_for_the_lock_and_passes_on_if_killed_there() {
    let hub = hub();
    let pair = Rc::new((Mutex::new(()), Condvar::new()));
    let [first, second] = [(); 2].map(|()| {
        let pair = Rc::clone(&pair);
        spawn(move || {
            let guard = pair.0.lock(hub, None)?;
            let (_guard, notified) = pair.1.wait(guard, hub, None)?;
            Ok::<_, WaitError>(notified)
        })
    });
    hub.run_until_idle();
    let guard = pair.0.try_lock().expect("waiting gives the lock up");
    assert!(pair.1.notify_one());
    hub.run_until_idle();
    assert!(!first.is_finished(), "it waits for the lock");
    first.kill();
    drop(guard);
    hub.run_until_idle();
    assert_eq!(done(first), Err(WaitError::Killed));
    assert_eq!(done(second), Ok(true));
    assert_eq!(pair.1.notify_all(), 0);
}
