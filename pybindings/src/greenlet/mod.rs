//! The greenlet type: coroutines of the runtime, as Python objects with greenlet's semantics.
//!
//! [`object`] is the memory, [`switch`] moves control and values, [`lifetime`] is unwinding and
//! collection. Python sees a [`class`] that can be called ([`construct`]), its [`methods`] and
//! [`attributes`]; C code sees [`capi`]. [`trace`] is who is told of switches, [`describe`] what a
//! report of a stack overflow says.
//!
//! All of it is raw type slots. A switch made inside a binding library's trampoline would leave
//! that library's own per-call state behind whenever a greenlet never returns.

mod attributes;
mod capi;
mod class;
mod construct;
mod describe;
mod lifetime;
mod methods;
mod object;
mod switch;
mod trace;

pub(crate) use capi::make_capsule;
pub(crate) use class::{finish_type, make_type};
pub(crate) use describe::{OVERFLOW_ADVICE, describe};
pub(crate) use lifetime::{abandoned, clear, dealloc_with, new_main, take_corpses, traverse};
pub(crate) use methods::{exception_from, getcurrent};
pub(crate) use object::{GreenletRef, Object, Phase, State, allocate, is_greenlet};
pub(crate) use switch::{after_interruption, begin_stack, end_stack, no_stack, take_result};
pub(crate) use trace::{gettrace, settrace};
