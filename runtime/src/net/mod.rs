//! Sockets that park the calling coroutine where the standard library's would block the thread.
//!
//! Each is one of the standard library's types, made non-blocking, and the hub's entry for its fd.
//! Every call takes a deadline of its own; there is no timeout hidden in the socket. A socket can be
//! used by several coroutines at once, and closed by one while others wait: they fail with
//! [`NotConnected`](std::io::ErrorKind::NotConnected), which holds
//! [`WaitError::Closed`](crate::WaitError::Closed).
//!
//! A socket belongs to the thread it was made on.

mod lookup;
mod retry;
mod stream;
mod tcp;
mod udp;
mod unix;

pub use lookup::lookup;
pub use retry::retry;
pub use stream::Stream;
pub use tcp::{TcpListener, TcpStream};
pub use udp::UdpSocket;
pub use unix::{UnixDatagram, UnixListener, UnixStream};
