//! Waiting for fds: whoever waits is woken once, by the right event, and by nothing else.

use std::{
    io::{ErrorKind, Read, Write},
    os::{
        fd::{AsRawFd, RawFd},
        unix::net::UnixStream,
    },
    rc::Rc,
    time::Duration,
};

use rgevent_runtime::{
    JoinHandle, WaitError,
    hub::{Deadline, Hub, Interest, ManualClock, SourceId, WaitFdError},
    poll_now, spawn,
};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn hub() -> &'static Hub {
    Hub::with_clock(ManualClock::new())
}

fn pair() -> (UnixStream, UnixStream) {
    let (a, b) = UnixStream::pair().expect("a pair");
    a.set_nonblocking(true).expect("open");
    b.set_nonblocking(true).expect("open");
    (a, b)
}

/// Fills a socket's buffer; a write to it would block afterwards.
fn fill(mut stream: &UnixStream) {
    loop {
        match stream.write(&[0; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("{error}"),
        }
    }
}

fn drain(mut stream: &UnixStream) {
    let mut buffer = vec![0; 1 << 16];
    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
}

type Outcome = Result<(), Result<WaitError, ErrorKind>>;

fn plain(result: Result<(), WaitFdError>) -> Outcome {
    result.map_err(|error| match error {
        WaitFdError::Wait(why) => Ok(why),
        WaitFdError::Io(error) => Err(error.kind()),
    })
}

fn wait_source(
    hub: &'static Hub,
    id: SourceId,
    interest: Interest,
    deadline: Option<Deadline>,
) -> JoinHandle<Outcome> {
    spawn(move || plain(hub.wait_source(id, interest, deadline)))
}

fn wait_fd(
    hub: &'static Hub,
    fd: RawFd,
    interest: Interest,
    deadline: Option<Deadline>,
) -> JoinHandle<Outcome> {
    spawn(move || plain(hub.wait_fd(fd, interest, deadline)))
}

/// The outcome of a coroutine that has come to its end by itself.
fn outcome(handle: JoinHandle<Outcome>) -> Outcome {
    assert!(handle.is_finished(), "it still waits");
    handle.join().expect("joined").expect("no panic")
}

/// How many fds a hub knows.
fn sources(hub: &Hub) -> usize {
    let text = format!("{hub:?}");
    let number = text.split("sources: ").nth(1).expect("it is shown");
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

#[test]
fn data_wakes_the_reader_and_space_the_writer() {
    let hub = hub();
    let (a, mut b) = pair();
    let id = hub.add_source(a.as_raw_fd());
    fill(&a);
    let reader = wait_source(hub, id, Interest::READ, None);
    let writer = wait_source(hub, id, Interest::WRITE, None);
    hub.run_until_idle();
    assert!(!reader.is_finished() && !writer.is_finished());
    b.write_all(b"x").expect("sent");
    hub.run_until_idle();
    assert_eq!(outcome(reader), Ok(()));
    drain(&b);
    hub.run_until_idle();
    assert_eq!(outcome(writer), Ok(()));
}

#[test]
fn a_kept_source_is_told_of_every_new_edge() {
    let hub = hub();
    let (mut a, mut b) = pair();
    let id = hub.add_source(a.as_raw_fd());
    for _ in 0..5 {
        let reader = wait_source(hub, id, Interest::READ, None);
        hub.run_until_idle();
        assert!(!reader.is_finished());
        b.write_all(b"x").expect("sent");
        hub.run_until_idle();
        assert_eq!(outcome(reader), Ok(()));
        assert_eq!(a.read(&mut [0; 8]).expect("the byte"), 1);
    }
}

#[test]
fn all_readers_of_one_fd_wake() {
    let hub = hub();
    let (ours, mut peer) = pair();
    let (borrowed, mut other) = pair();
    let id = hub.add_source(ours.as_raw_fd());
    let mut readers = vec![
        wait_source(hub, id, Interest::READ, None),
        wait_source(hub, id, Interest::BOTH, None),
    ];
    fill(&ours);
    for _ in 0..2 {
        readers.push(wait_fd(hub, borrowed.as_raw_fd(), Interest::READ, None));
    }
    hub.run_until_idle();
    peer.write_all(b"x").expect("sent");
    other.write_all(b"x").expect("sent");
    hub.run_until_idle();
    for reader in readers {
        assert_eq!(outcome(reader), Ok(()));
    }
}

#[test]
fn removing_a_source_fails_its_waiters() {
    let hub = hub();
    let (a, _b) = pair();
    let id = hub.add_source(a.as_raw_fd());
    let waiters = [0, 1].map(|_| wait_source(hub, id, Interest::READ, None));
    hub.run_until_idle();
    assert!(hub.remove_source(id));
    assert!(!hub.remove_source(id), "removed already");
    hub.run_until_idle();
    for waiter in waiters {
        assert_eq!(outcome(waiter), Err(Ok(WaitError::Closed)));
    }
    let late = plain(hub.wait_source(id, Interest::READ, None));
    assert_eq!(late, Err(Ok(WaitError::Closed)));
    assert_eq!(sources(hub), 0);
}

#[test]
fn an_event_of_a_closed_fd_does_not_wake_the_number_s_new_owner() {
    let hub = hub();
    let (old, mut old_peer) = pair();
    let (new, mut new_peer) = pair();
    let number = old.as_raw_fd();
    // Keeps the old registration alive in the kernel.
    let duplicate = old.try_clone().expect("a duplicate");
    let id = hub.add_source(number);
    let old_waiter = wait_source(hub, id, Interest::READ, None);
    hub.run_until_idle();
    hub.remove_source(id);
    hub.run_until_idle();
    assert_eq!(outcome(old_waiter), Err(Ok(WaitError::Closed)));
    // SAFETY: both fds are open and owned by this test; the old file behind `number` is closed.
    assert_eq!(unsafe { libc::dup2(new.as_raw_fd(), number) }, number);
    let id = hub.add_source(number);
    let waiter = wait_source(hub, id, Interest::READ, None);
    hub.run_until_idle();
    old_peer.write_all(b"x").expect("sent");
    assert!(
        poll_now(duplicate.as_raw_fd(), true, false)
            .expect("open")
            .readable
    );
    hub.run_until_idle();
    assert!(!waiter.is_finished(), "the event was the old file's");
    new_peer.write_all(b"x").expect("sent");
    hub.run_until_idle();
    assert_eq!(outcome(waiter), Ok(()));
}

#[test]
fn a_new_owner_of_a_number_fails_the_waiters_of_the_old() {
    let hub = hub();
    let (a, mut b) = pair();
    let borrower = wait_fd(hub, a.as_raw_fd(), Interest::READ, None);
    hub.run_until_idle();
    let id = hub.add_source(a.as_raw_fd());
    let owner = wait_source(hub, id, Interest::READ, None);
    hub.run_until_idle();
    assert_eq!(outcome(borrower), Err(Ok(WaitError::Closed)));
    b.write_all(b"x").expect("sent");
    hub.run_until_idle();
    assert_eq!(outcome(owner), Ok(()));
}

#[test]
fn a_borrowed_fd_is_armed_again_for_the_other_direction() {
    let hub = hub();
    let (a, mut b) = pair();
    fill(&a);
    let reader = wait_fd(hub, a.as_raw_fd(), Interest::READ, None);
    let writer = wait_fd(hub, a.as_raw_fd(), Interest::WRITE, None);
    hub.run_until_idle();
    b.write_all(b"x").expect("sent");
    hub.run_until_idle();
    assert_eq!(outcome(reader), Ok(()));
    assert!(!writer.is_finished());
    drain(&b);
    hub.run_until_idle();
    assert_eq!(outcome(writer), Ok(()));
    assert_eq!(sources(hub), 0, "a borrowed fd is forgotten");
}

#[test]
fn a_borrowed_fd_that_is_ready_is_not_waited_for() {
    let hub = hub();
    let (a, mut b) = pair();
    b.write_all(b"x").expect("sent");
    assert_eq!(
        plain(hub.wait_fd(a.as_raw_fd(), Interest::READ, None)),
        Ok(())
    );
    assert_eq!(
        plain(hub.wait_fd(a.as_raw_fd(), Interest::BOTH, None)),
        Ok(())
    );
}

#[test]
fn a_consumed_edge_of_our_own_socket_does_not_hang_a_borrower() {
    let hub = hub();
    let (a, mut b) = pair();
    let id = hub.add_source(a.as_raw_fd());
    let first = wait_source(hub, id, Interest::READ, None);
    hub.run_until_idle();
    b.write_all(b"x").expect("sent");
    hub.run_until_idle();
    assert_eq!(outcome(first), Ok(()));
    // The byte is still there, its edge is used up.
    let borrower = wait_fd(hub, a.as_raw_fd(), Interest::READ, None);
    hub.run_until_idle();
    assert_eq!(outcome(borrower), Ok(()));
}

#[test]
fn the_first_of_several_fds_ends_the_wait() {
    let hub = hub();
    let pairs: Vec<_> = (0..5).map(|_| pair()).collect();
    let mine = hub.add_source(pairs[0].0.as_raw_fd());
    let fds: Vec<_> = pairs
        .iter()
        .map(|(a, _)| (a.as_raw_fd(), Interest::READ))
        .collect();
    for (_, peer) in &pairs {
        let mut peer: &UnixStream = peer;
        let fds = fds.clone();
        let waiter = spawn(move || plain(hub.wait_fds(&fds, None)));
        hub.run_until_idle();
        assert!(!waiter.is_finished());
        assert_eq!(sources(hub), 5);
        peer.write_all(b"x").expect("sent");
        hub.run_until_idle();
        assert_eq!(outcome(waiter), Ok(()));
        assert_eq!(sources(hub), 1, "all but our own are forgotten");
        for (a, _) in &pairs {
            drain(a);
        }
    }
    hub.remove_source(mine);
}

#[test]
fn a_bad_one_of_several_fds_is_an_error_and_leaves_nothing_behind() {
    let hub = hub();
    let (a, mut b) = pair();
    for bad in [-1, i32::MAX] {
        let fds = [(a.as_raw_fd(), Interest::READ), (bad, Interest::READ)];
        let result = plain(hub.wait_fds(&fds, None));
        assert!(matches!(result, Err(Err(_))), "{result:?}");
        assert_eq!(sources(hub), 0);
    }
    let waiter = wait_fd(hub, a.as_raw_fd(), Interest::READ, None);
    hub.run_until_idle();
    b.write_all(b"x").expect("sent");
    hub.run_until_idle();
    assert_eq!(outcome(waiter), Ok(()));
}

#[test]
fn a_wait_ends_by_timeout_and_leaves_the_fd() {
    let hub = hub();
    let (a, b) = pair();
    let id = hub.add_source(b.as_raw_fd());
    let soon = Some(hub.deadline_after(ms(5)));
    let waiters = [
        wait_fd(hub, a.as_raw_fd(), Interest::READ, soon),
        wait_source(hub, id, Interest::READ, soon),
    ];
    hub.advance(ms(4));
    assert_eq!(sources(hub), 2);
    hub.advance(ms(2));
    for waiter in waiters {
        assert_eq!(outcome(waiter), Err(Ok(WaitError::TimedOut)));
    }
    assert_eq!(sources(hub), 1);
}

#[test]
fn a_wait_ends_by_kill_and_leaves_the_fd() {
    let hub = hub();
    let (a, _b) = pair();
    let waiter = wait_fd(hub, a.as_raw_fd(), Interest::READ, None);
    hub.run_until_idle();
    waiter.kill();
    hub.run_until_idle();
    assert_eq!(outcome(waiter), Err(Ok(WaitError::Killed)));
    assert_eq!(sources(hub), 0);
}

#[test]
fn cancelling_an_fd_fails_whoever_waits_for_it() {
    let hub = hub();
    let (a, _b) = pair();
    let waiters = [0, 1].map(|_| wait_fd(hub, a.as_raw_fd(), Interest::READ, None));
    hub.run_until_idle();
    hub.cancel_fd(a.as_raw_fd());
    hub.cancel_fd(a.as_raw_fd());
    hub.cancel_fd(-1);
    hub.run_until_idle();
    for waiter in waiters {
        assert_eq!(outcome(waiter), Err(Ok(WaitError::Closed)));
    }
}

#[test]
fn a_number_that_is_no_fd_is_an_error() {
    let hub = hub();
    for number in [-1, i32::MAX] {
        let result = hub.wait_fd(number, Interest::READ, None);
        let Err(WaitFdError::Io(error)) = result else {
            panic!("{result:?}");
        };
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }
}

#[test]
fn the_end_of_the_other_side_wakes_everybody() {
    let hub = hub();
    let (a, b) = pair();
    fill(&a);
    let reader = wait_fd(hub, a.as_raw_fd(), Interest::READ, None);
    let writer = wait_fd(hub, a.as_raw_fd(), Interest::WRITE, None);
    hub.run_until_idle();
    drop(b);
    hub.run_until_idle();
    assert_eq!(outcome(reader), Ok(()));
    assert_eq!(outcome(writer), Ok(()));
}

#[test]
fn data_and_deadline_in_one_tick_end_the_wait_once() {
    let hub = hub();
    let (a, mut b) = pair();
    let ends = Rc::new(std::cell::Cell::new(0));
    let waiter = spawn({
        let ends = Rc::clone(&ends);
        let fd = a.as_raw_fd();
        move || {
            let deadline = Some(hub.deadline_after(ms(5)));
            let outcome = plain(hub.wait_fd(fd, Interest::READ, deadline));
            ends.set(ends.get() + 1);
            // The next wait must not be ended by what is left of the first.
            let next = hub.sleep(ms(50));
            ends.set(ends.get() + 1);
            (outcome, next)
        }
    });
    hub.run_until_idle();
    // Sent when the timer has fired and the waiter has not run: a timer set before comes first.
    let peer = spawn(move || {
        hub.sleep(ms(5)).expect("nobody kills");
        b.write_all(b"x").expect("sent");
        b
    });
    hub.advance(ms(5));
    assert_eq!(ends.get(), 1);
    hub.advance(ms(49));
    assert_eq!(ends.get(), 1);
    hub.advance(ms(2));
    assert_eq!(ends.get(), 2);
    let (first, next) = waiter.join().expect("joined").expect("no panic");
    assert!(matches!(first, Ok(()) | Err(Ok(WaitError::TimedOut))));
    assert_eq!(next, Ok(()));
    drop(peer);
}
