//! Names to addresses.

#![forbid(unsafe_code)]

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
};

use crate::{blocking, coroutine::Thread};

/// The addresses of a host, by the system's resolver on a native thread. A numeric address is taken
/// as it is, at once.
///
/// # Errors
/// What the resolver says, or as [`blocking::run`].
pub fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let hub = Thread::current_or_new().hub()?;
    let host = host.to_owned();
    blocking::run(hub, move || {
        (host.as_str(), port)
            .to_socket_addrs()
            .map(Iterator::collect)
    })?
}
