//! Memory for Python frames.
//!
//! CPython keeps frames in a list of chunks, newest first, and maps 16 KiB for the first one of each new
//! state: most of the cost of a short greenlet. The oldest chunk (`previous == NULL`) is never freed by a
//! returning call, so ours can lie in the greenlet's stack slot, right above the C stack:
//!
//! ```text
//!   chunk: [ previous | size | used | not used | first frame ... ]      limit = chunk + size
//!                                   data[0]    data[1] = top
//! ```
//!
//! The word at `data[0]` stays empty: a frame that begins there tells CPython to free the chunk when it
//! returns, which is how it treats all chunks but the oldest.
//!
//! CPython does free every chunk of a thread state that is cleared. That happens to one that runs a greenlet
//! at interpreter exit only (a daemon thread, or `Py_Exit` called in a greenlet); memory inside a stack slot
//! must not be unmapped then, and 3.15 aborts if that fails. So [`guard_slots`] puts a filter before the
//! allocator's `free`: it knows our chunks by what is in `data[0]`.

use std::ffi::c_void;
use std::mem::size_of;
use std::ptr;
use std::sync::Once;

use pyo3::ffi;
use pyo3::ffi::{
    PyObject, PyObject_GetArenaAllocator, PyObject_SetArenaAllocator, PyObjectArenaAllocator,
    PyThreadState,
};

use super::layout::{
    CHUNK, CHUNK_LIMIT, CHUNK_TOP, Chunk, FRAME_OBJECT, FRAME_OWNER, FRAME_PREVIOUS, Frame,
};

/// Frames with an owner of this or above are CPython's markers, whose `frame_obj` means nothing.
const OWNER_MARKER_MIN: u8 = 3;
/// The owner of a generator's frame.
const OWNER_GENERATOR: u8 = 1;

/// Only its address matters: `data[0]` of a chunk that is ours.
static MARK: u8 = 0;

/// Where the thread state's next frame goes.
#[derive(Clone, Copy)]
pub(super) struct Frames {
    chunk: *mut Chunk,
    top: *mut *mut PyObject,
    limit: *mut *mut PyObject,
}

impl Frames {
    /// No chunk. CPython would map one at the next call.
    pub(super) const NONE: Self = Self {
        chunk: ptr::null_mut(),
        top: ptr::null_mut(),
        limit: ptr::null_mut(),
    };

    /// # Safety
    /// `ts` is the current thread state.
    #[inline(always)]
    pub(super) unsafe fn read(ts: *mut PyThreadState) -> Self {
        // SAFETY: the caller gives the current thread state.
        let chunk = unsafe { CHUNK.get(ts) };
        // SAFETY: as above.
        let top = unsafe { CHUNK_TOP.get(ts) };
        // SAFETY: as above.
        let limit = unsafe { CHUNK_LIMIT.get(ts) };
        Self { chunk, top, limit }
    }

    /// # Safety
    /// `ts` is the current thread state, its own chunks are held by somebody else, and these are not.
    #[inline(always)]
    pub(super) unsafe fn write(self, ts: *mut PyThreadState) {
        // SAFETY: the caller gives the current thread state.
        unsafe { CHUNK.set(ts, self.chunk) };
        // SAFETY: as above.
        unsafe { CHUNK_TOP.set(ts, self.top) };
        // SAFETY: as above.
        unsafe { CHUNK_LIMIT.set(ts, self.limit) };
    }

    /// Makes an empty oldest chunk of the `bytes` at `start`.
    ///
    /// # Safety
    /// They are aligned for pointers, writable, and nobody else uses them while these frames exist.
    pub(super) unsafe fn lay_out(start: *mut u8, bytes: usize) -> Self {
        let size = bytes & !(size_of::<usize>() - 1);
        let chunk: *mut Chunk = start.cast();
        debug_assert!(chunk.is_aligned(), "frame chunk not aligned");
        debug_assert!(size >= size_of::<Chunk>(), "frame chunk too small");
        // SAFETY: the caller gives this memory; the head fits, alignment is asserted above.
        unsafe {
            chunk.write(Chunk {
                previous: ptr::null_mut(),
                size,
                used: 0,
                data: [mark()],
            })
        };
        Self {
            chunk,
            top: chunk.wrapping_add(1).cast(),
            limit: chunk.wrapping_byte_add(size).cast(),
        }
    }

