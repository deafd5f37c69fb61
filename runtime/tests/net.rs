//! Sockets: every call parks instead of blocking, ends at its deadline, by a kill or by a close.

use std::{
    cell::Cell,
    io::{self, BufRead, BufReader, ErrorKind, Write},
    net::{Shutdown, SocketAddr},
    os::fd::AsRawFd,
    rc::Rc,
    time::Duration,
};

use rgevent_runtime::{
    JoinHandle, WaitError,
    hub::{Deadline, Hub, ManualClock},
    net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream, lookup},
    spawn, yield_now,
};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

/// Long enough for anything that is not stuck.
fn limit() -> Option<Deadline> {
    Some(Hub::current().deadline_after(Duration::from_secs(20)))
}

fn finish<T>(handle: JoinHandle<T>) -> T {
    handle.wait(limit()).expect("it ends in time");
    handle.join().expect("joined").expect("no panic")
}

/// Why a socket call failed, if that was a wait.
fn why(error: &io::Error) -> Option<WaitError> {
    error.get_ref()?.downcast_ref().copied()
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(anywhere()).expect("a port");
    let address = listener.local_addr().expect("open");
    let client = TcpStream::connect(address, limit()).expect("connected");
    let (server, peer) = listener.accept(limit()).expect("accepted");
    assert_eq!(peer, client.local_addr().expect("open"));
    (client, server)
}

/// A directory that is removed at the end.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rgevent-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Makes a listener's backlog as short as can be: one connection waits to be accepted.
fn shorten_backlog(listener: &impl AsRawFd) {
    // SAFETY: the fd is open and listens already; the call changes a number.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
}

#[test]
fn many_connections_are_served_at_once() {
    let listener = TcpListener::bind(anywhere()).expect("a port");
    let address = listener.local_addr().expect("open");
    let clients: Vec<_> = (0..100u32)
        .map(|n| {
            spawn(move || {
                let stream = TcpStream::connect(address, limit())?;
                let mut total = 0;
                for round in 0..10 {
                    stream.send_all(&(n + round).to_be_bytes(), limit())?;
                    let mut answer = [0; 4];
                    stream.recv_exact(&mut answer, limit())?;
                    total += u32::from_be_bytes(answer);
                }
                Ok::<_, io::Error>(total)
            })
        })
        .collect();
    for _ in 0..clients.len() {
        let (stream, _) = listener.accept(limit()).expect("accepted");
        spawn(move || {
            let mut buffer = [0; 64];
            loop {
                match stream.recv(&mut buffer, limit()).expect("not broken") {
                    0 => return,
                    count => stream.send_all(&buffer[..count], limit()).expect("sent"),
                }
            }
        });
    }
    for (n, client) in (0u32..).zip(clients) {
        assert_eq!(finish(client).expect("served"), 10 * n + 45);
    }
}

