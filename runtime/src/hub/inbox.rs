//! What other threads leave for a hub. The only way from one thread into another's coroutines.

use std::{
    fmt, io,
    os::fd::{AsRawFd, RawFd},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use crossbeam::queue::SegQueue;

use super::waker::Waker;
use crate::sys::WakeFd;

/// One thing for the hub to do.
pub(crate) enum Message {
    Wake(Waker),
    Call(Box<dyn FnOnce() + Send>),
}

/// The messages for one thread, and the fd that ends its sleep.
pub(crate) struct Inbox {
    messages: SegQueue<Message>,
    /// A wake-up is under way; set by the first sender, cleared by the hub before it looks.
    notified: AtomicBool,
    wake_fd: OnceLock<WakeFd>,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("messages", &self.messages.len())
            .finish()
    }
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            messages: SegQueue::new(),
            notified: AtomicBool::new(false),
            wake_fd: OnceLock::new(),
        }
    }

    /// The fd to poll for, made on first use.
    pub(crate) fn wake_fd(&self) -> io::Result<RawFd> {
        if let Some(fd) = self.wake_fd.get() {
            return Ok(fd.as_raw_fd());
        }
        let fd = WakeFd::new()?;
        Ok(self.wake_fd.get_or_init(|| fd).as_raw_fd())
    }

    /// Makes the fd a forked child's own, under the same number.
    pub(crate) fn renew(&self) -> io::Result<RawFd> {
        if let Some(fd) = self.wake_fd.get() {
            fd.renew()?;
        }
        self.wake_fd()
    }

    /// Leaves a message; wakes the hub unless somebody did already.
    pub(crate) fn post(&self, message: Message) {
        self.messages.push(message);
        if !self.notified.swap(true, Ordering::AcqRel)
            && let Some(fd) = self.wake_fd.get()
        {
            fd.notify();
        }
    }

    /// Whether something may be waiting to be taken.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        self.notified.load(Ordering::Acquire)
    }

    /// Called before a batch is taken: whoever posts after this wakes the hub again.
    pub(crate) fn begin(&self) {
        // A swap, not a store: it takes in what was posted before a notification it overwrites.
        self.notified.swap(false, Ordering::AcqRel);
    }

    /// Asks for another look: not everything was taken.
    pub(crate) fn mark(&self) {
        self.notified.store(true, Ordering::Release);
    }

    pub(crate) fn take(&self) -> Option<Message> {
        self.messages.pop()
    }

    /// Drops what nobody will handle any more.
    pub(crate) fn clear(&self) {
        while self.messages.pop().is_some() {}
        self.notified.store(false, Ordering::Release);
    }
}