    /// Gives back the chunks that CPython allocated, all but the oldest, if nobody can reach the frames in them.
    /// Says whether that is so: then the oldest may go, too.
    ///
    /// # Safety
    /// The frames from `innermost` outwards up to `end` are the ones that lie in these chunks, none of them will
    /// run again, and nobody else holds the chunks.
    pub(super) unsafe fn release(&mut self, innermost: *mut Frame, end: *mut Frame) -> bool {
        // SAFETY: the caller gives intact frames.
        let reachable = unsafe { can_be_reached(innermost, end) };
        if !reachable {
            let arena = arena_allocator();
            while let Some(&Chunk { previous, size, .. }) =
                // SAFETY: NULL, or a chunk that the caller says is ours alone.
                unsafe { self.chunk.as_ref() }
            {
                if let (Some(free), false) = (arena.free, previous.is_null()) {
                    // Not the oldest, so CPython made it with this allocator and this size.
                    free(arena.ctx, self.chunk.cast(), size);
                }
                self.chunk = previous;
            }
        }
        *self = Self::NONE;
        !reachable
    }
}

/// Whether any of the frames from `frame` outwards up to `end` can be reached by way of a Python object: a frame object
/// that somebody beside the frame holds, or a generator, whose frame points to the one it was resumed by.
///
/// # Safety
/// They are the intact frames of a suspended greenlet, and the GIL is held.
unsafe fn can_be_reached(mut frame: *mut Frame, end: *mut Frame) -> bool {
    while frame != end {
        // SAFETY: the caller gives intact frames.
        let owner = unsafe { FRAME_OWNER.get(frame) };
        if owner == OWNER_GENERATOR {
            return true;
        }
        if owner < OWNER_MARKER_MIN {
            // SAFETY: as above.
            let object = unsafe { FRAME_OBJECT.get(frame) };
            // SAFETY: the frame owns a reference to it.
            if !object.is_null() && unsafe { ffi::Py_REFCNT(object) } > 1 {
                return true;
            }
        }
        // SAFETY: as above.
        frame = unsafe { FRAME_PREVIOUS.get(frame) };
    }
    false
}

fn mark() -> *mut PyObject {
    (&raw const MARK).cast_mut().cast()
}

fn arena_allocator() -> PyObjectArenaAllocator {
    let mut arena = PyObjectArenaAllocator {
        ctx: ptr::null_mut(),
        alloc: None,
        free: None,
    };
    // SAFETY: it only fills in the struct.
    unsafe { PyObject_GetArenaAllocator(&mut arena) };
    arena
}

/// Keeps CPython from freeing chunks that lie in stack slots, for good.
///
/// Arenas and chunks are few and large, so the filter costs nothing that could be measured.
///
/// # Safety
/// The GIL is held.
pub(super) unsafe fn guard_slots() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let original = Box::leak(Box::new(arena_allocator()));
        let mut filter = PyObjectArenaAllocator {
            ctx: ptr::from_mut(original).cast(),
            alloc: Some(pass_on),
            free: Some(free_unless_ours),
        };
        // SAFETY: the functions take the context given with them, which is never freed. What was allocated
        // before is freed by the allocator it came from.
        unsafe { PyObject_SetArenaAllocator(&mut filter) };
    });
}

extern "C" fn pass_on(ctx: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: the context that `guard_slots` gave.
    let original = unsafe { &*ctx.cast::<PyObjectArenaAllocator>() };
    original
        .alloc
        .map_or(ptr::null_mut(), |alloc| alloc(original.ctx, bytes))
}

extern "C" fn free_unless_ours(ctx: *mut c_void, block: *mut c_void, bytes: usize) {
    if !block.is_null() && bytes >= size_of::<Chunk>() {
        // SAFETY: a live block of that many bytes, which the allocator that made it has initialized (mapped
        // memory) or a chunk.
        let first = unsafe { block.cast::<Chunk>().read() }.data[0];
        if first == mark() {
            return;
        }
    }
    // SAFETY: the context that `guard_slots` gave.
    let original = unsafe { &*ctx.cast::<PyObjectArenaAllocator>() };
    if let Some(free) = original.free {
        free(original.ctx, block, bytes);
    }
}
