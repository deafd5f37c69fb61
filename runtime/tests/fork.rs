//! A forked process: parent and child go on, each on its own, with the coroutines they had.
//!
//! Alone in its binary: a fork copies only the thread that makes it.

#![cfg(target_os = "linux")]

use std::{
    io::{Read, Write},
    os::unix::net,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rgevent_runtime::{
    JoinHandle, WaitError,
    blocking::{self, RunError},
    hub::Hub,
    net::UnixStream,
    sleep, spawn,
    sync::Event,
};

const LONG: Duration = Duration::from_secs(20);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn finish<T>(handle: JoinHandle<T>) -> T {
    let limit = Hub::current().deadline_after(LONG);
    handle.wait(Some(limit)).expect("it ends in time");
    handle.join().expect("joined").expect("no panic")
}

/// Coroutines that are suspended when the process forks.
struct Before {
    /// Waits for data on a socket of ours; the other end.
    parents_reader: JoinHandle<usize>,
    parents_peer: net::UnixStream,
    childs_reader: JoinHandle<usize>,
    childs_peer: net::UnixStream,
    sleeper: JoinHandle<Result<(), WaitError>>,
    waiter: JoinHandle<Result<(), WaitError>>,
    event: Rc<Event>,
    call: JoinHandle<Result<u32, RunError>>,
    /// Ends the call.
    answer: mpsc::Sender<u32>,
}

fn reader() -> (JoinHandle<usize>, net::UnixStream) {
    let (ours, peer) = net::UnixStream::pair().expect("a pair");
    let ours = UnixStream::from_std(ours).expect("a hub");
    let limit = Hub::current().deadline_after(LONG);
    let handle = spawn(move || {
        let mut buffer = [0; 16];
        ours.recv(&mut buffer, Some(limit)).unwrap_or(0)
    });
    (handle, peer)
}

impl Before {
    fn new() -> Self {
        let (parents_reader, parents_peer) = reader();
        let (childs_reader, childs_peer) = reader();
        let event = Rc::new(Event::new());
        let theirs = Rc::clone(&event);
        let (answer, question) = mpsc::channel();
        let (begin, began) = mpsc::channel();
        let before = Self {
            parents_reader,
            parents_peer,
            childs_reader,
            childs_peer,
            sleeper: spawn(|| sleep(ms(50))),
            waiter: spawn(move || theirs.wait(Hub::current(), None)),
            event,
            call: spawn(move || {
                blocking::run(Hub::current(), move || {
                    begin.send(()).expect("the test waits for it");
                    question.recv_timeout(LONG).expect("an answer")
                })
            }),
            answer,
        };
        // Everybody parks; the call is in the hands of its thread.
        sleep(ms(1)).expect("nobody kills");
        began.recv_timeout(LONG).expect("the call begins");
        before
    }
}

fn parent(before: Before) {
    let Before {
        parents_reader,
        mut parents_peer,
        childs_reader,
        sleeper,
        waiter,
        event,
        call,
        answer,
        ..
    } = before;
    // The socket is the child's to read.
    childs_reader.kill();
    parents_peer.write_all(b"parent").expect("sent");
    assert_eq!(finish(parents_reader), 6);
    assert_eq!(finish(sleeper), Ok(()));
    event.set();
    assert_eq!(finish(waiter), Ok(()));
    answer.send(3).expect("the call waits for it");
    assert_eq!(finish(call).expect("answered"), 3);
    assert_eq!(finish(childs_reader), 0);
}

fn child(before: Before) {
    let hub = Hub::current();
    hub.reinit_after_fork().expect("new fds");
    blocking::reset_after_fork();
    let Before {
        parents_reader,
        childs_reader,
        mut childs_peer,
        sleeper,
        waiter,
        event,
        call,
        ..
    } = before;
    parents_reader.kill();
    let lost = finish(call);
    assert!(
        matches!(lost, Err(RunError::Wait(WaitError::Closed))),
        "{lost:?}"
    );
    childs_peer.write_all(b"child").expect("sent");
    assert_eq!(finish(childs_reader), 5);
    assert_eq!(finish(sleeper), Ok(()));
    event.set();
    assert_eq!(finish(waiter), Ok(()));
    // New threads, new calls, new sockets, new coroutines.
    assert_eq!(blocking::run(hub, || 4).expect("a thread"), 4);
    hub.expect_outside();
    let waker = hub.prepare();
    let waking = thread::spawn(move || waker.wake());
    assert_eq!(hub.park(waker, Some(hub.deadline_after(LONG))), Ok(()));
    hub.outside_done();
    assert!(waking.join().expect("no panic"));
    let (fresh, mut peer) = reader();
    sleep(ms(1)).expect("nobody kills");
    peer.write_all(b"new").expect("sent");
    assert_eq!(finish(fresh), 3);
}

/// Waits for the child for a limited time; says its exit code.
fn exit_code(child: libc::pid_t) -> i32 {
    let started = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: the pointer is to an int of ours; the child is ours and was not waited for.
        let ended = unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) };
        if ended == child {
            assert!(libc::WIFEXITED(status), "ended by a signal: {status:#x}");
            return libc::WEXITSTATUS(status);
        }
        assert!(started.elapsed() < 3 * LONG, "the child does not end");
        sleep(ms(1)).expect("nobody kills");
    }
}

#[test]
fn parent_and_child_go_on() {
    let before = Before::new();
    let (mut told, mut tell) = net::UnixStream::pair().expect("a pair");
    // SAFETY: this process has no thread that could hold a lock the child needs: the test's main
    // thread waits for this one, the pool's thread waits for an answer.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", std::io::Error::last_os_error()),
        0 => {
            let outcome = catch_unwind(AssertUnwindSafe(|| child(before)));
            let code = i32::from(outcome.is_err());
            let _ = tell.write_all(&[code as u8]);
            // SAFETY: ends the child here; the test harness around is the parent's.
            unsafe { libc::_exit(code) };
        }
        pid => {
            drop(tell);
            parent(before);
            assert_eq!(exit_code(pid), 0, "the child failed");
            let mut code = [9];
            told.read_exact(&mut code).expect("the child wrote");
            assert_eq!(code, [0]);
        }
    }
}
