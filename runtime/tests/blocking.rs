//! Calls on native threads: the others run on meanwhile, and what comes back is what was returned.

use std::{
    io,
    panic::panic_any,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rgevent_runtime::{
    JoinHandle, WaitError,
    blocking::{self, Pool, RunError},
    hub::Hub,
    sleep, spawn,
};

const LONG: Duration = Duration::from_secs(30);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn finish<T>(handle: JoinHandle<T>) -> T {
    let limit = Hub::current().deadline_after(LONG);
    handle.wait(Some(limit)).expect("it ends in time");
    handle.join().expect("joined").expect("no panic")
}

fn wait_until(done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < LONG, "it takes too long");
        sleep(ms(1)).expect("nobody kills");
    }
}

fn why<T>(result: Result<T, RunError>) -> Option<WaitError> {
    match result {
        Err(RunError::Wait(why)) => Some(why),
        _ => None,
    }
}

#[test]
fn a_call_runs_on_another_thread_and_comes_back() {
    let here = thread::current().id();
    let there = blocking::run(Hub::current(), || thread::current().id()).expect("a thread");
    assert_ne!(here, there);
}

#[test]
fn others_run_while_a_call_is_under_way() {
    let (send, receive) = mpsc::channel();
    let call = spawn(move || blocking::run(Hub::current(), move || receive.recv_timeout(LONG)));
    // Only a coroutine that runs while the call blocks can end it.
    let helper = spawn(move || {
        sleep(ms(1)).expect("nobody kills");
        send.send(7).expect("the call waits for it");
    });
    assert_eq!(finish(call).expect("a thread"), Ok(7));
    finish(helper);
}

#[test]
fn a_panic_is_carried_back() {
    let call = spawn(|| blocking::run(Hub::current(), || panic_any(7_u32)).expect("a thread"));
    let limit = Hub::current().deadline_after(LONG);
    call.wait(Some(limit)).expect("it ends in time");
    let panic = call.join().expect("joined").expect_err("it panics");
    assert_eq!(panic.downcast_ref::<u32>(), Some(&7));
    assert_eq!(blocking::run(Hub::current(), || 1).expect("a thread"), 1);
}

#[test]
fn calls_run_side_by_side_up_to_the_maximum() {
    let pool = Pool::new(4, LONG);
    let together = Arc::new(Barrier::new(4));
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let (pool, together) = (pool.clone(), Arc::clone(&together));
            // None returns before all four run.
            spawn(move || pool.run(Hub::current(), None, move || together.wait().is_leader()))
        })
        .collect();
    for call in calls {
        finish(call).expect("a thread");
    }
    assert_eq!(pool.threads(), 4);
}

#[test]
fn there_are_never_more_threads_than_the_maximum() {
    let pool = Pool::new(3, LONG);
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let calls: Vec<_> = (0..200u32)
        .map(|n| {
            let pool = pool.clone();
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            spawn(move || {
                pool.run(Hub::current(), None, move || {
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                    n
                })
            })
        })
        .collect();
    for (n, call) in (0u32..).zip(calls) {
        assert_eq!(finish(call).expect("a thread"), n);
    }
    assert!(most.load(Ordering::SeqCst) <= 3);
    assert!(pool.threads() <= 3);
}

#[test]
fn idle_threads_end_and_new_ones_start() {
    let pool = Pool::new(2, ms(5));
    for _ in 0..3 {
        assert_eq!(pool.run(Hub::current(), None, || 5).expect("a thread"), 5);
        assert!(pool.threads() <= 2);
        wait_until(|| pool.threads() == 0);
    }
}

#[test]
fn jobs_that_wait_get_the_threads_of_a_raised_maximum() {
    let pool = Pool::new(1, ms(50));
    let meet = Arc::new(Barrier::new(3));
    for _ in 0..3 {
        let meet = Arc::clone(&meet);
        let job = move || {
            meet.wait();
        };
        pool.submit(Box::new(job)).expect("a thread");
    }
    assert_eq!(pool.threads(), 1);
    pool.set_threads_max(3);
    wait_until(|| pool.queued() == 0 && pool.threads() == 0);
}

