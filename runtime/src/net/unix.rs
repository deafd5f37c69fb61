//! Unix sockets.

#![forbid(unsafe_code)]

use std::{
    io,
    net::Shutdown,
    os::unix::net::{self, SocketAddr},
    path::Path,
    time::Duration,
};

use super::{Stream, retry::Socket};
use crate::{
    WaitError,
    coroutine::Thread,
    hub::{Deadline, Interest},
    sys,
};

/// A Unix stream connection.
pub type UnixStream = Stream<net::UnixStream>;

/// Time between attempts to connect to a listener whose backlog is full, at first and at most.
const CONNECT_PAUSE_MIN: Duration = Duration::from_millis(1);
const CONNECT_PAUSE_MAX: Duration = Duration::from_millis(50);

impl UnixStream {
    /// Connects to the listener at `path`.
    ///
    /// While its backlog is full the attempt is repeated after a pause: the kernel, which lets a
    /// blocking caller wait in line, does not say when there is room again.
    ///
    /// # Errors
    /// What the operating system says, or `TimedOut`.
    pub fn connect(path: impl AsRef<Path>, deadline: Option<Deadline>) -> io::Result<Self> {
        let path = path.as_ref();
        let mut pause = CONNECT_PAUSE_MIN;
        loop {
            match sys::connect_unix(path) {
                Ok(fd) => {
                    return Ok(Self {
                        socket: Socket::new(net::UnixStream::from(fd))?,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    pause_until_retry(pause, deadline)?;
                    pause = (2 * pause).min(CONNECT_PAUSE_MAX);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Two sockets connected to each other.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = net::UnixStream::pair()?;
        Ok((Self::from_std(a)?, Self::from_std(b)?))
    }

    /// Takes over a connection of the standard library and makes it non-blocking.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn from_std(stream: net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            socket: Socket::new(stream)?,
        })
    }

    /// Ends one or both directions; the socket stays open.
    ///
    /// # Errors
    /// What the operating system says, or `NotConnected` when the socket is closed.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.with(|io| io.shutdown(how))
    }
}

/// Parks for `pause`, or until the deadline if that comes first.
fn pause_until_retry(pause: Duration, deadline: Option<Deadline>) -> io::Result<()> {
    let hub = Thread::current_or_new().hub()?;
    let next = hub.deadline_after(pause);
    let waker = hub.prepare();
    match hub.park(
        waker,
        Some(deadline.map_or(next, |deadline| deadline.min(next))),
    ) {
        Err(WaitError::TimedOut) if deadline.is_none_or(|deadline| next < deadline) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(()),
    }
}

/// A Unix stream socket that accepts connections.
#[derive(Debug)]
pub struct UnixListener {
    socket: Socket<net::UnixListener>,
}

impl UnixListener {
    /// Listens at `path`, which must not exist.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::from_std(net::UnixListener::bind(path)?)
    }

    /// Takes over a listener of the standard library and makes it non-blocking.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn from_std(listener: net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            socket: Socket::new(listener)?,
        })
    }

    /// Accepts a connection, waiting for one if need be.
    ///
    /// # Errors
    /// What the operating system says, `TimedOut`, or `NotConnected` when the listener is closed.
    pub fn accept(&self, deadline: Option<Deadline>) -> io::Result<(UnixStream, SocketAddr)> {
        let (stream, address) =
            self.socket
                .retry(Interest::READ, deadline, net::UnixListener::accept)?;
        Ok((UnixStream::from_std(stream)?, address))
    }

    /// Closes the listener. Whoever waits for it fails; closing twice does nothing. The path stays.
    pub fn close(&self) {
        self.socket.close();
    }
}

/// A Unix datagram socket.
#[derive(Debug)]
pub struct UnixDatagram {
    socket: Socket<net::UnixDatagram>,
}

impl UnixDatagram {
    /// A socket at `path`, which must not exist.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::from_std(net::UnixDatagram::bind(path)?)
    }

    /// Two sockets connected to each other.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = net::UnixDatagram::pair()?;
        Ok((Self::from_std(a)?, Self::from_std(b)?))
    }

    /// Takes over a socket of the standard library and makes it non-blocking.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn from_std(socket: net::UnixDatagram) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: Socket::new(socket)?,
        })
    }

    /// Sends a datagram to the peer, waiting while its queue is full.
    ///
    /// # Errors
    /// What the operating system says, `TimedOut`, or `NotConnected` when the socket is closed.
    pub fn send(&self, bytes: &[u8], deadline: Option<Deadline>) -> io::Result<usize> {
        self.socket
            .retry(Interest::WRITE, deadline, |io| io.send(bytes))
    }

    /// Receives a datagram; what does not fit into the buffer is lost.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn recv(&self, buffer: &mut [u8], deadline: Option<Deadline>) -> io::Result<usize> {
        self.socket
            .retry(Interest::READ, deadline, |io| io.recv(buffer))
    }

    /// Closes the socket. Whoever waits for it fails; closing twice does nothing. The path stays.
    pub fn close(&self) {
        self.socket.close();
    }
}
