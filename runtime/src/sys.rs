//! Every call into libc.
//!
//! Each function here is safe to call: it checks or owns what its system call needs, and turns
//! `-1` into [`io::Error`]. The rest of the crate never names `libc` functions.

pub(crate) mod fault;
mod socket;

use std::{
    io, mem,
    num::NonZeroUsize,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

pub(crate) use socket::{connect_unix, start_tcp};

/// Advice number of `MADV_GUARD_INSTALL` (Linux 6.13); libc does not name it everywhere yet.
#[cfg(target_os = "linux")]
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// Turns the `-1` convention into a result.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Size of a memory page in bytes. Systems with larger pages (16 KiB macOS, 64 KiB aarch64 kernels)
/// are handled by rounding everything to the largest one in use there.
#[cfg(not(any(target_arch = "aarch64", target_arch = "powerpc64")))]
pub(crate) const PAGE_BYTES: usize = 4 * 1024;
/// As above.
#[cfg(any(target_arch = "aarch64", target_arch = "powerpc64"))]
pub(crate) const PAGE_BYTES: usize = 64 * 1024;

/// Reserved, zeroed address space. It is never given back while the value lives.
#[derive(Debug)]
pub(crate) struct Reservation {
    start: NonZeroUsize,
    bytes: usize,
}

impl Reservation {
    /// Reserves `bytes` (a multiple of the page size) without committing memory.
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        #[cfg(target_os = "linux")]
        let flags = flags | libc::MAP_STACK;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing of ours.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        #[cfg(target_os = "linux")]
        {
            // Best effort: without it one touched page of a stack may become a 2 MiB huge page.
            // SAFETY: the range is the mapping made above.
            unsafe { libc::madvise(start, bytes, libc::MADV_NOHUGEPAGE) };
        }
        let start = NonZeroUsize::new(start as usize).expect("mmap never returns address 0");
        Ok(Self { start, bytes })
    }

    pub(crate) fn start(&self) -> usize {
        self.start.get()
    }

    /// Makes `[offset, offset + bytes)` fault on every access.
    pub(crate) fn guard(&self, offset: usize, bytes: usize) -> io::Result<()> {
        assert!(
            offset + bytes <= self.bytes,
            "the guard lies inside the mapping"
        );
        let address = (self.start.get() + offset) as *mut libc::c_void;
        #[cfg(target_os = "linux")]
        {
            // SAFETY: the range lies inside our own mapping, and nothing uses it yet.
            if unsafe { libc::madvise(address, bytes, MADV_GUARD_INSTALL) } == 0 {
                return Ok(());
            }
        }
        // Older kernels: a protection change, which splits the mapping in two.
        // SAFETY: as above.
        check(unsafe { libc::mprotect(address, bytes, libc::PROT_NONE) }).map(drop)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: the range is exactly what mmap returned, and the owner says nothing uses it.
        unsafe { libc::munmap(self.start.get() as *mut libc::c_void, self.bytes) };
    }
}

/// Gives the physical memory of `[start, start + bytes)` back; it reads as zeros afterwards.
///
/// # Safety
/// The range is page aligned, inside a live [`Reservation`], and its content is no longer needed.
pub(crate) unsafe fn release_pages(start: usize, bytes: usize) {
    // SAFETY: the caller's promise is madvise's requirement.
    unsafe { libc::madvise(start as *mut libc::c_void, bytes, libc::MADV_DONTNEED) };
}

/// Nanoseconds of the monotonic clock.
#[inline]
pub(crate) fn monotonic_ns() -> u64 {
    let mut now = mem::MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is to a timespec of our own; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr()) };
    // SAFETY: the call above filled it in.
    let now = unsafe { now.assume_init() };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// An fd that another thread writes to in order to wake a sleeping poll.
#[derive(Debug)]
pub(crate) struct WakeFd {
    read: OwnedFd,
    #[cfg(not(target_os = "linux"))]
    write: OwnedFd,
}

impl WakeFd {
    #[cfg(target_os = "linux")]
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: eventfd has no preconditions.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the fd was just made and nobody else owns it.
        let read = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { read })
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn new() -> io::Result<Self> {
        let mut fds = [0; 2];
        // SAFETY: the pointer is to two ints of our own.
        check(unsafe { libc::pipe(fds.as_mut_ptr()) })?;
        for fd in fds {
            // SAFETY: the fd was just made.
            check(unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) })?;
            // SAFETY: as above.
            check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
        }
        // SAFETY: the fd was just made and nobody else owns it.
        let read = unsafe { OwnedFd::from_raw_fd(fds[0]) };
        // SAFETY: as above.
        let write = unsafe { OwnedFd::from_raw_fd(fds[1]) };
        Ok(Self { read, write })
    }

    /// Replaces the open file behind the fd, keeping its number: a forked child shares the
    /// parent's otherwise.
    pub(crate) fn renew(&self) -> io::Result<()> {
        let fresh = Self::new()?;
        // SAFETY: both fds are open and ours; the old one is closed by the call.
        check(unsafe { libc::dup2(fresh.read.as_raw_fd(), self.read.as_raw_fd()) })?;
        // SAFETY: the fd is ours; dup2 does not keep close-on-exec.
        check(unsafe { libc::fcntl(self.read.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
        #[cfg(not(target_os = "linux"))]
        {
            // SAFETY: as above.
            check(unsafe { libc::dup2(fresh.write.as_raw_fd(), self.write.as_raw_fd()) })?;
            // SAFETY: as above.
            check(unsafe { libc::fcntl(self.write.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
        }
        Ok(())
    }

    /// Wakes the poll. Async-signal-safe.
    pub(crate) fn notify(&self) {
        #[cfg(target_os = "linux")]
        let fd = self.read.as_raw_fd();
        #[cfg(not(target_os = "linux"))]
        let fd = self.write.as_raw_fd();
        let one = 1u64.to_ne_bytes();
        // A full counter or pipe means that a wake-up is pending already, so errors do not matter.
        // SAFETY: the buffer is ours and eight bytes long.
        unsafe { libc::write(fd, one.as_ptr().cast(), one.len()) };
    }
}

impl AsRawFd for WakeFd {
    fn as_raw_fd(&self) -> RawFd {
        self.read.as_raw_fd()
    }
}

/// What an fd is ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// A read would not block (data, end of file or an error).
    pub readable: bool,
    /// A write would not block (space or an error).
    pub writable: bool,
}

/// Asks, without waiting, what `fd` is ready for. A bad fd answers with an error.
pub fn poll_now(fd: RawFd, read: bool, write: bool) -> io::Result<Readiness> {
    if fd < 0 {
        // The kernel would skip the entry.
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    let mut events = 0;
    if read {
        events |= libc::POLLIN;
    }
    if write {
        events |= libc::POLLOUT;
    }
    let mut entry = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    // SAFETY: one pollfd of our own.
    check(unsafe { libc::poll(&mut entry, 1, 0) })?;
    if entry.revents & libc::POLLNVAL != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    let broken = entry.revents & (libc::POLLERR | libc::POLLHUP) != 0;
    Ok(Readiness {
        readable: read && (broken || entry.revents & libc::POLLIN != 0),
        writable: write && (broken || entry.revents & libc::POLLOUT != 0),
    })
}
