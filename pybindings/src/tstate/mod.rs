//! What of a thread state belongs to one greenlet, and how it is exchanged at a switch.
//!
//! CPython keeps the Python side of a running stack in `PyThreadState`: top frame, frame memory, handled
//! exceptions, context, recursion counters. Each greenlet has its own C stack, so every pointer from there
//! into a C stack stays valid while the greenlet is suspended, and a switch is a handful of loads on the
//! leaving side ([`Saved::save`]) and of stores on the arriving one ([`Saved::restore`]). No allocation, no
//! Python code, no frame work.
//!
//! What every version moves is here; what only some have is in one file per minor version, `version` below.
//! The fields and why they travel:
//!
//! * frames: the innermost Python frame, or the C struct that points to it on 3.11 and 3.12;
//! * frame chunk: memory for Python frames. Ours begins in the stack slot (see `chunk`);
//! * `exc_info`: the exceptions being handled. A greenlet brings the bottom item itself ([`Base`]), so
//!   `exc_state` inside the thread state is only ever that of the main greenlet;
//! * context: owned by whoever runs. While suspended it is owned by `Saved`;
//! * Python depth: kept as a depth, not as what remains, because the limit may be changed meanwhile.
//!
//! Never moved: the exception in flight (it is the payload of a throw), trace and profile functions and the
//! `tracing` counter (per thread on purpose), `delete_later` (objects waiting for deallocation: whoever next
//! unwinds far enough releases them, whichever greenlet put them there).
//!
//! Invariant: `Saved` has a non-null `exc_info` exactly while its greenlet is suspended.

mod check;
mod chunk;
mod layout;

#[cfg(any(cp312, cp313))]
mod c_calls;
#[cfg(any(cp314, cp315))]
mod c_stack;
#[cfg(any(cp311, cp312))]
mod cframe;
#[cfg(any(cp314, cp315))]
mod running_loop;

#[cfg(cp311)]
mod cp311;
#[cfg(cp312)]
mod cp312;
#[cfg(cp313)]
mod cp313;
#[cfg(any(cp314, cp315))]
mod cp314;
#[cfg(cp315)]
mod cp315;

#[cfg(cp311)]
use cp311 as version;
#[cfg(cp312)]
use cp312 as version;
#[cfg(cp313)]
use cp313 as version;
#[cfg(cp314)]
use cp314 as version;
#[cfg(cp315)]
use cp315 as version;

use std::ffi::{c_int, c_void};
use std::ptr;

use pyo3::ffi;
use pyo3::ffi::{PyObject, PyThreadState};

use chunk::Frames;
use layout::{
    CONTEXT, CONTEXT_VER, EXC_INFO, EXC_STATE, ExcItem, Field, PY_LIMIT, PY_REMAINING, header,
};

pub(crate) use check::check_layout;

/// Everything of a thread state that belongs to one greenlet while it is suspended.
pub(crate) struct Saved {
    /// Owned. Also set before the greenlet started and after it ended.
    context: *mut PyObject,
    exc_info: *mut ExcItem,
    /// What `version::FRAMES` held.
    top: *mut c_void,
    frames: Frames,
    py_depth: c_int,
    own: version::Own,
}

/// What of a greenlet's state must have a fixed address from its beginning to its end.
///
/// The greenlet's entry function keeps one in its own stack frame, uninitialized, and hands it to [`begin`].
pub(crate) struct Base {
    exc: ExcItem,
    own: version::OnStack,
}

/// Where a greenlet that begins will run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Area {
    /// First usable byte of the C stack, just above the guard.
    pub(crate) stack_low: usize,
    /// Where the C stack begins: its highest address.
    pub(crate) stack_base: usize,
    /// Memory for Python frames, aligned for pointers.
    pub(crate) chunk: *mut u8,
    pub(crate) chunk_bytes: usize,
}

impl Saved {
    /// Nothing saved, no context.
    pub(crate) const fn new() -> Self {
        Self {
            context: ptr::null_mut(),
            exc_info: ptr::null_mut(),
            top: ptr::null_mut(),
            frames: Frames::NONE,
            py_depth: 0,
            own: version::Own::NEW,
        }
    }

