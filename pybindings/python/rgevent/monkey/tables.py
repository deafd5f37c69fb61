"""Which names of the standard library are replaced when threads become greenlets.

A table maps a name of the standard module to ours in rgevent.threading. Names that the running
CPython does not have are passed over: each version has its own private ones.
"""

from __future__ import annotations

__all__ = ["THREADING_NAMES", "THREAD_NAMES"]

#: The module _thread.
THREAD_NAMES = {
    "LockType": "Lock",
    "RLock": "RLock",
    "_ThreadHandle": "Handle",
    "_local": "local",
    "_make_thread_handle": "make_handle",
    "_set_sentinel": "set_sentinel",
    "allocate": "Lock",
    "allocate_lock": "Lock",
    "get_ident": "get_ident",
    "lock": "Lock",
    "set_name": "set_name",
    "start_joinable_thread": "start_joinable_thread",
    "start_new": "start_new_thread",
    "start_new_thread": "start_new_thread",
}

#: The module threading.
THREADING_NAMES = {
    "Lock": "Lock",
    "_CRLock": "RLock",
    "_DummyThread": "DummyThread",
    "_LockType": "Lock",
    "_ThreadHandle": "Handle",
    "_allocate_lock": "Lock",
    "_make_thread_handle": "make_handle",
    "_set_name": "set_name",
    "_set_sentinel": "set_sentinel",
    "_start_joinable_thread": "start_joinable_thread",
    "_start_new_thread": "start_new_thread",
    "get_ident": "get_ident",
    "local": "local",
}
