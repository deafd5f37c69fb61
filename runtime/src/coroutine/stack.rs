//! Stacks: slots cut from big reservations, reused last in, first out.
//!
//! ```text
//!  slot low                                   base                slot high
//!  | guard | C stack, grows down  <------ B | upper area, for the embedder |
//! ```
//!
//! The base `B` lies in the middle of a page on purpose: a coroutine parked a few calls deep, with
//! a few records in the upper area (CPython keeps its frames there), touches one physical page.
//! Slots differ by a few cache lines in where that middle is (the *colour*), so that the hot words
//! of many coroutines do not all compete for the same cache sets.
//!
//! Memory is reserved, not committed: a slot costs what was touched. The guard is a guard marker
//! where the kernel has them (no mapping is split, so a million slots fit), else a
//! protection change, which `vm.max_map_count` bounds to some thirty thousand slots.
//!
//! A thread has one [`Shelf`](super::shelf::Shelf) of stacks for each size that it ever used.

use std::{cell::RefCell, io, num::NonZeroUsize};

use corosensei::stack::StackPointer;

use super::shelf::Shelf;
use crate::sys;

/// Smallest C stack that is accepted, in bytes.
pub const STACK_BYTES_MIN: usize = 64 * 1024;
/// Largest C stack that is accepted, in bytes.
pub const STACK_BYTES_MAX: usize = 1 << 30;
/// Default size of a slot, in bytes.
pub const STACK_BYTES_DEFAULT: usize = 1 << 20;
/// The guard at the low end of a slot. More than a page, since not every function touches its frame
/// page by page; it costs nothing but address space.
pub(super) const GUARD_BYTES: usize = 64 * 1024;
/// Sizes of stacks that one thread may use, at most.
const SHELVES_MAX: usize = 64;

/// Sizes of the slots of one pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackSizes {
    /// The whole slot: guard, C stack and upper area.
    pub slot_bytes: usize,
    /// The part above the base that is the embedder's; 0 for none.
    pub upper_bytes: usize,
}

impl Default for StackSizes {
    fn default() -> Self {
        Self {
            slot_bytes: STACK_BYTES_DEFAULT,
            upper_bytes: 0,
        }
    }
}

impl StackSizes {
    fn check(self) {
        assert!(
            self.slot_bytes.is_multiple_of(sys::PAGE_BYTES)
                && self.slot_bytes >= GUARD_BYTES + STACK_BYTES_MIN + self.upper_bytes
                && self.slot_bytes <= STACK_BYTES_MAX + self.upper_bytes,
            "a stack slot of {} bytes with {} above its base is not usable",
            self.slot_bytes,
            self.upper_bytes,
        );
    }
}

/// A stack in use. Must be given back to the pool it came from; it is never dropped elsewhere.
#[derive(Debug)]
pub struct Stack {
    pub(super) low: NonZeroUsize,
    pub(super) base: NonZeroUsize,
    /// Which shelf of the thread's pool, and which of its arenas, it came from.
    pub(super) shelf: u32,
    pub(super) arena: u32,
    pub(super) slot_bytes: usize,
}

impl Stack {
    /// First usable address of the C stack, above the guard.
    pub fn low(&self) -> usize {
        self.low.get() + GUARD_BYTES
    }

    /// Highest address of the C stack; the upper area begins here.
    pub fn base(&self) -> usize {
        self.base.get()
    }

    /// End of the upper area.
    pub fn high(&self) -> usize {
        self.low.get() + self.slot_bytes
    }
}

// SAFETY:
// 1. `[low + guard, base)` is mapped, writable and used by this value alone until it is recycled.
// 2. What begins at `low` is the guard.
// 3. `base` is aligned by `Shelf::carve`, and sizes below `STACK_BYTES_MIN` are refused.
unsafe impl corosensei::stack::Stack for Stack {
    #[inline]
    fn base(&self) -> StackPointer {
        self.base
    }

    #[inline]
    fn limit(&self) -> StackPointer {
        self.low
    }
}

/// Numbers about a thread's stacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StackInfo {
    /// Slots there are: in use, pooled or abandoned.
    pub slots: usize,
    /// Slots that wait for reuse.
    pub pooled: usize,
    /// Slots lost with coroutines that were abandoned one by one.
    pub abandoned: usize,
    /// Times a returned slot had memory given back.
    pub trimmed: usize,
    /// Slots that were given back to the operating system after a burst, address space and all.
    pub released: usize,
}

#[derive(Debug)]
struct Inner {
    shelves: Vec<Shelf>,
    /// The shelf of the default size.
    current: usize,
}

impl Inner {
    /// The shelf for stacks of these sizes, made on first use.
    fn shelf(&mut self, sizes: StackSizes) -> usize {
        let known = self.shelves.iter().position(|shelf| shelf.sizes() == sizes);
        known.unwrap_or_else(|| {
            sizes.check();
            let number = self.shelves.len();
            assert!(
                number < SHELVES_MAX,
                "a thread uses {SHELVES_MAX} different stack sizes at most"
            );
            self.shelves.push(Shelf::new(sizes, number as u32));
            number
        })
    }
}

/// The stacks of one thread.
#[derive(Debug)]
pub(crate) struct StackPool {
    inner: RefCell<Inner>,
}

impl Default for StackPool {
    fn default() -> Self {
        Self {
            inner: RefCell::new(Inner {
                shelves: vec![Shelf::new(StackSizes::default(), 0)],
                current: 0,
            }),
        }
    }
}

