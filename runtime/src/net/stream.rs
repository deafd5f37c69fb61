//! What TCP and Unix connections have in common: bytes in, bytes out.

#![forbid(unsafe_code)]

use std::{
    io::{self, Read, Write},
    os::fd::AsFd,
};

use super::retry::Socket;
use crate::hub::{Deadline, Interest};

/// A connection: [`TcpStream`](super::TcpStream) or [`UnixStream`](super::UnixStream).
///
/// It is also [`Read`] and [`Write`] (as is a reference to it), without deadlines.
///
/// ```compile_fail
/// fn needs_send<T: Send>() {}
/// needs_send::<rgevent_runtime::net::TcpStream>();
/// ```
#[derive(Debug)]
pub struct Stream<S> {
    pub(super) socket: Socket<S>,
}

impl<S> Stream<S>
where
    S: AsFd,
    for<'a> &'a S: Read + Write,
{
    /// Receives some bytes, 0 at the end of the stream, waiting until there are any.
    ///
    /// # Errors
    /// What the operating system says, `TimedOut`, or `NotConnected` when the socket is closed.
    #[inline]
    pub fn recv(&self, buffer: &mut [u8], deadline: Option<Deadline>) -> io::Result<usize> {
        self.socket
            .retry(Interest::READ, deadline, |mut io| io.read(buffer))
    }

    /// Receives as many bytes as the buffer is long.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and `UnexpectedEof` when the stream ends before. How many bytes had
    /// arrived is not known then.
    pub fn recv_exact(&self, buffer: &mut [u8], deadline: Option<Deadline>) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.recv(&mut buffer[filled..], deadline)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        Ok(())
    }

    /// Sends some of the bytes, waiting until there is space; says how many.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    #[inline]
    pub fn send(&self, bytes: &[u8], deadline: Option<Deadline>) -> io::Result<usize> {
        self.socket
            .retry(Interest::WRITE, deadline, |mut io| io.write(bytes))
    }

    /// Sends all of the bytes.
    ///
    /// # Errors
    /// As [`recv`](Self::recv). How many bytes had left is not known then.
    pub fn send_all(&self, mut bytes: &[u8], deadline: Option<Deadline>) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.send(bytes, deadline)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => bytes = &bytes[count..],
            }
        }
        Ok(())
    }

    /// Closes the connection. Whoever waits for it fails; closing twice does nothing.
    pub fn close(&self) {
        self.socket.close();
    }
}

impl<S> Read for &Stream<S>
where
    S: AsFd,
    for<'a> &'a S: Read + Write,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.recv(buffer, None)
    }
}

impl<S> Write for &Stream<S>
where
    S: AsFd,
    for<'a> &'a S: Read + Write,
{
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes, None)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S> Read for Stream<S>
where
    S: AsFd,
    for<'a> &'a S: Read + Write,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.recv(buffer, None)
    }
}

impl<S> Write for Stream<S>
where
    S: AsFd,
    for<'a> &'a S: Read + Write,
{
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes, None)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
