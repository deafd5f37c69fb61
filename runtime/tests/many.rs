//! Many coroutines at once, and waits that would never end.

use std::{cell::Cell, rc::Rc, time::Duration};

use rgevent_runtime::{
    JoinHandle, WaitError,
    hub::{Hub, ManualClock},
    sleep, spawn, switch,
    sync::{Event, WaitQueue},
    yield_now,
};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const MANY: usize = 20_000;

#[test]
fn twenty_thousand_coroutines_wait_and_wake() {
    let hub = Hub::current();
    let event = Rc::new(Event::new());
    for _ in 0..2 {
        event.clear();
        let waiters: Vec<_> = (0..MANY)
            .map(|n| {
                let event = Rc::clone(&event);
                spawn(move || event.wait(Hub::current(), None).map(|()| n))
            })
            .collect();
        hub.run_until_idle();
        assert_eq!(event.parked(), MANY);
        assert_eq!(event.set(), MANY);
        for (n, waiter) in waiters.into_iter().enumerate() {
            assert_eq!(waiter.join().expect("joined").expect("no panic"), Ok(n));
        }
    }
    let info = hub.thread().stack_info();
    assert!(info.slots < MANY + 100, "stacks are used again: {info:?}");
    assert_eq!(info.abandoned, 0);
}

#[test]
fn twenty_thousand_sleepers_wake_in_order() {
    let hub = Hub::with_clock(ManualClock::new());
    let last = Rc::new(Cell::new(0));
    let sleepers: Vec<_> = (0..MANY as u64)
        .map(|n| {
            let last = Rc::clone(&last);
            // Every time from 1 to MANY, in a scattered order.
            let time = n * 7919 % MANY as u64 + 1;
            spawn(move || {
                sleep(ms(time)).expect("nobody kills");
                assert_eq!(last.replace(time), time - 1);
            })
        })
        .collect();
    hub.advance(ms(MANY as u64));
    for sleeper in sleepers {
        sleeper.join().expect("joined").expect("in order");
    }
}

#[test]
fn all_of_many_can_be_killed() {
    let hub = Hub::with_clock(ManualClock::new());
    let waiting = Rc::new(WaitQueue::new());
    let waiters: Vec<_> = (0..1000)
        .map(|_| {
            let waiting = Rc::clone(&waiting);
            spawn(move || waiting.wait(Hub::current(), None, || ()))
        })
        .collect();
    hub.run_until_idle();
    waiters.iter().for_each(JoinHandle::kill);
    for waiter in waiters {
        assert_eq!(
            waiter.join().expect("joined").expect("no panic"),
            Err(WaitError::Killed)
        );
    }
    assert!(waiting.is_empty());
}

#[test]
fn every_later_wait_of_a_killed_coroutine_fails() {
    let killed = spawn(|| [sleep(ms(1)), yield_now(), sleep(Duration::ZERO)]);
    killed.kill();
    let outcomes = killed.join().expect("joined").expect("no panic");
    assert_eq!(outcomes, [Err(WaitError::Killed); 3]);
}

#[test]
fn a_kill_that_comes_after_the_grant_lets_the_wait_succeed() {
    let hub = Hub::with_clock(ManualClock::new());
    let waiting = Rc::new(WaitQueue::new());
    let waiter = spawn({
        let waiting = Rc::clone(&waiting);
        move || [waiting.wait(hub, None, || ()), hub.yield_now()]
    });
    hub.run_until_idle();
    assert!(waiting.wake_one());
    waiter.kill();
    assert_eq!(
        waiter.join().expect("joined").expect("no panic"),
        [Ok(()), Err(WaitError::Killed)]
    );
}

#[test]
fn a_grant_that_comes_after_the_deadline_goes_to_the_next() {
    let hub = Hub::with_clock(ManualClock::new());
    let waiting = Rc::new(WaitQueue::new());
    let [first, second] = [Some(ms(5)), None].map(|timeout| {
        let waiting = Rc::clone(&waiting);
        spawn(move || {
            let deadline = timeout.map(|timeout| hub.deadline_after(timeout));
            waiting.wait(hub, deadline, || ())
        })
    });
    // Wakes one in the very moment in which the first times out, before that has run.
    let granter = spawn({
        let waiting = Rc::clone(&waiting);
        move || {
            sleep(ms(5)).expect("nobody kills");
            waiting.wake_one()
        }
    });
    hub.advance(ms(6));
    assert!(granter.join().expect("joined").expect("no panic"));
    assert_eq!(
        first.join().expect("joined").expect("no panic"),
        Err(WaitError::TimedOut)
    );
    assert!(second.is_finished(), "the grant was not lost");
}

#[test]
fn main_is_told_of_an_endless_wait_and_the_others_stay() {
    let hub = Hub::current();
    let waiting = Rc::new(WaitQueue::new());
    let stuck = spawn({
        let waiting = Rc::clone(&waiting);
        move || waiting.wait(Hub::current(), None, || ())
    });
    assert_eq!(stuck.wait(None), Err(WaitError::LoopExit));
    assert_eq!(waiting.parked(), 1);
    // Nothing is broken: the next waits work.
    assert_eq!(hub.sleep(ms(1)), Ok(()));
    assert!(waiting.wake_one());
    assert_eq!(stuck.join().expect("joined").expect("no panic"), Ok(()));
}

#[test]
fn a_timeout_keeps_the_loop_alive() {
    let hub = Hub::current();
    let soon = hub.deadline_after(ms(1));
    let outcome = WaitQueue::new().wait(hub, Some(soon), || ());
    assert_eq!(outcome, Err(WaitError::TimedOut));
}

#[test]
fn a_wait_inside_the_hub_is_refused() {
    thread_local! {
        static OUTCOME: Cell<Option<Result<(), WaitError>>> = const { Cell::new(None) };
    }
    fn callback(_: *mut ()) {
        OUTCOME.set(Some(sleep(ms(1))));
    }
    let hub = Hub::with_clock(ManualClock::new());
    hub.call_soon((callback, std::ptr::null_mut()));
    hub.run_until_idle();
    assert_eq!(OUTCOME.get(), Some(Err(WaitError::InHub)));
}

#[test]
fn an_explicit_switch_interrupts_a_wait_and_its_waker_is_stale() {
    let hub = Hub::with_clock(ManualClock::new());
    let waiting = Rc::new(WaitQueue::new());
    let waiter = spawn({
        let waiting = Rc::clone(&waiting);
        move || [waiting.wait(hub, None, || ()), hub.sleep(ms(5))]
    });
    hub.run_until_idle();
    switch(waiter.coroutine().expect("alive")).expect("it is parked");
    assert!(!waiting.wake_one(), "nobody waits there");
    hub.advance(ms(6));
    assert_eq!(
        waiter.join().expect("joined").expect("no panic"),
        [Err(WaitError::Interrupted), Ok(())]
    );
}

#[test]
fn a_crowd_that_yields_does_not_keep_timers_waiting() {
    let hub = Hub::current();
    let stop = Rc::new(Cell::new(false));
    let crowd: Vec<_> = (0..10)
        .map(|_| {
            let stop = Rc::clone(&stop);
            spawn(move || {
                while !stop.get() {
                    yield_now().expect("nobody kills");
                }
            })
        })
        .collect();
    hub.sleep(ms(2)).expect("nobody kills");
    stop.set(true);
    for one in crowd {
        one.join().expect("joined").expect("no panic");
    }
}