    /// Takes the state of the greenlet that leaves. `ts` keeps stale copies until the next
    /// [`restore`](Self::restore) or [`begin`].
    ///
    /// # Safety
    /// `ts` is the current thread state, it holds the state of the greenlet that owns `self`, and no Python
    /// code runs between this call and the `restore` or `begin` on the other side.
    #[inline]
    pub(crate) unsafe fn save(&mut self, ts: *mut PyThreadState) {
        debug_assert!(!self.is_suspended(), "saved twice");
        // SAFETY: (the seven accesses below) the caller gives the current thread state.
        self.context = unsafe { CONTEXT.get(ts) };
        // SAFETY: as above.
        self.exc_info = unsafe { EXC_INFO.get(ts) };
        // SAFETY: as above.
        self.top = unsafe { version::FRAMES.get(ts) };
        // SAFETY: as above.
        self.frames = unsafe { Frames::read(ts) };
        // SAFETY: as above.
        let limit = unsafe { PY_LIMIT.get(ts) };
        // SAFETY: as above.
        self.py_depth = limit - unsafe { PY_REMAINING.get(ts) };
        // SAFETY: as above.
        unsafe { self.own.save(ts) };
    }

    /// Puts the state of the greenlet that is resumed into `ts`.
    ///
    /// # Safety
    /// `ts` is the current thread state and the one `self` was saved from; the state in it has been saved,
    /// or ended by [`end`]; `self` is suspended.
    #[inline]
    pub(crate) unsafe fn restore(&mut self, ts: *mut PyThreadState) {
        debug_assert!(self.is_suspended(), "restored without being saved");
        // Before `FRAMES`: on 3.11 this reads through the pointer that is still the other greenlet's.
        // SAFETY: (this and the seven accesses below) the caller gives the current thread state, and the
        // values are those that CPython left in the same fields of it.
        unsafe { self.own.restore(ts, self.top) };
        // SAFETY: as above.
        unsafe { version::FRAMES.set(ts, self.top) };
        // SAFETY: as above.
        unsafe { self.frames.write(ts) };
        // SAFETY: as above.
        unsafe { EXC_INFO.set(ts, self.exc_info) };
        // SAFETY: as above.
        let limit = unsafe { PY_LIMIT.get(ts) };
        // SAFETY: as above.
        unsafe { PY_REMAINING.set(ts, limit - self.py_depth) };
        // SAFETY: as above; ownership goes back to the thread state.
        unsafe { put_context(ts, self.context) };
        self.exc_info = ptr::null_mut();
        self.context = ptr::null_mut();
        // SAFETY: as above; everything is in place again.
        unsafe { self.own.restored() };
    }

    /// Takes along what only goes with a greenlet that parks in the hub: the running asyncio loop, which
    /// greenlets that switch to each other share. Nothing before 3.14.
    ///
    /// # Safety
    /// `self` was just saved from `ts`, the current thread state.
    #[inline(always)]
    pub(crate) unsafe fn park_loop(&mut self, ts: *mut PyThreadState) {
        #[cfg(any(cp314, cp315))]
        // SAFETY: the caller's promise.
        unsafe {
            self.own.running_loop.park(ts)
        };
        let _ = ts;
    }

    /// Whether [`park_loop`](Self::park_loop) has taken a loop.
    #[inline(always)]
    pub(crate) fn has_parked_loop(&self) -> bool {
        #[cfg(any(cp314, cp315))]
        return self.own.running_loop.is_some();
        #[cfg(not(any(cp314, cp315)))]
        false
    }

    /// Gives back what [`park_loop`](Self::park_loop) has taken.
    ///
    /// # Safety
    /// `self` was just restored into `ts`, the current thread state, where no loop runs.
    pub(crate) unsafe fn unpark_loop(&mut self, ts: *mut PyThreadState) {
        #[cfg(any(cp314, cp315))]
        // SAFETY: the caller's promise.
        unsafe {
            self.own.running_loop.unpark(ts)
        };
        let _ = ts;
    }

