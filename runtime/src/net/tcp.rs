//! TCP listeners and connections.

#![forbid(unsafe_code)]

use std::{
    io,
    net::{self, Shutdown, SocketAddr},
};

use super::{Stream, retry::Socket};
use crate::{
    hub::{Deadline, Interest},
    sys,
};

/// A TCP connection.
pub type TcpStream = Stream<net::TcpStream>;

impl TcpStream {
    /// Connects to `address`.
    ///
    /// ```
    /// use rgevent_runtime::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0".parse().expect("an address"))?;
    /// let client = TcpStream::connect(listener.local_addr()?, None)?;
    /// let (server, _) = listener.accept(None)?;
    /// client.send_all(b"hello", None)?;
    /// let mut hello = [0; 5];
    /// server.recv_exact(&mut hello, None)?;
    /// assert_eq!(&hello, b"hello");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// What the operating system says, or `TimedOut`.
    pub fn connect(address: SocketAddr, deadline: Option<Deadline>) -> io::Result<Self> {
        let socket = Socket::new(net::TcpStream::from(sys::start_tcp(&address)?))?;
        socket.retry(Interest::WRITE, deadline, |io| match io.take_error()? {
            Some(error) => Err(error),
            None => match io.peer_addr() {
                // Still on its way: this is the wait that `connect` itself would have made.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                result => result.map(drop),
            },
        })?;
        Ok(Self { socket })
    }

    /// Takes over a connection of the standard library and makes it non-blocking.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn from_std(stream: net::TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            socket: Socket::new(stream)?,
        })
    }

    /// The address of this end.
    ///
    /// # Errors
    /// What the operating system says, or `NotConnected` when the socket is closed.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.with(net::TcpStream::local_addr)
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// As [`local_addr`](Self::local_addr).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.with(net::TcpStream::peer_addr)
    }

    /// Whether small writes leave at once instead of being collected.
    ///
    /// # Errors
    /// As [`local_addr`](Self::local_addr).
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.socket.with(|io| io.set_nodelay(on))
    }

    /// Ends one or both directions; the socket stays open.
    ///
    /// # Errors
    /// As [`local_addr`](Self::local_addr).
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.with(|io| io.shutdown(how))
    }
}

/// A TCP socket that accepts connections.
#[derive(Debug)]
pub struct TcpListener {
    socket: Socket<net::TcpListener>,
}

impl TcpListener {
    /// Listens on `address`; port 0 lets the operating system choose.
    ///
    /// # Errors
    /// What the operating system says; `AddrInUse` for a port that somebody listens on.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::from_std(net::TcpListener::bind(address)?)
    }

    /// Takes over a listener of the standard library and makes it non-blocking.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn from_std(listener: net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            socket: Socket::new(listener)?,
        })
    }

    /// Accepts a connection, waiting for one if need be.
    ///
    /// # Errors
    /// What the operating system says, `TimedOut`, or `NotConnected` when the listener is closed.
    pub fn accept(&self, deadline: Option<Deadline>) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, address) =
            self.socket
                .retry(Interest::READ, deadline, net::TcpListener::accept)?;
        Ok((TcpStream::from_std(stream)?, address))
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// What the operating system says, or `NotConnected` when the listener is closed.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.with(net::TcpListener::local_addr)
    }

    /// Closes the listener. Whoever waits for it fails; closing twice does nothing.
    pub fn close(&self) {
        self.socket.close();
    }
}
