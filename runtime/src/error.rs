//! Why a wait ended without its condition.
//!
//! The operating system already has an error type: calls that reach it pass [`std::io::Error`]
//! through. What is left is the small set of reasons that only a green-thread runtime has.

use std::{error::Error, fmt, io};

/// Why a wait ended without its condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitError {
    /// The deadline passed first.
    TimedOut,
    /// The coroutine was killed; every later wait of it fails the same way.
    Killed,
    /// The thing waited for was closed by somebody else.
    Closed,
    /// The embedder resumed the coroutine by an explicit switch instead of waking it.
    Interrupted,
    /// Nothing is left that could ever wake the waiting coroutine.
    LoopExit,
    /// The hub itself tried to wait; a callback of the loop must not block.
    InHub,
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "the deadline passed before the wait ended",
            Self::Killed => "the coroutine was killed while it waited",
            Self::Closed => "what the coroutine waited for was closed",
            Self::Interrupted => "the coroutine was switched to while it waited",
            Self::LoopExit => "this wait would never end: nothing is left to wake it",
            Self::InHub => "the hub cannot wait: a loop callback must not block",
        })
    }
}

impl Error for WaitError {}

impl From<WaitError> for io::Error {
    fn from(error: WaitError) -> Self {
        let kind = match error {
            WaitError::TimedOut => io::ErrorKind::TimedOut,
            WaitError::Closed => io::ErrorKind::NotConnected,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
