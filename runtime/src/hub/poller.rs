//! Readiness of fds. The only file that knows what the kernel offers.
//!
//! Registration goes through `polling`, which knows every platform. On Linux we wait on its epoll
//! fd ourselves: its own `wait` makes two to four more system calls per sleep (a timerfd, a read of
//! its eventfd, a re-arm), and our wake-up fd is registered edge-triggered, so it is never read.
//!
//! Two kinds of registration:
//! * *kept*: a socket of ours, edge-triggered in both directions, registered once. A wait that has
//!   just seen `EAGAIN` needs no system call. Any other wait must look first ([`crate::poll_now`]),
//!   since the edge may have been used up.
//! * *one-shot*: an fd that belongs to somebody else, armed for each wait.
//!
//! Every event carries the key it was registered with, which holds a generation. A duplicate of a
//! closed fd, or a forked child, can keep a dead registration alive in the kernel: its events name
//! an old generation and are dropped.

use std::{
    io,
    os::fd::{BorrowedFd, RawFd},
};

use polling::PollMode;

/// Events taken from the kernel at once.
pub(super) const EVENTS_PER_POLL_MAX: usize = 256;

/// Key of the inbox's wake-up fd. `usize::MAX` is `polling`'s own.
pub(super) const INBOX_KEY: usize = usize::MAX - 1;

/// One readiness event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    pub(super) key: usize,
    pub(super) readable: bool,
    pub(super) writable: bool,
}

/// Which directions an fd is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// Data, end of file, a connection to accept.
    pub read: bool,
    /// Space for more, a finished connect.
    pub write: bool,
}

impl Interest {
    /// Reading only.
    pub const READ: Self = Self {
        read: true,
        write: false,
    };
    /// Writing only.
    pub const WRITE: Self = Self {
        read: false,
        write: true,
    };
    /// Either direction.
    pub const BOTH: Self = Self {
        read: true,
        write: true,
    };

    fn event(self, key: usize) -> polling::Event {
        polling::Event::new(key, self.read, self.write)
    }
}

pub(super) struct Poller {
    poller: polling::Poller,
    #[cfg(target_os = "linux")]
    buffer: Vec<libc::epoll_event>,
    #[cfg(not(target_os = "linux"))]
    buffer: polling::Events,
}

impl Poller {
    /// A poller that also wakes up when `inbox_fd` becomes readable.
    pub(super) fn new(inbox_fd: RawFd) -> io::Result<Self> {
        let poller = polling::Poller::new()?;
        let poller = Self {
            poller,
            #[cfg(target_os = "linux")]
            buffer: Vec::with_capacity(EVENTS_PER_POLL_MAX),
            #[cfg(not(target_os = "linux"))]
            buffer: polling::Events::with_capacity(
                EVENTS_PER_POLL_MAX.try_into().expect("not zero"),
            ),
        };
        poller.keep(inbox_fd, INBOX_KEY, Interest::READ)?;
        Ok(poller)
    }

