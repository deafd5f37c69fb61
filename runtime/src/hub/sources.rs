//! The fds that coroutines wait for.
//!
//! Each has two lists of wakers. A readiness event wakes all of its direction: which of several
//! waiters gets the data is settled by their retries.

use std::{fmt, io, os::fd::RawFd};

use super::{
    Deadline, Hub, Waker,
    poller::{Interest, Poller, Ready},
};
use crate::{WaitError, sys};

/// Names one fd's entry for as long as it is not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceId {
    index: u32,
    generation: u32,
}

impl SourceId {
    fn key(self) -> usize {
        (self.generation as usize) << 32 | self.index as usize
    }

    fn from_key(key: usize) -> Self {
        Self {
            index: key as u32,
            generation: (key >> 32) as u32,
        }
    }
}

/// Why a wait for an fd failed.
#[derive(Debug)]
pub enum WaitFdError {
    /// The wait ended without readiness.
    Wait(WaitError),
    /// The operating system refused to watch the fd.
    Io(io::Error),
}

impl fmt::Display for WaitFdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for WaitFdError {}

impl From<WaitError> for WaitFdError {
    fn from(error: WaitError) -> Self {
        Self::Wait(error)
    }
}

impl From<io::Error> for WaitFdError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<WaitFdError> for io::Error {
    fn from(error: WaitFdError) -> Self {
        match error {
            WaitFdError::Wait(error) => error.into(),
            WaitFdError::Io(error) => error,
        }
    }
}

#[derive(Debug)]
struct Source {
    fd: RawFd,
    generation: u32,
    /// Ours, registered edge-triggered once; else borrowed, armed for each wait.
    kept: bool,
    registered: bool,
    in_use: bool,
    readers: Vec<Waker>,
    writers: Vec<Waker>,
}

impl Source {
    fn waiting(&self) -> Interest {
        Interest {
            read: !self.readers.is_empty(),
            write: !self.writers.is_empty(),
        }
    }
}

const NO_SOURCE: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(super) struct Sources {
    slots: Vec<Source>,
    free: Vec<u32>,
    /// Slot of each fd number; `NO_SOURCE` for none.
    by_fd: Vec<u32>,
    waiters: usize,
}

impl Sources {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    #[inline]
    pub(super) fn has_waiters(&self) -> bool {
        self.waiters > 0
    }

