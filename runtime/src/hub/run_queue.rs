//! What is ready to run, in order.

use std::{cell::RefCell, collections::VecDeque};

use crate::coroutine::Coroutine;

/// A callback of the embedder: a function and its word.
pub type Callback = (fn(*mut ()), *mut ());

/// One entry. Native on purpose: nothing of the embedder is allocated per wakeup.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry {
    /// Resume a coroutine out of the park with this number.
    Resume(Coroutine, u64),
    /// Call a function on the hub's stack.
    Call(Callback),
}

#[derive(Debug, Default)]
pub(super) struct RunQueue {
    entries: RefCell<VecDeque<Entry>>,
}

impl RunQueue {
    #[inline]
    pub(super) fn push(&self, entry: Entry) {
        self.entries.borrow_mut().push_back(entry);
    }

    #[inline]
    pub(super) fn pop(&self) -> Option<Entry> {
        self.entries.borrow_mut().pop_front()
    }

    /// The next entry if it is a coroutine to resume.
    #[inline]
    pub(super) fn pop_resume(&self) -> Option<(Coroutine, u64)> {
        let mut entries = self.entries.borrow_mut();
        match entries.front() {
            Some(&Entry::Resume(coroutine, seq)) => {
                entries.pop_front();
                Some((coroutine, seq))
            }
            _ => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.borrow().is_empty()
    }

    pub(super) fn clear(&self) {
        self.entries.borrow_mut().clear();
    }
}
