"""select, poll and epoll that let other greenlets run."""

from __future__ import annotations

import contextlib
import select as _select
import sys
import time
from collections.abc import Iterable, Iterator

from rgevent import _rgevent
from rgevent.monkey.api import get_original

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_READ = 1
_WRITE = 2

_EVERYTHING = _select.POLLIN | _select.POLLOUT | _select.POLLPRI
#: Events that the hub waits for; the others are watched by an epoll instance made for the wait.
_PLAIN = _select.POLLIN | _select.POLLOUT

error = _select.error
_real_select: Any = get_original("select", "select")
_real_poll: Any = get_original("select", "poll")


def _fd_of(source: Any) -> int:
    fileno = getattr(source, "fileno", None)
    fd = source if fileno is None else fileno()
    if not isinstance(fd, int):
        message = "argument must be an int, or have a fileno() method."
        raise TypeError(message)
    if fd < 0:
        message = f"file descriptor cannot be a negative integer ({fd})"
        raise ValueError(message)
    return fd


def select(
    rlist: Iterable[Any],
    wlist: Iterable[Any],
    xlist: Iterable[Any],
    timeout: float | None = None,
    /,
) -> tuple[list[Any], list[Any], list[Any]]:
    """Wait until something can be read or written: three lists of what is ready.

    timeout is in seconds; None waits without limit. Exceptional conditions are looked for before
    and after the wait, but do not end it.
    """
    if timeout is not None:
        if not hasattr(timeout, "__float__") and not hasattr(timeout, "__index__"):
            message = "timeout must be a float or None"
            raise TypeError(message)
        if timeout < 0:
            message = "timeout must be non-negative"
            raise ValueError(message)
    readers, writers, exceptional = list(rlist), list(wlist), list(xlist)
    if exceptional:
        found: tuple[list[Any], list[Any], list[Any]] = _real_select([], [], exceptional, 0)
        if found[2]:
            timeout = 0.0
    wanted: dict[int, int] = {}
    for source in readers:
        fd = _fd_of(source)
        wanted[fd] = wanted.get(fd, 0) | _READ
    for source in writers:
        fd = _fd_of(source)
        wanted[fd] = wanted.get(fd, 0) | _WRITE
    ready = dict(_rgevent.wait_fds(list(wanted.items()), timeout))
    return (
        [source for source in readers if ready.get(_fd_of(source), 0) & _READ],
        [source for source in writers if ready.get(_fd_of(source), 0) & _WRITE],
        _real_select([], [], exceptional, 0)[2] if exceptional else [],
    )


class poll:
    """A set of file descriptors to wait for. As select.poll."""

    def __init__(self) -> None:
        self._poll = _real_poll()
        self._masks: dict[int, int] = {}

    def register(self, fd: Any, eventmask: int = _EVERYTHING) -> None:
        """Add a file descriptor, or change its events."""
        self._poll.register(fd, eventmask)
        self._masks[_fd_of(fd)] = eventmask

    def modify(self, fd: Any, eventmask: int) -> None:
        """Change the events of one that is there."""
        self._poll.modify(fd, eventmask)
        self._masks[_fd_of(fd)] = eventmask

    def unregister(self, fd: Any) -> None:
        """Take one out; KeyError when it is not there."""
        self._poll.unregister(fd)
        del self._masks[_fd_of(fd)]

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """Wait, at most `timeout` milliseconds: the list of (fd, events) that are ready."""
        ready: list[tuple[int, int]] = self._poll.poll(0)
        if ready:
            return ready
        limit = None if timeout is None or timeout < 0 else time.monotonic() + timeout / 1000
        wanted = [
            (
                fd,
                (_READ if mask & _select.POLLIN else 0) | (_WRITE if mask & _select.POLLOUT else 0),
            )
            for fd, mask in self._masks.items()
            if mask & _PLAIN
        ]
        others = [(fd, mask) for fd, mask in self._masks.items() if not mask & _PLAIN]
        with _watching(others) as watched:
            while True:
                left = None if limit is None else max(limit - time.monotonic(), 0.0)
                got = _rgevent.wait_fds(wanted + watched, left)
                ready = self._poll.poll(0)
                if ready or not got:
                    return ready


@contextlib.contextmanager
def _watching(others: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """What to wait for in place of fds with rare events: an epoll instance that watches them."""
    if not others:
        yield []
        return
    if sys.platform != "linux":
        yield [(fd, _READ) for fd, _ in others]
        return
    with _real_epoll() as watcher:
        for fd, mask in others:
            watcher.register(fd, mask)
        yield [(watcher.fileno(), _READ)]


__implements__ = ["poll", "select"]

if sys.platform == "linux":
    _real_epoll: Any = get_original("select", "epoll")

    class epoll:
        """An epoll instance whose poll() lets other greenlets run. As select.epoll."""

        def __init__(self, sizehint: int = -1, flags: int = 0) -> None:
            self._epoll = _real_epoll(sizehint, flags)

        @classmethod
        def fromfd(cls, fd: int) -> epoll:
            """One for an epoll file descriptor."""
            made = cls.__new__(cls)
            made._epoll = _real_epoll.fromfd(fd)
            return made

        def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
            """Wait, at most `timeout` seconds: the list of (fd, events) that are ready."""
            ready: list[tuple[int, int]] = self._epoll.poll(0, maxevents)
            if ready:
                return ready
            limit = None if timeout is None or timeout < 0 else time.monotonic() + timeout
            while True:
                left = None if limit is None else max(limit - time.monotonic(), 0.0)
                got = _rgevent.wait_fd(self._epoll.fileno(), _READ, left)
                ready = self._epoll.poll(0, maxevents)
                if ready or not got:
                    return ready

        def close(self) -> None:
            """Close it; who waits in poll() gets an OSError."""
            if not self._epoll.closed:
                _rgevent.cancel_fd(self._epoll.fileno())
            self._epoll.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._epoll, name)

        def __enter__(self) -> epoll:
            self._epoll.__enter__()
            return self

        def __exit__(self, *problem: object) -> None:
            self.close()

    __implements__.append("epoll")

for _name in dir(_select):
    if _name.isupper():
        globals()[_name] = getattr(_select, _name)