    fn add(&mut self, fd: RawFd, kept: bool) -> SourceId {
        let number = usize::try_from(fd).expect("an open fd is not negative");
        if self.by_fd.len() <= number {
            self.by_fd.resize(number + 1, NO_SOURCE);
        }
        if self.by_fd[number] != NO_SOURCE {
            // The number was closed behind our back, or is shared: the newcomer owns it from now.
            let old = self.id_at(self.by_fd[number]);
            self.remove(old, WaitError::Closed);
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Source {
                    fd,
                    generation: 0,
                    kept,
                    registered: false,
                    in_use: false,
                    readers: Vec::new(),
                    writers: Vec::new(),
                });
                u32::try_from(self.slots.len() - 1).expect("fds are fewer than four billion")
            }
        };
        let source = &mut self.slots[index as usize];
        debug_assert!(!source.in_use);
        source.fd = fd;
        source.kept = kept;
        source.registered = false;
        source.in_use = true;
        self.by_fd[number] = index;
        self.id_at(index)
    }

    fn id_at(&self, index: u32) -> SourceId {
        SourceId {
            index,
            generation: self.slots[index as usize].generation,
        }
    }

    fn has_room_for(&self, fd: RawFd) -> bool {
        usize::try_from(fd).is_ok_and(|number| number < self.by_fd.len())
    }

    fn find(&self, fd: RawFd) -> Option<SourceId> {
        let index = *self.by_fd.get(usize::try_from(fd).ok()?)?;
        (index != NO_SOURCE).then(|| self.id_at(index))
    }

    #[inline]
    fn get(&mut self, id: SourceId) -> Option<&mut Source> {
        let source = self.slots.get_mut(id.index as usize)?;
        (source.generation == id.generation && source.in_use).then_some(source)
    }

    /// Empties a slot; whoever waits there fails with `why`.
    fn remove(&mut self, id: SourceId, why: WaitError) -> bool {
        let Some(source) = self.get(id) else {
            return false;
        };
        source.in_use = false;
        source.generation = source.generation.wrapping_add(1);
        let fd = source.fd;
        let mut woken = 0;
        for waker in source.readers.drain(..).chain(source.writers.drain(..)) {
            waker.fail(why);
            woken += 1;
        }
        self.waiters -= woken;
        if let Some(slot) = self.by_fd.get_mut(fd as usize)
            && *slot == id.index
        {
            *slot = NO_SOURCE;
        }
        self.free.push(id.index);
        true
    }

    /// Makes sure the kernel will tell us about `interest`, and notes the waker.
    fn link(
        &mut self,
        poller: &Poller,
        id: SourceId,
        interest: Interest,
        waker: Waker,
    ) -> Result<(), WaitFdError> {
        let source = self.get(id).ok_or(WaitError::Closed)?;
        if source.kept {
            if !source.registered {
                poller.keep(source.fd, id.key(), Interest::BOTH)?;
                source.registered = true;
            }
        } else {
            let waiting = source.waiting();
            let wanted = Interest {
                read: waiting.read || interest.read,
                write: waiting.write || interest.write,
            };
            poller.arm_once(source.fd, id.key(), wanted)?;
        }
        let mut added = 0;
        if interest.read {
            source.readers.push(waker);
            added += 1;
        }
        if interest.write {
            source.writers.push(waker);
            added += 1;
        }
        self.waiters += added;
        Ok(())
    }

    /// Takes a waker out again, wherever it still is. A borrowed fd nobody waits for is forgotten.
    fn unlink(&mut self, id: SourceId, waker: Waker) {
        let Some(source) = self.get(id) else {
            return;
        };
        let before = source.readers.len() + source.writers.len();
        source.readers.retain(|other| *other != waker);
        source.writers.retain(|other| *other != waker);
        let after = source.readers.len() + source.writers.len();
        let forget = !source.kept && after == 0;
        self.waiters -= before - after;
        if forget {
            self.remove(id, WaitError::Closed);
        }
    }

    /// Wakes the waiters of one event; events of an old generation are dropped.
    pub(super) fn wake(&mut self, poller: &Poller, ready: Ready) {
        let id = SourceId::from_key(ready.key);
        let Some(source) = self.get(id) else {
            return;
        };
        let mut woken = 0;
        if ready.readable {
            for waker in source.readers.drain(..) {
                waker.wake();
                woken += 1;
            }
        }
        if ready.writable {
            for waker in source.writers.drain(..) {
                waker.wake();
                woken += 1;
            }
        }
        if !source.kept {
            let rest = source.waiting();
            if (rest.read || rest.write) && poller.arm_once(source.fd, id.key(), rest).is_err() {
                // The fd is gone: let everybody find out by retrying.
                for waker in source.readers.drain(..).chain(source.writers.drain(..)) {
                    waker.wake();
                    woken += 1;
                }
            }
        }
        self.waiters -= woken;
    }

    /// Arms a kept fd anew for somebody who has not just seen `EAGAIN`: the edge may have been used
    /// up, or the number may be another file's by now, closed behind our back.
    fn register_kept_again(&mut self, poller: &Poller, id: SourceId) -> io::Result<()> {
        match self.get(id) {
            Some(source) if source.kept && source.registered => {
                poller.keep_again(source.fd, id.key(), Interest::BOTH)
            }
            _ => Ok(()),
        }
    }

    /// Registers everything with a new poller.
    pub(super) fn register_again(&mut self, poller: &Poller) -> io::Result<()> {
        for index in 0..self.slots.len() {
            let id = self.id_at(index as u32);
            let source = &mut self.slots[index];
            source.registered = false;
            let waiting = source.waiting();
            if !source.in_use || !(waiting.read || waiting.write) {
                continue;
            }
            if source.kept {
                poller.keep(source.fd, id.key(), Interest::BOTH)?;
                source.registered = true;
            } else {
                poller.arm_once(source.fd, id.key(), waiting)?;
            }
        }
        Ok(())
    }
}

