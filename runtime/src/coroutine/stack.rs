//! Stacks: slots cut from big reservations, reused last in, first out.
//!
//! ```text
//!  slot low                                   base                slot high
//!  | guard page | C stack, grows down  <------ B | upper area, for the embedder |
//! ```
//!
//! The base `B` lies in the middle of a page on purpose: a coroutine parked a few calls deep, with
//! a few records in the upper area (CPython keeps its frames there), touches one physical page.
//! Slots differ by a few cache lines in where that middle is (the *colour*), so that the hot words
//! of many coroutines do not all compete for the same cache sets.
//!
//! Memory is reserved, not committed: a slot costs what was touched. The guard page is a guard
//! marker where the kernel has them (no mapping is split, so a million slots fit), else a
//! protection change, which `vm.max_map_count` bounds to some thirty thousand slots.
//!
//! Page tables are the price of big slots: one page of them describes 2 MiB, and a slot needs one
//! for its guard page and one for its base. Slots begin in the middle of such a region, so that the
//! base of one and the guard page of the next share theirs.

use std::{cell::RefCell, io, num::NonZeroUsize};

use corosensei::stack::{STACK_ALIGNMENT, StackPointer};

use crate::sys::{self, Reservation};

/// How much of the page shared with the upper area belongs to the C stack.
const SHARED_PAGE_STACK_BYTES: usize = 2432;
/// Distance between two colours: a pair of cache lines, as the prefetcher fetches them.
const COLOUR_BYTES: usize = 64;
const COLOURS: usize = 6;
/// Slots in the first reservation; each next one doubles, up to the maximum.
const ARENA_SLOTS_MIN: usize = 16;
const ARENA_SLOTS_MAX: usize = 4096;
/// What one page of page tables describes.
const PAGE_TABLE_SPAN_BYTES: usize = 2 << 20;
/// Address space that stacks leave free, so that where it is limited the next stack fails cleanly,
/// and not the next small allocation of somebody who cannot go on without.
const SPARE_BYTES: usize = 16 << 20;
/// Pooled stacks above this number give their memory back when they are returned.
const POOL_KEPT_MAX: usize = 16 * 1024;
/// Every so many returns of a stack its deep part is given back, in case it once went deep.
const TRIM_EVERY: u32 = 256;
/// What a trim leaves committed below the base.
const TRIM_KEEPS_BYTES: usize = 16 * 1024;

/// Smallest C stack that is accepted, in bytes.
pub const STACK_BYTES_MIN: usize = 64 * 1024;
/// Largest C stack that is accepted, in bytes.
pub const STACK_BYTES_MAX: usize = 1 << 30;
/// Default size of a slot, in bytes.
pub const STACK_BYTES_DEFAULT: usize = 1 << 20;

/// Sizes of the slots of one pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackSizes {
    /// The whole slot: guard page, C stack and upper area.
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

/// A stack in use. Must be given back to the pool it came from; it is never dropped elsewhere.
#[derive(Debug)]
pub struct Stack {
    low: NonZeroUsize,
    base: NonZeroUsize,
    high: usize,
}

impl Stack {
    /// First usable address of the C stack, above the guard page.
    pub fn low(&self) -> usize {
        self.low.get() + sys::PAGE_BYTES
    }

    /// Highest address of the C stack; the upper area begins here.
    pub fn base(&self) -> usize {
        self.base.get()
    }

    /// End of the upper area.
    pub fn high(&self) -> usize {
        self.high
    }
}

// SAFETY:
// 1. `[low + page, base)` is mapped, writable and used by this value alone until it is recycled.
// 2. The page at `low` is a guard page.
// 3. `base` is aligned by `StackPool::carve`, and sizes below `STACK_BYTES_MIN` are refused.
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
    /// Slots cut so far.
    pub slots: usize,
    /// Slots that wait for reuse.
    pub pooled: usize,
    /// Slots lost with coroutines that were abandoned one by one.
    pub abandoned: usize,
    /// Times a returned slot had memory given back.
    pub trimmed: usize,
}

#[derive(Debug, Default)]
struct Inner {
    sizes: StackSizes,
    free: Vec<Stack>,
    arenas: Vec<Reservation>,
    /// Next slot of the last arena, and how many it still has.
    fresh_start: usize,
    fresh_slots: usize,
    returns: u32,
    info: StackInfo,
}

/// The stacks of one thread.
#[derive(Debug, Default)]
pub(crate) struct StackPool {
    inner: RefCell<Inner>,
}

impl StackPool {
    /// Sets the sizes of stacks cut from now on.
    ///
    /// Returns false, and changes nothing, when stacks of other sizes exist already.
    pub(crate) fn set_sizes(&self, sizes: StackSizes) -> bool {
        let mut inner = self.inner.borrow_mut();
        assert!(
            sizes.slot_bytes.is_multiple_of(sys::PAGE_BYTES)
                && sizes.slot_bytes >= STACK_BYTES_MIN + sizes.upper_bytes
                && sizes.slot_bytes <= STACK_BYTES_MAX + sizes.upper_bytes,
            "a stack slot of {} bytes with {} above its base is not usable",
            sizes.slot_bytes,
            sizes.upper_bytes,
        );
        if inner.info.slots > 0 && inner.sizes != sizes {
            return false;
        }
        inner.sizes = sizes;
        true
    }

    pub(crate) fn sizes(&self) -> StackSizes {
        self.inner.borrow().sizes
    }

    pub(crate) fn info(&self) -> StackInfo {
        let inner = self.inner.borrow();
        StackInfo {
            pooled: inner.free.len(),
            ..inner.info
        }
    }