impl StackPool {
    /// Sets the sizes of stacks taken from now on.
    pub(crate) fn set_sizes(&self, sizes: StackSizes) {
        let mut inner = self.inner.borrow_mut();
        inner.current = inner.shelf(sizes);
    }

    pub(crate) fn sizes(&self) -> StackSizes {
        let inner = self.inner.borrow();
        inner.shelves[inner.current].sizes()
    }

    pub(crate) fn info(&self) -> StackInfo {
        let mut total = StackInfo::default();
        for shelf in &self.inner.borrow().shelves {
            let info = shelf.info();
            total.slots += info.slots;
            total.pooled += info.pooled;
            total.abandoned += info.abandoned;
            total.trimmed += info.trimmed;
            total.released += info.released;
        }
        total
    }

    /// A stack, from the pool or newly cut.
    #[inline]
    pub(crate) fn take(&self) -> io::Result<Stack> {
        let mut inner = self.inner.borrow_mut();
        let current = inner.current;
        inner.shelves[current].take()
    }

    /// A stack in a slot of `slot_bytes`, whatever the default.
    #[cold]
    pub(crate) fn take_sized(&self, slot_bytes: usize) -> io::Result<Stack> {
        let mut inner = self.inner.borrow_mut();
        let upper_bytes = inner.shelves[inner.current].sizes().upper_bytes;
        let shelf = inner.shelf(StackSizes {
            slot_bytes,
            upper_bytes,
        });
        inner.shelves[shelf].take()
    }

    /// Takes back a stack on which nothing runs any more.
    #[inline]
    pub(crate) fn give(&self, stack: Stack) {
        let shelf = stack.shelf as usize;
        self.inner.borrow_mut().shelves[shelf].give(stack);
    }

    /// Counts a stack that can never be used again.
    pub(crate) fn lose(&self, stack: Stack) {
        let shelf = stack.shelf as usize;
        self.inner.borrow_mut().shelves[shelf].lose(stack);
    }

    /// Whether there are enough free stacks for [`idle`](Self::idle) to look at.
    #[inline]
    pub(crate) fn has_surplus(&self) -> bool {
        let inner = self.inner.borrow();
        inner.shelves.iter().any(Shelf::has_surplus)
    }

    /// Nothing is to do at the moment: gives back what a burst has left.
    pub(crate) fn idle(&self, now_ns: u64) {
        for shelf in &mut self.inner.borrow_mut().shelves {
            shelf.idle(now_ns);
        }
    }

    /// Unmaps everything, except reservations with lost stacks, which stay as they are for ever.
    ///
    /// # Safety
    /// No coroutine of this pool will run again, and nothing points into the stacks given back.
    pub(crate) unsafe fn release_all(&self) {
        *self.inner.borrow_mut() = Self::default().inner.into_inner();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corosensei::stack::STACK_ALIGNMENT;

    fn pool(slot_bytes: usize, upper_bytes: usize) -> StackPool {
        let pool = StackPool::default();
        pool.set_sizes(StackSizes {
            slot_bytes,
            upper_bytes,
        });
        pool
    }

    #[test]
    fn a_returned_stack_is_the_next_one_taken() {
        let pool = pool(STACK_BYTES_DEFAULT, 0);
        let first = pool.take().expect("a stack");
        let second = pool.take().expect("a stack");
        let base = first.base();
        pool.give(second);
        pool.give(first);
        assert_eq!(pool.take().expect("a stack").base(), base);
    }

    #[test]
    fn stacks_do_not_overlap_and_are_aligned() {
        let pool = pool(STACK_BYTES_DEFAULT, 64 * 1024);
        let mut stacks: Vec<Stack> = (0..100).map(|_| pool.take().expect("a stack")).collect();
        stacks.sort_by_key(Stack::low);
        for pair in stacks.windows(2) {
            assert!(pair[0].base() + 60 * 1024 <= pair[1].low());
        }
        assert!(stacks.iter().all(|s| s.base() % STACK_ALIGNMENT == 0));
        assert_eq!(pool.info().slots, 100);
    }

    #[test]
    fn a_base_shares_its_page_table_with_the_next_guard_page() {
        let pool = pool(4 << 20, 64 * 1024);
        let stacks: Vec<Stack> = (0..100).map(|_| pool.take().expect("a stack")).collect();
        let table = |address: usize| address / (2 << 20);
        for stack in &stacks {
            assert_eq!(table(stack.base()), table(stack.high()));
        }
    }

    #[test]
    fn stacks_of_several_sizes_live_side_by_side() {
        let pool = pool(STACK_BYTES_DEFAULT, 0);
        let usual = pool.take().expect("a stack");
        let large = pool.take_sized(4 * STACK_BYTES_DEFAULT).expect("a stack");
        assert_eq!(large.high() - large.low() + GUARD_BYTES, 4 << 20);
        let (usual_base, large_base) = (usual.base(), large.base());
        pool.give(usual);
        pool.give(large);
        assert_eq!(pool.take().expect("a stack").base(), usual_base);
        let again = pool.take_sized(4 * STACK_BYTES_DEFAULT).expect("a stack");
        assert_eq!(again.base(), large_base);
        pool.set_sizes(StackSizes {
            slot_bytes: 2 * STACK_BYTES_DEFAULT,
            upper_bytes: 0,
        });
        let new = pool.take().expect("a stack");
        assert_eq!(new.high() - new.low() + GUARD_BYTES, 2 << 20);
        assert_eq!(pool.info().slots, 3);
    }

    #[test]
    #[should_panic(expected = "is not usable")]
    fn a_tiny_stack_is_refused() {
        pool(8192, 0);
    }
}