impl Hub {
    /// Enters a socket of ours, non-blocking and open until [`remove_source`](Self::remove_source).
    pub fn add_source(&self, fd: RawFd) -> SourceId {
        self.sources.borrow_mut().add(fd, true)
    }

    /// Forgets a source, before its fd is closed or given away. Whoever waits for it fails with
    /// [`WaitError::Closed`]. False when it was removed before.
    pub fn remove_source(&self, id: SourceId) -> bool {
        self.sources.borrow_mut().remove(id, WaitError::Closed)
    }

    /// Whoever waits for the fd fails with [`WaitError::Closed`]; for fds closed by somebody else.
    pub fn cancel_fd(&self, fd: RawFd) {
        let mut sources = self.sources.borrow_mut();
        if let Some(id) = sources.find(fd) {
            sources.remove(id, WaitError::Closed);
        }
    }

    /// Waits for a source, after an attempt on it has just said `EAGAIN`.
    ///
    /// # Errors
    /// As [`park`](Self::park), `Closed` when the source is removed, or what the kernel says.
    pub fn wait_source(
        &'static self,
        id: SourceId,
        interest: Interest,
        deadline: Option<Deadline>,
    ) -> Result<(), WaitFdError> {
        let waker = self.prepare();
        let linked = match &*self.poller.borrow() {
            Some(poller) => self.sources.borrow_mut().link(poller, id, interest, waker),
            None => Err(WaitError::Closed.into()),
        };
        if let Err(error) = linked {
            self.abort_park();
            self.sources.borrow_mut().unlink(id, waker);
            return Err(error);
        }
        let outcome = self.park(waker, deadline);
        self.sources.borrow_mut().unlink(id, waker);
        Ok(outcome?)
    }

    /// Waits until `fd`, which belongs to somebody else, is ready. Looks first.
    ///
    /// # Errors
    /// As [`wait_source`](Self::wait_source).
    pub fn wait_fd(
        &'static self,
        fd: RawFd,
        interest: Interest,
        deadline: Option<Deadline>,
    ) -> Result<(), WaitFdError> {
        let ready = sys::poll_now(fd, interest.read, interest.write)?;
        if ready.readable || ready.writable {
            return Ok(());
        }
        let id = self.source_of(fd)?;
        self.wait_source(id, interest, deadline)
    }

    /// Waits until one of several fds is ready. The caller has looked, and looks again afterwards.
    ///
    /// # Errors
    /// As [`wait_source`](Self::wait_source).
    pub fn wait_fds(
        &'static self,
        fds: &[(RawFd, Interest)],
        deadline: Option<Deadline>,
    ) -> Result<(), WaitFdError> {
        let waker = self.prepare();
        let mut linked: Vec<SourceId> = Vec::with_capacity(fds.len());
        let mut failure = None;
        if let Some(poller) = &*self.poller.borrow() {
            for &(fd, interest) in fds {
                let link = self
                    .source_of(fd)
                    .map_err(WaitFdError::from)
                    .and_then(|id| {
                        linked.push(id);
                        self.sources.borrow_mut().link(poller, id, interest, waker)
                    });
                if let Err(error) = link {
                    failure = Some(error);
                    break;
                }
            }
        }
        let outcome = match failure {
            None => self.park(waker, deadline).map_err(WaitFdError::from),
            Some(error) => {
                self.abort_park();
                Err(error)
            }
        };
        let mut sources = self.sources.borrow_mut();
        for id in linked {
            sources.unlink(id, waker);
        }
        outcome
    }

    /// The entry of an fd, as a borrowed one if it has none.
    fn source_of(&self, fd: RawFd) -> io::Result<SourceId> {
        let mut sources = self.sources.borrow_mut();
        if let Some(id) = sources.find(fd) {
            if let Some(poller) = &*self.poller.borrow() {
                sources.register_kept_again(poller, id)?;
            }
            return Ok(id);
        }
        if !sources.has_room_for(fd) {
            // Only an fd that is open may make the table grow.
            sys::poll_now(fd, false, false)?;
        }
        Ok(sources.add(fd, false))
    }
}
