//! The stacks of one size that one thread has.
//!
//! Slots are cut from *arenas*, big reservations of address space. Page tables are the price of big
//! slots: one page of them describes 2 MiB, and a slot needs one for its guard and one for its
//! base. Slots begin in the middle of such a region, so that the base of one and the guard of
//! the next share theirs.
//!
//! What a burst has left is given back, physical memory, page tables and address space: arenas of
//! which every slot is free are unmapped when their slots were not needed for a while.
//!
//! Invariant: an arena is unmapped only when all stacks cut from it are in `free`.

use std::{io, num::NonZeroUsize};

use corosensei::stack::STACK_ALIGNMENT;

use super::stack::{GUARD_BYTES, Stack, StackInfo, StackSizes};
use crate::sys::{self, Reservation};

/// How much of the page shared with the upper area belongs to the C stack.
const SHARED_PAGE_STACK_BYTES: usize = 2432;
/// Distance between two colours: a pair of cache lines, as the prefetcher fetches them.
const COLOUR_BYTES: usize = 64;
const COLOURS: usize = 6;
/// Slots in the first arena; each next one doubles, up to the maximum.
const ARENA_SLOTS_MIN: usize = 16;
const ARENA_SLOTS_MAX: usize = 4096;
/// What one page of page tables describes.
const PAGE_TABLE_SPAN_BYTES: usize = 2 << 20;
/// Address space that stacks leave free, so that where it is limited the next stack fails cleanly,
/// and not the next small allocation of somebody who cannot go on without.
const SPARE_BYTES: usize = 16 << 20;
/// Every so many returns of a stack its deep part is given back, in case it once went deep.
const TRIM_EVERY: u32 = 256;
/// What a trim leaves committed below the base.
const TRIM_KEEPS_BYTES: usize = 16 * 1024;
/// Free slots that a shelf keeps in any case.
const KEPT: usize = 1024;
/// After so many more stacks taken the shelf looks how many free slots it did not need meanwhile.
/// Counted by stacks taken, so that the end of a burst that comes again and again is not the time.
const LOOK_EVERY: u32 = 4096;
/// An idle thread looks no more often than this.
const IDLE_LOOK_NS: u64 = 1_000_000_000;

#[derive(Debug)]
struct Arena {
    memory: Reservation,
    /// Slots cut from it so far.
    cut: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shelf {
    sizes: StackSizes,
    number: u32,
    free: Vec<Stack>,
    /// Places of arenas that were unmapped stay empty until they are used again.
    arenas: Vec<Option<Arena>>,
    /// The arena that slots are cut from, its next slot, and how many it still has.
    fresh_arena: u32,
    fresh_start: usize,
    fresh_slots: usize,
    returns: u32,
    takes: u32,
    /// `takes` at the last look.
    looked_takes: u32,
    /// The fewest free slots since the last look.
    free_min: usize,
    looked_ns: u64,
    info: StackInfo,
}

impl Shelf {
    pub(super) fn new(sizes: StackSizes, number: u32) -> Self {
        Self {
            sizes,
            number,
            free: Vec::new(),
            arenas: Vec::new(),
            fresh_arena: 0,
            fresh_start: 0,
            fresh_slots: 0,
            returns: 0,
            takes: 0,
            looked_takes: 0,
            free_min: 0,
            looked_ns: 0,
            info: StackInfo::default(),
        }
    }

    pub(super) fn sizes(&self) -> StackSizes {
        self.sizes
    }

    pub(super) fn info(&self) -> StackInfo {
        StackInfo {
            pooled: self.free.len(),
            ..self.info
        }
    }

    #[inline]
    pub(super) fn take(&mut self) -> io::Result<Stack> {
        match self.free.pop() {
            Some(stack) => {
                self.takes = self.takes.wrapping_add(1);
                self.free_min = self.free_min.min(self.free.len());
                Ok(stack)
            }
            None => self.cut(),
        }
    }

    #[inline]
    pub(super) fn give(&mut self, stack: Stack) {
        debug_assert_eq!(stack.shelf, self.number);
        self.returns = self.returns.wrapping_add(1);
        if self.returns.is_multiple_of(TRIM_EVERY) {
            self.trim(&stack);
        }
        self.free.push(stack);
    }

