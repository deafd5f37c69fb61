//! Sockets that are connected without waiting. The standard library only has the waiting kind.

use std::{
    ffi::OsStr,
    io, mem,
    net::SocketAddr,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use super::check;

/// A non-blocking, close-on-exec stream socket.
fn stream_socket(family: libc::c_int) -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    #[cfg(not(target_os = "linux"))]
    let kind = libc::SOCK_STREAM;
    // SAFETY: socket has no preconditions.
    let fd = check(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: the fd was just made and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    #[cfg(not(target_os = "linux"))]
    {
        // SAFETY: the fd is open.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
        // SAFETY: as above.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
        let on: libc::c_int = 1;
        // SAFETY: the option is an int, and one of ours is given with its size.
        check(unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NOSIGPIPE,
                std::ptr::from_ref(&on).cast(),
                mem::size_of::<libc::c_int>() as libc::socklen_t,
            )
        })?;
    }
    Ok(fd)
}

/// Calls `connect` with an address of the family's own type.
fn connect<A>(fd: BorrowedFd<'_>, address: &A, bytes: usize) -> io::Result<()> {
    debug_assert!(bytes <= mem::size_of::<A>());
    // SAFETY: the pointer is to an initialised address of at least `bytes` bytes, and the kernel
    // tells its type by the family in it.
    check(unsafe {
        libc::connect(
            fd.as_raw_fd(),
            std::ptr::from_ref(address).cast(),
            bytes as libc::socklen_t,
        )
    })
    .map(drop)
}

/// A TCP socket on its way to `address`. Whether that has worked is known once it is writable.
pub(crate) fn start_tcp(address: &SocketAddr) -> io::Result<OwnedFd> {
    let fd;
    let started = match address {
        SocketAddr::V4(v4) => {
            fd = stream_socket(libc::AF_INET)?;
            // SAFETY: the type is plain numbers, for which zero is a value.
            let mut raw: libc::sockaddr_in = unsafe { mem::zeroed() };
            raw.sin_family = libc::AF_INET as libc::sa_family_t;
            raw.sin_port = v4.port().to_be();
            raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            connect(fd.as_fd(), &raw, mem::size_of_val(&raw))
        }
        SocketAddr::V6(v6) => {
            fd = stream_socket(libc::AF_INET6)?;
            // SAFETY: as above.
            let mut raw: libc::sockaddr_in6 = unsafe { mem::zeroed() };
            raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            raw.sin6_port = v6.port().to_be();
            raw.sin6_flowinfo = v6.flowinfo();
            raw.sin6_addr.s6_addr = v6.ip().octets();
            raw.sin6_scope_id = v6.scope_id();
            connect(fd.as_fd(), &raw, mem::size_of_val(&raw))
        }
    };
    match started {
        Ok(()) => Ok(fd),
        // An interrupted connect goes on by itself.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => {
            Ok(fd)
        }
        Err(error) => Err(error),
    }
}

/// A Unix stream socket connected to `path`.
///
/// # Errors
/// `WouldBlock` when the listener's backlog is full; nothing will say when it no longer is.
pub(crate) fn connect_unix(path: &Path) -> io::Result<OwnedFd> {
    let name = OsStr::as_bytes(path.as_os_str());
    // SAFETY: the type is plain numbers, for which zero is a value.
    let mut raw: libc::sockaddr_un = unsafe { mem::zeroed() };
    // One byte stays zero: the end of the name.
    if name.is_empty() || name.contains(&0) || name.len() >= raw.sun_path.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path of a Unix socket is empty, too long, or has a zero byte",
        ));
    }
    raw.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (place, byte) in raw.sun_path.iter_mut().zip(name) {
        *place = *byte as libc::c_char;
    }
    let fd = stream_socket(libc::AF_UNIX)?;
    let bytes = mem::offset_of!(libc::sockaddr_un, sun_path) + name.len() + 1;
    connect(fd.as_fd(), &raw, bytes)?;
    Ok(fd)
}