    /// Registers an fd edge-triggered, for as long as it is open.
    pub(super) fn keep(&self, fd: RawFd, key: usize, interest: Interest) -> io::Result<()> {
        let add = || {
            // SAFETY: an fd that is closed while registered leaves the poller by itself (epoll) or
            // is re-registered under a new generation; events of an old one are dropped by key.
            unsafe {
                self.poller
                    .add_with_mode(fd, interest.event(key), PollMode::Edge)
            }
        };
        match add() {
            // Another registration of the same open file, of an fd that was borrowed before.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                self.delete(fd);
                add()
            }
            result => result,
        }
    }

    /// Arms a kept fd anew, so that what is ready now is reported; registers it if it is not.
    pub(super) fn keep_again(&self, fd: RawFd, key: usize, interest: Interest) -> io::Result<()> {
        // SAFETY: the caller keeps the fd open during the call.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        let event = interest.event(key);
        match self
            .poller
            .modify_with_mode(borrowed, event, PollMode::Edge)
        {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.keep(fd, key, interest),
            result => result,
        }
    }

    /// Arms a borrowed fd for one event.
    pub(super) fn arm_once(&self, fd: RawFd, key: usize, interest: Interest) -> io::Result<()> {
        // SAFETY: the caller keeps the fd open during the call.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        let event = interest.event(key);
        match self
            .poller
            .modify_with_mode(borrowed, event, PollMode::Oneshot)
        {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // SAFETY: as in `keep`.
                unsafe { self.poller.add_with_mode(fd, event, PollMode::Oneshot) }
            }
            result => result,
        }
    }

    /// Forgets an fd. It may be closed already.
    pub(super) fn delete(&self, fd: RawFd) {
        // SAFETY: only the number is used, and a wrong number is an error that does not matter.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        let _ = self.poller.delete(borrowed);
    }

    /// Waits for events: at most `timeout_ns`, without limit for None, not at all for 0.
    ///
    /// # Errors
    /// `Interrupted` when a signal ended the wait.
    #[cfg(target_os = "linux")]
    pub(super) fn wait(&mut self, timeout_ns: Option<u64>) -> io::Result<()> {
        use std::{
            os::fd::AsRawFd,
            ptr,
            sync::atomic::{AtomicBool, Ordering},
        };

        /// Cleared when the kernel (before 5.11) or a sandbox does not know `epoll_pwait2`.
        static HAS_PWAIT2: AtomicBool = AtomicBool::new(true);

        self.buffer.clear();
        let epoll = self.poller.as_raw_fd();
        let room = EVENTS_PER_POLL_MAX as libc::c_int;
        let count;
        // Zero and infinity need no precision, and the old call is a little cheaper.
        let precise = timeout_ns.is_some_and(|ns| ns != 0) && HAS_PWAIT2.load(Ordering::Relaxed);
        if let Some(ns) = timeout_ns.filter(|_| precise) {
            let timeout = libc::timespec {
                tv_sec: (ns / 1_000_000_000) as libc::time_t,
                tv_nsec: (ns % 1_000_000_000) as libc::c_long,
            };
            // Called by number: the wrapper is missing from older C libraries.
            // SAFETY: the buffer has room for `room` events; the timespec is ours; no signal mask.
            count = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    epoll,
                    self.buffer.as_mut_ptr(),
                    room,
                    ptr::from_ref(&timeout),
                    ptr::null::<libc::sigset_t>(),
                    0usize,
                )
            } as libc::c_int;
            if count == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
                HAS_PWAIT2.store(false, Ordering::Relaxed);
                return self.wait(timeout_ns);
            }
        } else {
            let milliseconds = match timeout_ns {
                None => -1,
                // Rounded up: waking too early would spin.
                Some(ns) => ns.div_ceil(1_000_000).min(i32::MAX as u64) as libc::c_int,
            };
            // SAFETY: the buffer has room for `room` events.
            count =
                unsafe { libc::epoll_wait(epoll, self.buffer.as_mut_ptr(), room, milliseconds) };
        }
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: the kernel filled in `count` events.
        unsafe { self.buffer.set_len(count) };
        Ok(())
    }

    /// As above, through `polling`.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn wait(&mut self, timeout_ns: Option<u64>) -> io::Result<()> {
        self.buffer.clear();
        let timeout = timeout_ns.map(std::time::Duration::from_nanos);
        self.poller.wait(&mut self.buffer, timeout).map(drop)
    }

    /// The events of the last wait.
    #[cfg(target_os = "linux")]
    pub(super) fn events(&self) -> impl Iterator<Item = Ready> + '_ {
        const BROKEN: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
        self.buffer.iter().map(|event| {
            let flags = event.events;
            Ready {
                key: event.u64 as usize,
                readable: flags & (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLPRI) as u32 != 0
                    || flags & BROKEN != 0,
                writable: flags & libc::EPOLLOUT as u32 != 0 || flags & BROKEN != 0,
            }
        })
    }

    /// As above.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn events(&self) -> impl Iterator<Item = Ready> + '_ {
        self.buffer.iter().map(|event| Ready {
            key: event.key,
            readable: event.readable,
            writable: event.writable,
        })
    }
}