    /// The context, borrowed, or NULL. NULL too while the greenlet runs: see [`running_context`].
    pub(crate) fn context(&self) -> *mut PyObject {
        self.context
    }

    /// Gives the greenlet, which does not run, another context. Takes over the reference to `new` (NULL for
    /// none) and returns the one that was held.
    pub(crate) fn replace_context(&mut self, new: *mut PyObject) -> *mut PyObject {
        std::mem::replace(&mut self.context, new)
    }

    fn is_suspended(&self) -> bool {
        !self.exc_info.is_null()
    }

    /// Shows the collector the references held here: the context, and while suspended the exception that
    /// the greenlet's outermost code is handling (inner ones belong to generators).
    ///
    /// # Safety
    /// `visit` and `arg` are those of a `tp_traverse` call. If `self` is suspended, the stack it was saved
    /// on still exists; for a main greenlet that is the thread. `end` is what [`end_of_frames`] said of its thread
    /// state.
    pub(crate) unsafe fn traverse(
        &self,
        end: *mut c_void,
        visit: ffi::visitproc,
        arg: *mut c_void,
    ) -> c_int {
        // SAFETY: the caller gives a visitor; the context is owned by `self`.
        let stop = unsafe { visit_one(self.context, visit, arg) };
        if stop != 0 || !self.is_suspended() {
            return stop;
        }
        // SAFETY: suspended, so the item is on the stack that the caller says exists.
        let mut item = unsafe { *self.exc_info };
        while !item.previous.is_null() {
            // SAFETY: as above, or the item is in a generator that a frame of that stack is running.
            item = unsafe { *item.previous };
        }
        // SAFETY: the caller gives a visitor; the item owns its exception.
        let stop = unsafe { visit_one(item.value, visit, arg) };
        #[cfg(cp315)]
        if stop == 0 {
            // SAFETY: the caller gives a visitor; suspended, so the frames are intact.
            return unsafe { version::traverse_frames(self.top.cast(), end.cast(), visit, arg) };
        }
        let _ = end;
        stop
    }

    /// The innermost Python frame of a suspended greenlet: a new reference to a frame object, or NULL
    /// without an error set if there is none or no memory for it.
    ///
    /// # Safety
    /// `ts` is the current thread state, not necessarily the one `self` was saved from, and the GIL is held.
    pub(crate) unsafe fn top_frame(&self, ts: *mut PyThreadState) -> *mut PyObject {
        if !self.is_suspended() {
            return ptr::null_mut();
        }
        // A collection would run Python code, which must not happen on another greenlet's frames. Only 3.11
        // collects while it allocates a frame object.
        // SAFETY: the caller holds the GIL.
        let collecting = cfg!(cp311) && unsafe { ffi::PyGC_Disable() } != 0;
        // SAFETY: the caller gives the current thread state.
        let own = unsafe { version::FRAMES.get(ts) };
        // SAFETY: as above; these frames are intact, their greenlet is suspended.
        unsafe { version::FRAMES.set(ts, self.top) };
        // SAFETY: as above, and the GIL is held.
        let frame = unsafe { ffi::PyThreadState_GetFrame(ts) };
        // SAFETY: as above; the value was read from there.
        unsafe { version::FRAMES.set(ts, own) };
        if collecting {
            // SAFETY: the caller holds the GIL.
            unsafe { ffi::PyGC_Enable() };
        }
        frame.cast()
    }

    /// Forgets a suspended greenlet that will never run again.
    ///
    /// References in its frames are leaked. Frame memory that CPython allocated is given back, unless some
    /// object may still look into it. Says whether none may: then the stack slot can be given back, too. The
    /// context stays, for [`replace_context`](Self::replace_context).
    ///
    /// # Safety
    /// The GIL is held, and nothing will resume the greenlet or its frames. `end` is what [`end_of_frames`] said
    /// of its thread state, which may be gone by now.
    pub(crate) unsafe fn abandon(&mut self, end: *mut c_void) -> bool {
        let mut unreachable = true;
        if self.is_suspended() {
            // SAFETY: suspended, so `top` is what the version's `FRAMES` held.
            let innermost = unsafe { version::innermost(self.top) };
            // SAFETY: these frames lie in these chunks, and the caller says that nothing will run in them.
            unreachable = unsafe { self.frames.release(innermost, end.cast()) };
            // SAFETY: the caller holds the GIL.
            unsafe { self.own.abandon() };
        }
        self.exc_info = ptr::null_mut();
        self.top = ptr::null_mut();
        unreachable
    }
}