    pub(super) fn lose(&mut self, stack: Stack) {
        // Its arena can never be all free again, so it stays.
        let Stack { .. } = stack;
        self.info.abandoned += 1;
    }

    #[inline]
    pub(super) fn has_surplus(&self) -> bool {
        self.free.len() > KEPT
    }

    /// The thread has nothing to do.
    pub(super) fn idle(&mut self, now_ns: u64) {
        if self.has_surplus() && now_ns.saturating_sub(self.looked_ns) >= IDLE_LOOK_NS {
            self.looked_ns = now_ns;
            self.shrink();
        }
    }

    #[cold]
    fn cut(&mut self) -> io::Result<Stack> {
        let StackSizes {
            slot_bytes,
            upper_bytes,
        } = self.sizes;
        if self.fresh_slots == 0 {
            self.reserve()?;
        }
        let low = self.fresh_start;
        let arena = self.arenas[self.fresh_arena as usize].as_mut();
        let arena = arena.expect("an arena with fresh slots is mapped");
        arena
            .memory
            .guard(low - arena.memory.start(), GUARD_BYTES)?;
        arena.cut += 1;
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
            shelf: self.number,
            arena: self.fresh_arena,
            slot_bytes,
        })
    }

    /// Reserves the next arena, a smaller one where the address space is limited.
    fn reserve(&mut self) -> io::Result<()> {
        let mapped = self.arenas.iter().flatten().count();
        let mut slots = (ARENA_SLOTS_MIN << mapped.min(16)).min(ARENA_SLOTS_MAX);
        loop {
            let bytes = slots * self.sizes.slot_bytes + PAGE_TABLE_SPAN_BYTES;
            let reserved = Reservation::new(bytes)
                .and_then(|memory| Reservation::new(SPARE_BYTES).map(|_spare| memory));
            match reserved {
                Ok(memory) => {
                    let half = PAGE_TABLE_SPAN_BYTES / 2;
                    self.fresh_start =
                        (memory.start() + half).next_multiple_of(PAGE_TABLE_SPAN_BYTES) - half;
                    self.fresh_slots = slots;
                    let arena = Some(Arena { memory, cut: 0 });
                    let place = self.arenas.iter().position(Option::is_none);
                    let place = place.unwrap_or_else(|| {
                        self.arenas.push(None);
                        self.arenas.len() - 1
                    });
                    self.arenas[place] = arena;
                    self.fresh_arena = u32::try_from(place).expect("fewer than 2^32 arenas");
                    return Ok(());
                }
                Err(error) if slots == 1 => return Err(error),
                Err(_) => slots /= 2,
            }
        }
    }

    /// Gives the deep part of a returned stack back; now and then looks for what a burst has left.
    #[cold]
    fn trim(&mut self, stack: &Stack) {
        let low = stack.low();
        let high = (stack.base() - TRIM_KEEPS_BYTES).next_multiple_of(sys::PAGE_BYTES);
        // SAFETY: `[low, high)` is page aligned and inside the stack's own slot, whose content
        // is dead: no coroutine runs on it any more.
        unsafe { sys::release_pages(low, high - low) };
        self.info.trimmed += 1;
        if self.takes.wrapping_sub(self.looked_takes) >= LOOK_EVERY {
            self.looked_takes = self.takes;
            self.shrink();
        }
    }

    /// Unmaps arenas whose slots are all free, as far as they were not needed since the last look.
    fn shrink(&mut self) {
        let mut surplus = self.free_min.saturating_sub(KEPT);
        self.free_min = self.free.len();
        if surplus == 0 {
            return;
        }
        let mut free_in = vec![0; self.arenas.len()];
        for stack in &self.free {
            free_in[stack.arena as usize] += 1;
        }
        let mut unmapped = vec![false; self.arenas.len()];
        // The last ones first: they are the largest, and were made for the burst.
        for (place, arena) in self.arenas.iter_mut().enumerate().rev() {
            let Some(Arena { cut, .. }) = *arena else {
                continue;
            };
            let is_fresh = place == self.fresh_arena as usize && self.fresh_slots > 0;
            if is_fresh || cut != free_in[place] || cut > surplus {
                continue;
            }
            surplus -= cut;
            self.info.slots -= cut;
            self.info.released += cut;
            unmapped[place] = true;
        }
        self.free.retain(|stack| !unmapped[stack.arena as usize]);
        self.free.shrink_to(self.free.len() * 2);
        for (place, arena) in self.arenas.iter_mut().enumerate() {
            if unmapped[place] {
                // None of its stacks is left, neither here nor in use.
                *arena = None;
            }
        }
        self.free_min = self.free.len();
    }
}

