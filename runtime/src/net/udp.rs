//! UDP sockets.

#![forbid(unsafe_code)]

use std::{
    io,
    net::{self, SocketAddr},
};

use super::retry::Socket;
use crate::hub::{Deadline, Interest};

/// A UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket<net::UdpSocket>,
}

impl UdpSocket {
    /// A socket with an address of its own; port 0 lets the operating system choose.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::from_std(net::UdpSocket::bind(address)?)
    }

    /// Takes over a socket of the standard library and makes it non-blocking.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn from_std(socket: net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: Socket::new(socket)?,
        })
    }

    /// Chooses the peer of [`send`](Self::send) and [`recv`](Self::recv). Does not wait.
    ///
    /// # Errors
    /// What the operating system says, or `NotConnected` when the socket is closed.
    pub fn connect(&self, peer: SocketAddr) -> io::Result<()> {
        self.socket.with(|io| io.connect(peer))
    }

    /// Sends a datagram to the peer.
    ///
    /// # Errors
    /// What the operating system says, `TimedOut`, or `NotConnected` when the socket is closed.
    pub fn send(&self, bytes: &[u8], deadline: Option<Deadline>) -> io::Result<usize> {
        self.socket
            .retry(Interest::WRITE, deadline, |io| io.send(bytes))
    }

    /// Sends a datagram to `address`.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_to(
        &self,
        bytes: &[u8],
        address: SocketAddr,
        deadline: Option<Deadline>,
    ) -> io::Result<usize> {
        self.socket
            .retry(Interest::WRITE, deadline, |io| io.send_to(bytes, address))
    }

    /// Receives a datagram of the peer; what does not fit into the buffer is lost.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn recv(&self, buffer: &mut [u8], deadline: Option<Deadline>) -> io::Result<usize> {
        self.socket
            .retry(Interest::READ, deadline, |io| io.recv(buffer))
    }

    /// Receives a datagram, and says from whom; what does not fit into the buffer is lost.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn recv_from(
        &self,
        buffer: &mut [u8],
        deadline: Option<Deadline>,
    ) -> io::Result<(usize, SocketAddr)> {
        self.socket
            .retry(Interest::READ, deadline, |io| io.recv_from(buffer))
    }

    /// Its own address.
    ///
    /// # Errors
    /// What the operating system says, or `NotConnected` when the socket is closed.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.with(net::UdpSocket::local_addr)
    }

    /// Closes the socket. Whoever waits for it fails; closing twice does nothing.
    pub fn close(&self) {
        self.socket.close();
    }
}
