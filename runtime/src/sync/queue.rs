//! Items on their way from some coroutines to others.
//!
//! A queue is a deque between two semaphores: one counts items to take, one counts free places. So
//! order among waiters, and what happens to an item granted to a coroutine that is killed, are the
//! semaphore's affair.

#![forbid(unsafe_code)]

use std::{cell::RefCell, collections::VecDeque, fmt};

use super::Semaphore;
use crate::{
    WaitError,
    hub::{Deadline, Hub},
};

/// The item was not put; here it is back.
pub struct TryPutError<T> {
    /// What was to be put.
    pub item: T,
    /// Why the wait for a place ended; `TimedOut` also for an attempt that does not wait.
    pub why: WaitError,
}

impl<T> fmt::Debug for TryPutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryPutError")
            .field("why", &self.why)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for TryPutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the item was not put: {}", self.why)
    }
}

impl<T> std::error::Error for TryPutError<T> {}

/// A first-in, first-out queue, with or without a limit.
pub struct Queue<T> {
    items: RefCell<VecDeque<T>>,
    filled: Semaphore,
    /// Places left; None without a limit.
    places: Option<Semaphore>,
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("items", &self.len())
            .field("getters", &self.getters())
            .field("putters", &self.putters())
            .finish_non_exhaustive()
    }
}

impl<T> Queue<T> {
    /// A queue that takes everything. Putting never waits.
    pub fn unbounded() -> Self {
        Self {
            items: RefCell::default(),
            filled: Semaphore::new(0),
            places: None,
        }
    }

    /// A queue in which at most `items_max` items wait.
    ///
    /// # Panics
    /// When `items_max` is 0.
    pub fn bounded(items_max: usize) -> Self {
        assert!(items_max > 0, "a queue has room for at least one item");
        Self {
            places: Some(Semaphore::new(items_max)),
            ..Self::unbounded()
        }
    }

    /// How many items there are, those granted to a waiting getter included.
    pub fn len(&self) -> usize {
        self.items.borrow().len()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many wait for an item.
    pub fn getters(&self) -> usize {
        self.filled.parked()
    }

    /// How many wait for a place.
    pub fn putters(&self) -> usize {
        self.places.as_ref().map_or(0, Semaphore::parked)
    }

    /// Adds an item, waiting for a place if need be.
    ///
    /// # Errors
    /// The item and the reason, when the wait failed as [`Hub::park`] does.
    pub fn put(
        &self,
        item: T,
        hub: &'static Hub,
        deadline: Option<Deadline>,
    ) -> Result<(), TryPutError<T>> {
        if let Some(places) = &self.places
            && let Err(why) = places.acquire(hub, deadline)
        {
            return Err(TryPutError { item, why });
        }
        self.push(item);
        Ok(())
    }

    /// Adds an item if there is a place.
    ///
    /// # Errors
    /// The item, when the queue is full.
    pub fn try_put(&self, item: T) -> Result<(), TryPutError<T>> {
        if let Some(places) = &self.places
            && !places.try_acquire()
        {
            let why = WaitError::TimedOut;
            return Err(TryPutError { item, why });
        }
        self.push(item);
        Ok(())
    }

    /// Takes the first item, waiting for one if need be.
    ///
    /// # Errors
    /// As [`Hub::park`]; then no item was taken.
    pub fn get(&self, hub: &'static Hub, deadline: Option<Deadline>) -> Result<T, WaitError> {
        self.filled.acquire(hub, deadline)?;
        Ok(self.pop())
    }

    /// Takes the first item that is not granted to somebody else.
    pub fn try_get(&self) -> Option<T> {
        self.filled.try_acquire().then(|| self.pop())
    }

    fn push(&self, item: T) {
        self.items.borrow_mut().push_back(item);
        self.filled.release();
    }

    fn pop(&self) -> T {
        let item = self.items.borrow_mut().pop_front();
        if let Some(places) = &self.places {
            places.release();
        }
        item.expect("there is an item for every unit of `filled`")
    }
}
