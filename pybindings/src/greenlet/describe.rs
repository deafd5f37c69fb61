//! What a report of a stack overflow says of a greenlet.
//!
//! It is written in a signal handler, in the middle of anything: objects are only looked at, by the
//! offsets of their fields and by functions that do no more than that.

use std::ffi::CStr;

use pyo3::{ffi, ffi::PyObject};
use rgevent_runtime::coroutine::ReportWrite;

use super::object::GreenletRef;
use crate::{task, tstate};

unsafe extern "C" {
    static PyMethod_Type: ffi::PyTypeObject;
    fn PyMethod_Function(method: *mut PyObject) -> *mut PyObject;
}

/// What to do about it.
pub(crate) const OVERFLOW_ADVICE: &str = "Raise rgevent.config.stack_size or RGEVENT_STACK_SIZE \
    (bytes), or give this greenlet more: greenlet(run, stack_size=...).";

/// Writes what kind of greenlet it is, where, and what it runs.
pub(crate) fn describe(word: *mut (), write: ReportWrite) {
    let Some(greenlet) = GreenletRef::from_word(word) else {
        write(b"a greenlet");
        return;
    };
    // SAFETY: a live object; the thread that was interrupted runs it.
    let class = unsafe { ffi::Py_TYPE(greenlet.as_ptr()) };
    // SAFETY: a live type.
    let name = unsafe { (*class).tp_name };
    // SAFETY: a type's name is a C string that lives as long.
    write(unsafe { CStr::from_ptr(name) }.to_bytes());
    write(b" object at 0x");
    write_hexadecimal(greenlet.as_ptr().addr(), write);
    let mut run = greenlet.state().run.get();
    if run.is_null() {
        run = task::function_of(greenlet);
    }
    if let Some(name) = function_name(run) {
        write(b" that runs ");
        write_text(name, write);
    }
}

/// The qualified name of a Python function, or of the one behind a bound method: a string, borrowed.
fn function_name(run: *mut PyObject) -> Option<*mut PyObject> {
    if run.is_null() {
        return None;
    }
    // SAFETY: a live object.
    let class = unsafe { ffi::Py_TYPE(run) };
    let function = if class == (&raw const PyMethod_Type).cast_mut() {
        // SAFETY: a bound method; the answer is borrowed from it.
        unsafe { PyMethod_Function(run) }
    } else {
        run
    };
    // SAFETY: a live object.
    if unsafe { ffi::PyFunction_Check(function) } == 0 {
        return None;
    }
    // SAFETY: a Python function.
    Some(unsafe { tstate::function_qualname(function) })
}

/// Characters of a name that are written, at most.
const NAME_CHARACTERS_MAX: usize = 200;

/// Writes a string, with `?` for what is not ASCII: encoding it would allocate.
fn write_text(text: *mut PyObject, write: ReportWrite) {
    // SAFETY: a live string.
    let length = unsafe { ffi::PyUnicode_GetLength(text) };
    let mut bytes = [b'?'; NAME_CHARACTERS_MAX];
    let length = usize::try_from(length).unwrap_or(0).min(bytes.len());
    for (index, byte) in bytes.iter_mut().enumerate().take(length) {
        // SAFETY: a live string that is at least so long.
        let character = unsafe { ffi::PyUnicode_ReadChar(text, index as ffi::Py_ssize_t) };
        if let Ok(ascii @ 0..128) = u8::try_from(character) {
            *byte = ascii;
        }
    }
    write(&bytes[..length]);
}

fn write_hexadecimal(number: usize, write: ReportWrite) {
    const DIGITS: usize = size_of::<usize>() * 2;
    let mut text = [b'0'; DIGITS];
    for (place, digit) in text.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * place)) & 0xf];
    }
    let zeros = text.iter().take_while(|&&digit| digit == b'0').count();
    write(&text[zeros.min(DIGITS - 1)..]);
}