impl Drop for Shelf {
    /// What lost stacks are in stays mapped for ever.
    fn drop(&mut self) {
        if self.info.abandoned > 0 {
            while let Some(stack) = self.free.pop() {
                let (low, bytes) = (stack.low(), stack.high() - stack.low());
                // SAFETY: page aligned, a slot of our own on which nothing runs.
                unsafe { sys::release_pages(low, bytes) };
            }
            std::mem::forget(std::mem::take(&mut self.arenas));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf() -> Shelf {
        let sizes = StackSizes {
            slot_bytes: 256 * 1024,
            upper_bytes: 0,
        };
        Shelf::new(sizes, 0)
    }

    fn take(shelf: &mut Shelf, number: usize) -> Vec<Stack> {
        (0..number)
            .map(|_| shelf.take().expect("a stack"))
            .collect()
    }

    fn give(shelf: &mut Shelf, stacks: Vec<Stack>) {
        for stack in stacks {
            shelf.give(stack);
        }
    }

    const BURST: usize = 20_000;

    #[test]
    fn an_idle_thread_gives_a_burst_back() {
        let mut shelf = shelf();
        let stacks = take(&mut shelf, BURST);
        give(&mut shelf, stacks);
        let second = IDLE_LOOK_NS;
        // The first look begins to watch, the second finds what was not needed between the two.
        shelf.idle(second);
        shelf.idle(2 * second);
        let info = shelf.info();
        assert!(info.slots < BURST / 2, "{info:?}");
        assert_eq!(info.slots, info.pooled);
        assert_eq!(info.slots + info.released, BURST);
        let again = take(&mut shelf, BURST);
        assert_eq!(shelf.info().slots, BURST);
        give(&mut shelf, again);
    }

    #[test]
    fn a_steady_load_without_an_idle_moment_gives_a_burst_back() {
        let mut shelf = shelf();
        let stacks = take(&mut shelf, BURST);
        give(&mut shelf, stacks);
        for _ in 0..3 * LOOK_EVERY {
            let stacks = take(&mut shelf, 10);
            give(&mut shelf, stacks);
        }
        assert!(shelf.info().slots < BURST / 2, "{:?}", shelf.info());
    }

    #[test]
    fn what_is_needed_again_and_again_stays() {
        let mut shelf = shelf();
        for _ in 0..10 {
            let stacks = take(&mut shelf, BURST);
            give(&mut shelf, stacks);
        }
        assert_eq!(shelf.info().released, 0);
    }

    #[test]
    fn an_arena_with_a_stack_in_use_stays() {
        let mut shelf = shelf();
        let mut stacks = take(&mut shelf, BURST);
        let kept = stacks.split_off(BURST - 1);
        let address = kept[0].base();
        give(&mut shelf, stacks);
        for turn in 1..4 {
            shelf.idle(turn * IDLE_LOOK_NS);
        }
        // SAFETY: the top word of a stack in use, which must still be mapped.
        unsafe { ((address - 8) as *mut u64).write_volatile(1) };
        let mapped = shelf.arenas[kept[0].arena as usize].is_some();
        assert!(mapped);
        give(&mut shelf, kept);
    }

    #[test]
    fn an_arena_with_a_lost_stack_stays() {
        let mut shelf = shelf();
        let mut stacks = take(&mut shelf, BURST);
        let lost = stacks.pop().expect("many");
        let arena = lost.arena as usize;
        shelf.lose(lost);
        give(&mut shelf, stacks);
        for turn in 1..4 {
            shelf.idle(turn * IDLE_LOOK_NS);
        }
        assert!(shelf.arenas[arena].is_some());
        assert_eq!(shelf.info().abandoned, 1);
    }
}
