//! Try, wait, try again: what every socket call is made of.
//!
//! Invariant: the socket is borrowed during an attempt and never during a wait, so that another
//! coroutine can close it then.

#![forbid(unsafe_code)]

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::{AsFd, AsRawFd},
};

use crate::{
    WaitError,
    coroutine::Thread,
    hub::{Deadline, Hub, Interest, SourceId},
};

/// Calls that may succeed one after the other before the others get a turn.
///
/// A system call is around a microsecond: a turn stays far below the time of a tick.
const CALLS_PER_TURN_MAX: u32 = 16;

thread_local! {
    /// Calls of this thread since one of them had to wait.
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

/// Makes a non-blocking call until it says something other than `WouldBlock`, waiting for the
/// source in between.
///
/// A coroutine whose calls keep succeeding gives the others a turn every now and then, *before* the
/// call, so that no result is lost to a kill. Attempts that a signal interrupts are repeated.
///
/// # Errors
/// What the call says, and as [`Hub::wait_source`].
#[inline]
pub fn retry<R>(
    hub: &'static Hub,
    source: SourceId,
    interest: Interest,
    deadline: Option<Deadline>,
    mut call: impl FnMut() -> io::Result<R>,
) -> io::Result<R> {
    let calls = CALLS.get();
    if calls >= CALLS_PER_TURN_MAX {
        give_a_turn(hub)?;
    } else {
        CALLS.set(calls + 1);
    }
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                CALLS.set(0);
                hub.wait_source(source, interest, deadline)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cold]
fn give_a_turn(hub: &'static Hub) -> io::Result<()> {
    CALLS.set(0);
    match hub.yield_now() {
        Err(WaitError::Killed) => Err(WaitError::Killed.into()),
        // Nothing was waited for, so being resumed early, or being the hub, does not matter.
        _ => Ok(()),
    }
}

/// A non-blocking socket of the standard library and its entry in the hub.
#[derive(Debug)]
pub(super) struct Socket<S> {
    hub: &'static Hub,
    source: SourceId,
    /// Empty once closed.
    io: RefCell<Option<S>>,
}

impl<S: AsFd> Socket<S> {
    /// Takes over a socket that is non-blocking already.
    pub(super) fn new(io: S) -> io::Result<Self> {
        let hub = Thread::current_or_new().hub()?;
        let source = hub.add_source(io.as_fd().as_raw_fd());
        Ok(Self {
            hub,
            source,
            io: RefCell::new(Some(io)),
        })
    }

    /// Calls `function` with the socket; fails when it is closed.
    #[inline]
    pub(super) fn with<R>(&self, function: impl FnOnce(&S) -> io::Result<R>) -> io::Result<R> {
        match &*self.io.borrow() {
            Some(io) => function(io),
            None => Err(WaitError::Closed.into()),
        }
    }

    /// See [`retry`].
    #[inline]
    pub(super) fn retry<R>(
        &self,
        interest: Interest,
        deadline: Option<Deadline>,
        mut call: impl FnMut(&S) -> io::Result<R>,
    ) -> io::Result<R> {
        retry(self.hub, self.source, interest, deadline, || {
            self.with(&mut call)
        })
    }
}

impl<S> Socket<S> {
    /// Closes the socket; whoever waits for it fails. Closing twice does nothing.
    pub(super) fn close(&self) {
        // Forgotten first: the number may be somebody else's as soon as it is closed.
        self.hub.remove_source(self.source);
        drop(self.io.take());
    }
}

impl<S> Drop for Socket<S> {
    fn drop(&mut self) {
        self.close();
    }
}