#[test]
fn a_refused_connection_is_an_error() {
    let gone = TcpListener::bind(anywhere()).expect("a port");
    let address = gone.local_addr().expect("open");
    gone.close();
    let error = TcpStream::connect(address, limit()).expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_port_in_use_is_an_error() {
    let first = TcpListener::bind(anywhere()).expect("a port");
    let error = TcpListener::bind(first.local_addr().expect("open")).expect_err("it is taken");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
}

#[test]
fn calls_end_at_their_deadlines() {
    let hub = Hub::with_clock(ManualClock::new());
    let soon = move || Some(hub.deadline_after(ms(5)));
    let listener = TcpListener::bind(anywhere()).expect("a port");
    let (sending, _full) = UnixStream::pair().expect("a pair");
    let accept = spawn(move || listener.accept(soon()).map(drop));
    let send = spawn(move || sending.send_all(&vec![0; 1 << 24], soon()));
    hub.advance(ms(4));
    assert!(!accept.is_finished() && !send.is_finished());
    hub.advance(ms(2));
    for ended in [accept, send] {
        let error = finish(ended).expect_err("nothing happened");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(why(&error), Some(WaitError::TimedOut));
    }
}

#[test]
fn a_receiver_ends_at_its_deadline_and_the_next_call_works() {
    let hub = Hub::with_clock(ManualClock::new());
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let receiver = spawn(move || {
        let mut buffer = [0; 8];
        let error = ours
            .recv(&mut buffer, Some(hub.deadline_after(ms(5))))
            .expect_err("nothing was sent");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        ours.recv(&mut buffer, None)
    });
    hub.advance(ms(6));
    theirs.send_all(b"late", None).expect("sent");
    assert_eq!(finish(receiver).expect("received"), 4);
}

#[test]
fn a_connect_that_nobody_answers_ends_at_its_deadline() {
    let hub = Hub::with_clock(ManualClock::new());
    let listener = std::net::TcpListener::bind(anywhere()).expect("a port");
    let address = listener.local_addr().expect("open");
    shorten_backlog(&listener);
    let connects: Vec<_> = (0..4)
        .map(|_| spawn(move || TcpStream::connect(address, Some(hub.deadline_after(ms(5))))))
        .collect();
    hub.run_until_idle();
    hub.advance(ms(6));
    let outcomes: Vec<_> = connects.into_iter().map(finish).collect();
    let last = outcomes.last().expect("four").as_ref();
    assert_eq!(
        last.expect_err("the backlog is full").kind(),
        ErrorKind::TimedOut
    );
}

#[test]
fn closing_wakes_whoever_sends_or_accepts() {
    let hub = Hub::with_clock(ManualClock::new());
    let (sending, _full) = tcp_pair();
    let sending = Rc::new(sending);
    let listener = Rc::new(TcpListener::bind(anywhere()).expect("a port"));
    let sender = Rc::clone(&sending);
    let accepter = Rc::clone(&listener);
    let waiting = [
        spawn(move || sender.send_all(&vec![0; 1 << 25], None)),
        spawn(move || accepter.accept(None).map(drop)),
    ];
    hub.run_until_idle();
    sending.close();
    listener.close();
    for closed in waiting {
        let error = finish(closed).expect_err("it was closed");
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        assert_eq!(why(&error), Some(WaitError::Closed));
    }
    let error = listener.accept(None).expect_err("it is closed");
    assert_eq!(why(&error), Some(WaitError::Closed));
    listener.close();
}

#[test]
fn closing_wakes_receivers_of_a_silent_peer() {
    let (client, _server) = tcp_pair();
    let client = Rc::new(client);
    let receivers: Vec<_> = (0..3)
        .map(|_| {
            let client = Rc::clone(&client);
            spawn(move || client.recv(&mut [0; 8], limit()))
        })
        .collect();
    yield_now().expect("nobody kills");
    client.close();
    for receiver in receivers {
        let error = finish(receiver).expect_err("it was closed");
        assert_eq!(why(&error), Some(WaitError::Closed));
    }
}

#[test]
fn a_killed_receiver_ends_and_the_socket_lives() {
    let (client, server) = tcp_pair();
    let client = Rc::new(client);
    let receiver = spawn({
        let client = Rc::clone(&client);
        move || client.recv(&mut [0; 8], limit())
    });
    yield_now().expect("nobody kills us");
    receiver.kill();
    let error = finish(receiver).expect_err("it was killed");
    assert_eq!(why(&error), Some(WaitError::Killed));
    server.send_all(b"x", limit()).expect("sent");
    assert_eq!(client.recv(&mut [0; 8], limit()).expect("received"), 1);
}

#[test]
fn megabytes_arrive_at_a_slow_reader() {
    let (client, server) = tcp_pair();
    let sent: Vec<u8> = (0..8 << 20).map(|n: u32| (n % 251) as u8).collect();
    let expected = sent.clone();
    let sender = spawn(move || {
        client.send_all(&sent, limit())?;
        client.shutdown(Shutdown::Write)
    });
    let mut received = Vec::new();
    let mut buffer = vec![0; 100_000];
    loop {
        yield_now().expect("nobody kills");
        match server.recv(&mut buffer, limit()).expect("not broken") {
            0 => break,
            count => received.extend_from_slice(&buffer[..count]),
        }
    }
    finish(sender).expect("all was sent");
    assert!(received == expected, "{} bytes arrived", received.len());
}

#[test]
fn an_early_end_of_the_stream_is_an_error_for_an_exact_read() {
    let (client, server) = tcp_pair();
    client.send_all(b"abc", limit()).expect("sent");
    drop(client);
    let error = server
        .recv_exact(&mut [0; 4], limit())
        .expect_err("too short");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn streams_are_readers_and_writers() {
    let (client, server) = tcp_pair();
    client.set_nodelay(true).expect("open");
    let writer = spawn(move || write!(&client, "one\ntwo\n"));
    let lines: Vec<String> = BufReader::new(server)
        .lines()
        .collect::<io::Result<_>>()
        .expect("text");
    assert_eq!(lines, ["one", "two"]);
    finish(writer).expect("written");
}

#[test]
fn calls_that_never_wait_leave_others_their_turn() {
    let turns = Rc::new(Cell::new(0));
    let other = spawn({
        let turns = Rc::clone(&turns);
        move || {
            loop {
                turns.set(turns.get() + 1);
                if yield_now().is_err() {
                    return;
                }
            }
        }
    });
    let socket = UdpSocket::bind(anywhere()).expect("a port");
    let address = socket.local_addr().expect("open");
    for _ in 0..1000 {
        socket.send_to(b"x", address, limit()).expect("sent");
        socket.recv_from(&mut [0; 8], limit()).expect("received");
    }
    assert!(turns.get() >= 50, "{} turns", turns.get());
    other.kill();
    finish(other);
}

#[test]
fn a_busy_sender_can_be_killed() {
    let socket = UdpSocket::bind(anywhere()).expect("a port");
    let address = socket.local_addr().expect("open");
    let busy = spawn(move || {
        loop {
            socket.send_to(b"x", address, None)?;
        }
        #[expect(unreachable_code, reason = "says the type")]
        Ok::<(), io::Error>(())
    });
    yield_now().expect("nobody kills us");
    busy.kill();
    assert_eq!(
        why(&finish(busy).expect_err("killed")),
        Some(WaitError::Killed)
    );
}

#[test]
fn datagrams_travel_both_ways() {
    let server = UdpSocket::bind(anywhere()).expect("a port");
    let client = UdpSocket::bind(anywhere()).expect("a port");
    client
        .connect(server.local_addr().expect("open"))
        .expect("no wait");
    let answer = spawn(move || {
        client.send(b"ping", limit())?;
        let mut buffer = [0; 16];
        let count = client.recv(&mut buffer, limit())?;
        Ok::<_, io::Error>(buffer[..count].to_vec())
    });
    let mut buffer = [0; 16];
    let (count, from) = server.recv_from(&mut buffer, limit()).expect("received");
    assert_eq!(&buffer[..count], b"ping");
    server.send_to(b"pong", from, limit()).expect("sent");
    assert_eq!(finish(answer).expect("answered"), b"pong");
}

#[test]
fn a_datagram_wait_ends_by_timeout_kill_or_close() {
    let hub = Hub::with_clock(ManualClock::new());
    let socket = Rc::new(UdpSocket::bind(anywhere()).expect("a port"));
    let [timed, killed, closed] = [Some(ms(5)), None, None].map(|timeout| {
        let socket = Rc::clone(&socket);
        spawn(move || {
            let deadline = timeout.map(|timeout| hub.deadline_after(timeout));
            socket.recv(&mut [0; 8], deadline)
        })
    });
    hub.advance(ms(6));
    killed.kill();
    hub.run_until_idle();
    socket.close();
    let reasons = [timed, killed, closed].map(|ended| why(&finish(ended).expect_err("no data")));
    assert_eq!(
        reasons,
        [
            Some(WaitError::TimedOut),
            Some(WaitError::Killed),
            Some(WaitError::Closed)
        ]
    );
}

#[test]
fn unix_sockets_connect_by_path() {
    let directory = Directory::new("connect");
    let path = directory.0.join("socket");
    let listener = UnixListener::bind(&path).expect("bound");
    let client = spawn({
        let path = path.clone();
        move || {
            let stream = UnixStream::connect(path, limit())?;
            stream.send_all(b"hello", limit())?;
            stream.shutdown(Shutdown::Write)
        }
    });
    let (server, _) = listener.accept(limit()).expect("accepted");
    let mut hello = [0; 5];
    server.recv_exact(&mut hello, limit()).expect("received");
    assert_eq!(&hello, b"hello");
    finish(client).expect("connected");
    let error = UnixStream::connect(directory.0.join("none"), None).expect_err("no socket");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = UnixStream::connect("x".repeat(200), None).expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_backlog_of_a_unix_listener_is_waited_for() {
    let hub = Hub::with_clock(ManualClock::new());
    let directory = Directory::new("backlog");
    let path = directory.0.join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
    shorten_backlog(&listener);
    let first = UnixStream::connect(&path, None).expect("there is room for one");
    let timed = spawn({
        let path = path.clone();
        move || UnixStream::connect(path, Some(hub.deadline_after(ms(5)))).map(drop)
    });
    let patient = spawn(move || UnixStream::connect(path, None).map(drop));
    hub.advance(ms(6));
    assert_eq!(
        finish(timed).expect_err("no room").kind(),
        ErrorKind::TimedOut
    );
    assert!(!patient.is_finished());
    listener.accept().expect("the first one");
    hub.advance(ms(200));
    finish(patient).expect("there is room now");
    drop(first);
}

#[test]
fn unix_datagrams_arrive() {
    let (a, b) = UnixDatagram::pair().expect("a pair");
    let receiver = spawn(move || {
        let mut buffer = [0; 16];
        let count = b.recv(&mut buffer, limit())?;
        Ok::<_, io::Error>(buffer[..count].to_vec())
    });
    yield_now().expect("nobody kills");
    a.send(b"one", limit()).expect("sent");
    assert_eq!(finish(receiver).expect("received"), b"one");
}

#[test]
fn names_are_looked_up_and_numbers_taken_as_they_are() {
    let six = lookup("::1", 80).expect("a number");
    assert_eq!(six, ["[::1]:80".parse().expect("an address")]);
    let local = lookup("localhost", 80).expect("every host knows itself");
    assert!(local.iter().all(|address| address.ip().is_loopback()));
    assert!(!local.is_empty());
}
