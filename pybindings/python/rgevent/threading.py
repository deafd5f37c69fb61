"""Greenlets in the clothes of threads: what patching puts under the standard threading module.

The standard Thread class stays. What it calls to begin, to wait and to know who it is, is replaced,
so subclasses made before the patch are cooperative too, and Condition, Event, Semaphore, Barrier
and Timer follow because they are built on the same parts.

The ident of a native thread's main greenlet is the native one, so nothing that exists when the
patch is made has to be repaired for its sake.
"""

from __future__ import annotations

import _thread
import os
import threading as _threading
import weakref
from collections.abc import Callable

from rgevent._rgevent import getcurrent, greenlet, write_unraisable
from rgevent.event import Event
from rgevent.greenlet import Greenlet
from rgevent.ident import get_ident, get_native_ident
from rgevent.local import local
from rgevent.lock import Lock, RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "DummyThread",
    "Handle",
    "Lock",
    "RLock",
    "Sentinel",
    "get_ident",
    "join_foreground",
    "local",
    "make_handle",
    "set_name",
    "set_sentinel",
    "start_joinable_thread",
    "start_new_thread",
]

_StdlibDummyThread: Any = _threading._DummyThread
_native_set_name: Any = getattr(_thread, "set_name", None)

#: Handles of running non-daemon threads, which the interpreter waits for at its end.
_foreground: set[Handle] = set()
#: What to release when a greenlet ends, for CPython 3.11 and 3.12.
_sentinels: weakref.WeakKeyDictionary[greenlet, Sentinel] = weakref.WeakKeyDictionary()


class Handle:
    """Stands for the native thread of a Thread object (CPython 3.13 and later)."""

    def __init__(self) -> None:
        self.ident: int | None = None
        self._ended = Event()

    def is_done(self) -> bool:
        """Whether the thread has ended."""
        return self._ended.is_set()

    def _set_done(self) -> None:
        _foreground.discard(self)
        self._ended.set()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end, at most `timeout` seconds; without limit for None or less than 0.

        Raises RuntimeError in the thread itself, and when it was not started.
        """
        if self.ident is None:
            message = "thread not started"
            raise RuntimeError(message)
        if self.ident == get_ident() and not self.is_done():
            message = "Cannot join current thread"
            raise RuntimeError(message)
        self._ended.wait(None if timeout is not None and timeout < 0 else timeout)


def make_handle(ident: int) -> Handle:
    """A handle for a thread that was not started here."""
    handle = Handle()
    handle.ident = ident
    return handle


class _ThreadGreenlet(Greenlet):
    """Runs the body of a thread."""

    handle: Handle | None = None

    def _run(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except SystemExit:
            pass
        except BaseException as error:
            write_unraisable(error, function)
        finally:
            sentinel = _sentinels.pop(self, None)
            if sentinel is not None:
                sentinel.release()
            if self.handle is not None:
                self.handle._set_done()


def start_new_thread(
    function: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, /
) -> int:
    """Run function(*args, **kwargs) in a greenlet; its ident. As _thread.start_new_thread."""
    if not callable(function):
        message = "first arg must be callable"
        raise TypeError(message)
    if not isinstance(args, tuple):
        message = "2nd arg must be a tuple"
        raise TypeError(message)
    if kwargs is not None and not isinstance(kwargs, dict):
        message = "optional 3rd arg must be a dictionary"
        raise TypeError(message)
    made = _ThreadGreenlet(None, function, *args, **(kwargs or {}))
    made.start()
    return id(made)


def start_joinable_thread(
    function: Callable[..., object], handle: Handle | None = None, daemon: bool = True
) -> Handle:
    """Run function() in a greenlet. As _thread.start_joinable_thread."""
    if not callable(function):
        message = "thread function must be callable"
        raise TypeError(message)
    if handle is None:
        handle = Handle()
    elif not isinstance(handle, Handle):
        message = "'handle' must be a _ThreadHandle"
        raise TypeError(message)
    if handle.ident is not None:
        message = "thread already started"
        raise RuntimeError(message)
    made = _ThreadGreenlet(None, function)
    made.handle = handle
    handle.ident = id(made)
    if not daemon:
        _foreground.add(handle)
    made.start()
    return handle


class Sentinel:
    """The lock that a thread holds while it runs (CPython 3.11 and 3.12).

    A plain lock would go from one who joins to the next; here the end of the thread lets all pass.
    """

    def __init__(self) -> None:
        self._begun = False
        self._ended = Event()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it, for the thread itself; wait for the end of the thread, for others."""
        if not self._begun:
            self._begun = True
            return True
        if not blocking:
            return self._ended.is_set()
        return self._ended.wait(None if timeout < 0 else timeout)

    def release(self) -> None:
        """Note that the thread has ended."""
        self._ended.set()

    def locked(self) -> bool:
        """Whether the thread runs."""
        return self._begun and not self._ended.is_set()

    def _at_fork_reinit(self) -> None:
        self._begun = False
        self._ended = Event()


def set_sentinel() -> Sentinel:
    """A sentinel that is released when the running greenlet ends."""
    sentinel = Sentinel()
    _sentinels[getcurrent()] = sentinel
    return sentinel


def set_name(name: str) -> None:
    """Name the native thread, when its main greenlet asks; a greenlet has no name in the system."""
    if get_ident() == get_native_ident():
        _native_set_name(name)


def join_foreground() -> None:
    """Wait for the non-daemon threads, and those they start meanwhile."""
    while _foreground:
        next(iter(_foreground)).join()


class DummyThread(_StdlibDummyThread):  # type: ignore[misc]
    """Stands for a greenlet that is no thread; forgotten when the greenlet is."""

    def __init__(self) -> None:
        super().__init__()
        info: Any = getattr(_threading, "_thread_local_info", None)
        if hasattr(info, "_track_dummy_thread_ref"):
            # From 3.13 on the standard class has a way of its own to be forgotten, which fails
            # noisily at exit for a greenlet that is still suspended. Taking it away forgets us.
            del info._track_dummy_thread_ref
            _threading._active[get_ident()] = self  # type: ignore[attr-defined]
        end = weakref.finalize(getcurrent(), _forget, get_ident(), weakref.ref(self))
        end.atexit = False


def _forget(ident: int, reference: weakref.ref[DummyThread]) -> None:
    active: dict[int, Any] = _threading._active  # type: ignore[attr-defined]
    dummy = reference()
    if dummy is not None and active.get(ident) is dummy:
        del active[ident]


def _after_fork() -> None:
    """In a child, only the thread that forked goes on."""
    ident = get_ident()
    for handle in tuple(_foreground):
        if handle.ident != ident:
            handle._set_done()


os.register_at_fork(after_in_child=_after_fork)