impl Default for Saved {
    fn default() -> Self {
        Self::new()
    }
}

/// Points `ts` at an empty state for a greenlet that begins to run now, at Python depth 0. The context moves
/// in from `saved`.
///
/// # Safety
/// 1. `ts` is the current thread state; what was in it has been saved.
/// 2. `base` is valid for writes, lies in the stack frame of the greenlet's entry function, and neither moves
///    nor goes away before [`end`].
/// 3. `area` describes the C stack that runs, and chunk memory that nobody else uses until `end`.
pub(crate) unsafe fn begin(
    ts: *mut PyThreadState,
    base: *mut Base,
    area: &Area,
    saved: &mut Saved,
) {
    debug_assert!(
        (area.stack_low..area.stack_base).contains(&base.addr()),
        "not on its stack"
    );
    // SAFETY: (the field projections and writes of this function) 2 for `base`, 1 for `ts`.
    let exc = unsafe { &raw mut (*base).exc };
    // SAFETY: as above.
    let own = unsafe { &raw mut (*base).own };
    // SAFETY: as above.
    unsafe {
        exc.write(ExcItem {
            value: ptr::null_mut(),
            previous: ptr::null_mut(),
        })
    };
    // SAFETY: as above.
    unsafe { EXC_INFO.set(ts, exc) };
    // SAFETY: as above; 3 for the bounds of the stack.
    let top = unsafe { version::begin(ts, own, area) };
    // SAFETY: as above.
    unsafe { version::FRAMES.set(ts, top) };
    // SAFETY: 3.
    let frames = unsafe { Frames::lay_out(area.chunk, area.chunk_bytes) };
    // SAFETY: as above.
    unsafe { frames.write(ts) };
    // SAFETY: as above.
    let limit = unsafe { PY_LIMIT.get(ts) };
    // SAFETY: as above.
    unsafe { PY_REMAINING.set(ts, limit) };
    // SAFETY: as above; the reference moves from `saved` to the thread state.
    unsafe { put_context(ts, saved.context) };
    saved.context = ptr::null_mut();
}

/// Drops what the running greenlet's outermost code may have left as its handled exception. To be called when
/// its Python code has returned and before [`end`]. May run Python code.
///
/// Python code leaves nothing there (3.11: `None`); C code that sets the handled exception can.
///
/// # Safety
/// `ts` is the current thread state, the GIL is held, and it holds the state of a greenlet that began.
pub(crate) unsafe fn clear_handled(ts: *mut PyThreadState) {
    // SAFETY: the caller gives the current thread state.
    let item = unsafe { EXC_INFO.get(ts) };
    // SAFETY: `exc_info` always points to an item; it is the greenlet's own, its generators have returned.
    let value = unsafe { &raw mut (*item).value };
    // SAFETY: as above.
    let old = unsafe { value.replace(ptr::null_mut()) };
    // SAFETY: the item owned the reference, the GIL is held.
    unsafe { ffi::Py_XDECREF(old) };
}

