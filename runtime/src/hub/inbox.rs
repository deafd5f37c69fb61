//! What other threads leave for a hub. The only way from one thread into another's coroutines.
//!
//! A fork may find another thread in the middle of a [`post`](Inbox::post). The child then cannot
//! use the list, whose lock nobody will ever give back, and begins with a new one.

use std::{
    collections::VecDeque,
    fmt, io,
    os::fd::{AsRawFd, RawFd},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use crossbeam::atomic::AtomicCell;
use parking_lot::Mutex;

use super::waker::Waker;
use crate::sys::WakeFd;

/// One thing for the hub to do.
pub(crate) enum Message {
    Wake(Waker),
    Call(Box<dyn FnOnce() + Send>),
}

type Messages = Mutex<VecDeque<Message>>;

/// The messages for one thread, and the fd that ends its sleep.
pub(crate) struct Inbox {
    messages: AtomicCell<&'static Messages>,
    /// A wake-up is under way; set by the first sender, cleared by the hub before it looks.
    notified: AtomicBool,
    wake_fd: OnceLock<WakeFd>,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("notified", &self.has_mail())
            .finish_non_exhaustive()
    }
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            messages: AtomicCell::new(Self::no_messages()),
            notified: AtomicBool::new(false),
            wake_fd: OnceLock::new(),
        }
    }

    /// An empty list, which lives as long as its thread's record: for ever.
    fn no_messages() -> &'static Messages {
        Box::leak(Box::default())
    }

    /// The fd to poll for, made on first use.
    pub(crate) fn wake_fd(&self) -> io::Result<RawFd> {
        if let Some(fd) = self.wake_fd.get() {
            return Ok(fd.as_raw_fd());
        }
        let fd = WakeFd::new()?;
        Ok(self.wake_fd.get_or_init(|| fd).as_raw_fd())
    }

    /// Makes it a forked child's own; the fd keeps its number.
    pub(crate) fn renew(&self) -> io::Result<RawFd> {
        if self.messages.load().try_lock().is_none() {
            self.messages.store(Self::no_messages());
        }
        if let Some(fd) = self.wake_fd.get() {
            fd.renew()?;
        }
        self.wake_fd()
    }

    /// Leaves a message; wakes the hub unless somebody did already.
    pub(crate) fn post(&self, message: Message) {
        self.messages.load().lock().push_back(message);
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
        self.messages.load().lock().pop_front()
    }

    /// Drops what nobody will handle any more.
    pub(crate) fn clear(&self) {
        let messages = std::mem::take(&mut *self.messages.load().lock());
        drop(messages);
        self.notified.store(false, Ordering::Release);
    }
}
