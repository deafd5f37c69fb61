//! The offsets from the CPython headers, as typed fields.
//!
//! `PyThreadState` stays opaque; a [`Field`] names one word in it. With constant offsets an access is one
//! move. The few C structs that we make ourselves are written out here and compared with the headers.

use std::ffi::c_int;
use std::marker::PhantomData;
use std::mem::{offset_of, size_of};

use pyo3::ffi::{PyInterpreterState, PyObject, PyThreadState};

/// What the build script read: one constant per row of the C table.
pub(super) mod header {
    include!(concat!(env!("OUT_DIR"), "/layout.rs"));
}

/// The field of type `T` that lies `at` bytes into the C struct `S`.
pub(super) struct Field<S, T> {
    at: usize,
    of: PhantomData<fn(S) -> T>,
}

impl<S, T> Clone for Field<S, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S, T> Copy for Field<S, T> {}

impl<S, T: Copy> Field<S, T> {
    pub(super) const fn new(at: usize) -> Self {
        Self {
            at,
            of: PhantomData,
        }
    }

    /// Its address in the struct at `of`.
    #[inline(always)]
    pub(super) fn address(self, of: *mut S) -> *mut T {
        of.wrapping_byte_add(self.at).cast()
    }

    /// Reads it.
    ///
    /// # Safety
    /// `of` points to a live `S` of the interpreter this was built for, and nobody else writes to it meanwhile.
    #[inline(always)]
    pub(super) unsafe fn get(self, of: *mut S) -> T {
        // SAFETY: the caller gives a live struct; the offset and type of its field are from its header.
        unsafe { self.address(of).read() }
    }

    /// Writes it.
    ///
    /// # Safety
    /// As for `get`, and `value` is one that CPython may find there.
    #[inline(always)]
    pub(super) unsafe fn set(self, of: *mut S, value: T) {
        // SAFETY: the caller gives a live struct; the offset and type of its field are from its header.
        unsafe { self.address(of).write(value) }
    }
}

/// An exception being handled (`_PyErr_StackItem`), linked to that of the code around it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ExcItem {
    pub(crate) value: *mut PyObject,
    pub(crate) previous: *mut ExcItem,
}

/// The head of a block of Python frames (`_PyStackChunk`).
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Chunk {
    pub(crate) previous: *mut Chunk,
    /// Bytes, this head included.
    pub(crate) size: usize,
    /// Words in use, written when a newer chunk is added.
    pub(crate) used: usize,
    pub(crate) data: [*mut PyObject; 1],
}

const _: () = {
    assert!(size_of::<ExcItem>() == header::EXC_ITEM_SIZE);
    assert!(offset_of!(ExcItem, value) == header::EXC_ITEM_VALUE);
    assert!(offset_of!(ExcItem, previous) == header::EXC_ITEM_PREVIOUS);
    assert!(offset_of!(Chunk, previous) == header::CHUNK_PREVIOUS);
    assert!(offset_of!(Chunk, size) == header::CHUNK_SIZE);
    assert!(offset_of!(Chunk, used) == header::CHUNK_USED);
    assert!(offset_of!(Chunk, data) == header::CHUNK_DATA);
};

/// A Python frame (`_PyInterpreterFrame`), never made by us.
pub(super) enum Frame {}

/// A field of the thread state.
pub(super) type Ts<T> = Field<PyThreadState, T>;

pub(super) const CONTEXT: Ts<*mut PyObject> = Field::new(header::TS_CONTEXT);
pub(super) const CONTEXT_VER: Ts<u64> = Field::new(header::TS_CONTEXT_VER);
pub(super) const EXC_INFO: Ts<*mut ExcItem> = Field::new(header::TS_EXC_INFO);
pub(super) const EXC_STATE: Ts<ExcItem> = Field::new(header::TS_EXC_STATE);
pub(super) const CHUNK: Ts<*mut Chunk> = Field::new(header::TS_CHUNK);
pub(super) const CHUNK_TOP: Ts<*mut *mut PyObject> = Field::new(header::TS_CHUNK_TOP);
pub(super) const CHUNK_LIMIT: Ts<*mut *mut PyObject> = Field::new(header::TS_CHUNK_LIMIT);
pub(super) const PY_REMAINING: Ts<c_int> = Field::new(header::TS_PY_REMAINING);
pub(super) const PY_LIMIT: Ts<c_int> = Field::new(header::TS_PY_LIMIT);

pub(super) const INTERP: Ts<*mut PyInterpreterState> = Field::new(header::TS_INTERP);
pub(super) const ID: Ts<u64> = Field::new(header::TS_ID);
pub(super) const THREAD_ID: Ts<std::ffi::c_ulong> = Field::new(header::TS_THREAD_ID);

pub(super) const FRAME_PREVIOUS: Field<Frame, *mut Frame> = Field::new(header::FRAME_PREVIOUS);
pub(super) const FRAME_OBJECT: Field<Frame, *mut PyObject> = Field::new(header::FRAME_OBJECT);
pub(super) const FRAME_OWNER: Field<Frame, u8> = Field::new(header::FRAME_OWNER);
pub(super) const FRAME_OBJECT_FRAME: Field<PyObject, *mut Frame> =
    Field::new(header::FRAME_OBJECT_FRAME);