/// The greenlet's Python code is over: its context goes back into `saved`, and `ts` no longer points to
/// anything on its stack. No Python code runs; the next thing to happen is the `restore` of another greenlet.
///
/// # Safety
/// `ts` is the current thread state and holds the state of the greenlet that owns `saved`, which began on it;
/// its Python code has returned and [`clear_handled`] was the last to run any.
pub(crate) unsafe fn end(ts: *mut PyThreadState, saved: &mut Saved) {
    // SAFETY: (all accesses of this function) the caller gives the current thread state.
    let item = unsafe { EXC_INFO.get(ts) };
    // SAFETY: `exc_info` always points to an item.
    let handled = unsafe { *item };
    debug_assert!(
        handled.previous.is_null(),
        "a generator of the greenlet still runs"
    );
    debug_assert!(
        handled.value.is_null(),
        "an exception is still being handled"
    );
    // SAFETY: as above.
    saved.context = unsafe { CONTEXT.get(ts) };
    // SAFETY: as above; the reference has moved to `saved`.
    unsafe { put_context(ts, ptr::null_mut()) };
    // SAFETY: as above; this item is part of the thread state.
    unsafe { EXC_INFO.set(ts, EXC_STATE.address(ts)) };
    // SAFETY: as above.
    let top = unsafe { version::end(ts) };
    // SAFETY: as above.
    unsafe { version::FRAMES.set(ts, top) };
    // SAFETY: as above; without a chunk nothing is there that anybody else could free.
    unsafe { Frames::NONE.write(ts) };
}

/// Where lists of frames end in this thread state.
///
/// # Safety
/// `ts` is the current thread state.
pub(crate) unsafe fn end_of_frames(ts: *mut PyThreadState) -> *mut c_void {
    #[cfg(cp315)]
    // SAFETY: the caller gives the current thread state.
    return unsafe { version::BASE_FRAME.get(ts) };
    #[cfg(not(cp315))]
    {
        let _ = ts;
        ptr::null_mut()
    }
}

/// The `__qualname__` of a Python function, borrowed.
///
/// # Safety
/// `function` is a live function object.
pub(crate) unsafe fn function_qualname(function: *mut PyObject) -> *mut PyObject {
    const QUALNAME: Field<PyObject, *mut PyObject> = Field::new(header::FUNCTION_QUALNAME);
    // SAFETY: the caller gives a function.
    unsafe { QUALNAME.get(function) }
}

/// How deep deallocations are nested at the moment.
///
/// # Safety
/// `ts` is the current thread state.
#[cfg(any(cp311, cp312))]
pub(crate) unsafe fn trash_nesting(ts: *mut PyThreadState) -> c_int {
    // SAFETY: the caller gives the current thread state.
    unsafe { version::TRASH_NESTING.get(ts) }
}

/// The context of the greenlet that runs, borrowed, or NULL.
///
/// # Safety
/// `ts` is the current thread state.
pub(crate) unsafe fn running_context(ts: *mut PyThreadState) -> *mut PyObject {
    // SAFETY: the caller gives the current thread state.
    unsafe { CONTEXT.get(ts) }
}

/// Gives the running greenlet another context. Takes over the reference to `new` (NULL for none) and returns
/// the one that was held.
///
/// # Safety
/// `ts` is the current thread state; `new` is NULL or a `contextvars.Context`.
pub(crate) unsafe fn replace_running_context(
    ts: *mut PyThreadState,
    new: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: the caller gives the current thread state.
    let old = unsafe { CONTEXT.get(ts) };
    // SAFETY: as above; the old reference goes to the caller.
    unsafe { put_context(ts, new) };
    old
}

/// Makes `new` the context of `ts`, over one that was taken out or saved. Context variables cache their value
/// under `context_ver`; it changes only if the context does, so caches survive switches within one context.
///
/// # Safety
/// `ts` is the current thread state; it takes over the reference to `new`.
#[inline(always)]
unsafe fn put_context(ts: *mut PyThreadState, new: *mut PyObject) {
    // SAFETY: (all four accesses) the caller gives the current thread state.
    let old = unsafe { CONTEXT.get(ts) };
    // SAFETY: as above.
    let version = unsafe { CONTEXT_VER.get(ts) };
    // SAFETY: as above.
    unsafe { CONTEXT.set(ts, new) };
    // SAFETY: as above.
    unsafe { CONTEXT_VER.set(ts, version.wrapping_add(u64::from(old != new))) };
}

/// # Safety
/// `visit` and `arg` are those of a `tp_traverse` call; `object` is NULL or alive.
unsafe fn visit_one(object: *mut PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    if object.is_null() {
        return 0;
    }
    // SAFETY: the caller gives a visitor and a live object.
    unsafe { visit(object, arg) }
}