    /// A stack, from the pool or newly cut.
    #[inline]
    pub(crate) fn take(&self) -> io::Result<Stack> {
        let mut inner = self.inner.borrow_mut();
        match inner.free.pop() {
            Some(stack) => Ok(stack),
            None => inner.carve(),
        }
    }

    /// Takes back a stack on which nothing runs any more.
    #[inline]
    pub(crate) fn give(&self, stack: Stack) {
        let mut inner = self.inner.borrow_mut();
        inner.returns = inner.returns.wrapping_add(1);
        if inner.returns.is_multiple_of(TRIM_EVERY) || inner.free.len() >= POOL_KEPT_MAX {
            inner.trim(&stack);
        }
        inner.free.push(stack);
    }

    /// Counts a stack that can never be used again.
    pub(crate) fn lose(&self, stack: Stack) {
        let Stack { .. } = stack;
        self.inner.borrow_mut().info.abandoned += 1;
    }

    /// Unmaps everything, except reservations with lost stacks, which stay as they are for ever.
    ///
    /// # Safety
    /// No coroutine of this pool will run again, and nothing points into the stacks given back.
    pub(crate) unsafe fn release_all(&self) {
        let mut inner = self.inner.borrow_mut();
        if inner.info.abandoned > 0 {
            while let Some(stack) = inner.free.pop() {
                inner.release(&stack, 0);
            }
            std::mem::forget(std::mem::take(&mut inner.arenas));
        }
        inner.free = Vec::new();
        inner.arenas.clear();
        inner.fresh_slots = 0;
        inner.info = StackInfo::default();
    }
}

impl Inner {
    #[cold]
    fn carve(&mut self) -> io::Result<Stack> {
        let StackSizes {
            slot_bytes,
            upper_bytes,
        } = self.sizes;
        if self.fresh_slots == 0 {
            self.reserve()?;
        }
        let low = self.fresh_start;
        let arena = self.arenas.last().expect("an arena was just reserved");
        arena.guard(low - arena.start(), sys::PAGE_BYTES)?;
        self.fresh_start += slot_bytes;
        self.fresh_slots -= 1;
        let colour = (self.info.slots % COLOURS) * COLOUR_BYTES;
        self.info.slots += 1;
        let base = if upper_bytes == 0 {
            low + slot_bytes - colour
        } else {
            low + slot_bytes - upper_bytes + SHARED_PAGE_STACK_BYTES - colour
        };
        debug_assert!(base.is_multiple_of(STACK_ALIGNMENT));
        Ok(Stack {
            low: NonZeroUsize::new(low).expect("no mapping starts at 0"),
            base: NonZeroUsize::new(base).expect("the base lies above the start"),
            high: low + slot_bytes,
        })
    }

    /// Reserves the next arena, a smaller one where the address space is limited.
    fn reserve(&mut self) -> io::Result<()> {
        let mut slots = (ARENA_SLOTS_MIN << self.arenas.len().min(16)).min(ARENA_SLOTS_MAX);
        loop {
            let bytes = slots * self.sizes.slot_bytes + PAGE_TABLE_SPAN_BYTES;
            let reserved = Reservation::new(bytes)
                .and_then(|arena| Reservation::new(SPARE_BYTES).map(|_spare| arena));
            match reserved {
                Ok(arena) => {
                    let half = PAGE_TABLE_SPAN_BYTES / 2;
                    self.fresh_start =
                        (arena.start() + half).next_multiple_of(PAGE_TABLE_SPAN_BYTES) - half;
                    self.fresh_slots = slots;
                    self.arenas.push(arena);
                    return Ok(());
                }
                Err(error) if slots == 1 => return Err(error),
                Err(_) => slots /= 2,
            }
        }
    }

    /// Gives the memory of a returned stack back: all of it above the kept number, else the deep part.
    #[cold]
    fn trim(&mut self, stack: &Stack) {
        let keep = if self.free.len() >= POOL_KEPT_MAX {
            0
        } else {
            TRIM_KEEPS_BYTES
        };
        self.release(stack, keep);
        self.info.trimmed += 1;
    }

    /// Gives a stack's memory back, but for `keep` bytes below the base.
    fn release(&self, stack: &Stack, keep: usize) {
        let low = stack.low();
        let high = match keep {
            0 => stack.high(),
            _ => (stack.base() - keep).next_multiple_of(sys::PAGE_BYTES),
        };
        // SAFETY: `[low, high)` is page aligned and inside the stack's own slot, whose content
        // is dead: no coroutine runs on it any more.
        unsafe { sys::release_pages(low, high - low) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(slot_bytes: usize, upper_bytes: usize) -> StackPool {
        let pool = StackPool::default();
        assert!(pool.set_sizes(StackSizes {
            slot_bytes,
            upper_bytes
        }));
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
        let table = |address: usize| address / PAGE_TABLE_SPAN_BYTES;
        for stack in &stacks {
            assert_eq!(table(stack.base()), table(stack.high()));
        }
    }

    #[test]
    fn sizes_cannot_change_under_existing_stacks() {
        let pool = pool(STACK_BYTES_DEFAULT, 0);
        let _stack = pool.take().expect("a stack");
        assert!(!pool.set_sizes(StackSizes {
            slot_bytes: 2 * STACK_BYTES_DEFAULT,
            upper_bytes: 0
        }));
    }

    #[test]
    #[should_panic(expected = "is not usable")]
    fn a_tiny_stack_is_refused() {
        pool(8192, 0);
    }
}