#[test]
fn threads_above_a_lowered_maximum_end() {
    let pool = Pool::new(4, LONG);
    let together = Arc::new(Barrier::new(5));
    for _ in 0..4 {
        let together = Arc::clone(&together);
        pool.submit(Box::new(move || {
            together.wait();
        }))
        .expect("a thread");
    }
    // All four have begun once the fifth comes.
    together.wait();
    assert_eq!(pool.threads(), 4);
    pool.set_threads_max(1);
    assert_eq!(pool.threads_max(), 1);
    wait_until(|| pool.threads() == 1);
    let limit = Hub::current().deadline_after(LONG);
    let call = pool.run(Hub::current(), Some(limit), || 1);
    assert_eq!(call.expect("a thread"), 1);
}

#[test]
fn a_wait_for_a_call_ends_at_its_deadline() {
    let (send, receive) = mpsc::channel::<()>();
    let hub = Hub::current();
    let soon = hub.deadline_after(ms(2));
    let result = Pool::shared().run(hub, Some(soon), move || receive.recv_timeout(LONG));
    assert_eq!(why(result), Some(WaitError::TimedOut));
    // The call goes on: its end of the channel is still there.
    send.send(()).expect("the call still waits");
}

#[test]
fn a_wait_for_a_call_ends_by_a_kill() {
    let (send, receive) = mpsc::channel::<()>();
    let began = Arc::new(AtomicUsize::new(0));
    let ours = Arc::clone(&began);
    let call = spawn(move || {
        let result = blocking::run(Hub::current(), move || {
            ours.store(1, Ordering::SeqCst);
            receive.recv_timeout(LONG)
        });
        // A killed coroutine begins no call.
        let second = blocking::run(Hub::current(), || panic!("it is not to run"));
        (why(result), why::<()>(second))
    });
    wait_until(|| began.load(Ordering::SeqCst) == 1);
    call.kill();
    let killed = Some(WaitError::Killed);
    assert_eq!(finish(call), (killed, killed));
    send.send(()).expect("the call still waits");
}

#[test]
fn a_callback_of_the_hub_gets_no_call() {
    use std::cell::Cell;
    thread_local! {
        static RESULT: Cell<Option<WaitError>> = const { Cell::new(None) };
    }
    fn callback(_: *mut ()) {
        let result = blocking::run(Hub::current(), || panic!("it is not to run"));
        RESULT.set(why::<()>(result));
    }
    let hub = Hub::current();
    hub.call_soon((callback, std::ptr::null_mut()));
    hub.sleep(ms(1)).expect("nobody kills");
    assert_eq!(RESULT.get(), Some(WaitError::InHub));
}

#[test]
fn a_job_tells_by_itself_that_it_is_done() {
    let hub = Hub::current();
    hub.expect_outside();
    let waker = hub.prepare();
    blocking::submit(Box::new(move || {
        waker.wake();
    }))
    .expect("a thread");
    let limit = hub.deadline_after(LONG);
    assert_eq!(hub.park(waker, Some(limit)), Ok(()));
    hub.outside_done();
}

#[test]
fn a_job_that_panics_ends_alone() {
    let pool = Pool::new(1, LONG);
    pool.submit(Box::new(|| panic!("as planned")))
        .expect("a thread");
    assert_eq!(pool.run(Hub::current(), None, || 2).expect("a thread"), 2);
    assert_eq!(pool.threads(), 1);
}

#[test]
fn accepted_jobs_run_even_if_their_pool_is_dropped() {
    let done = Arc::new(AtomicUsize::new(0));
    let pool = Pool::new(2, LONG);
    for _ in 0..50 {
        let done = Arc::clone(&done);
        pool.submit(Box::new(move || {
            done.fetch_add(1, Ordering::SeqCst);
        }))
        .expect("a thread");
    }
    drop(pool);
    wait_until(|| done.load(Ordering::SeqCst) == 50);
}

#[test]
fn why_a_call_failed_becomes_an_io_error() {
    let error: io::Error = RunError::Wait(WaitError::TimedOut).into();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}
