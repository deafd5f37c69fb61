"""Greenlets: the raw ones of the greenlet package, and gevent's, which the hub runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

from rgevent import _rgevent
from rgevent._rgevent import (
    _C_API,
    GreenletExit,
    call_soon,
    error,
    getcurrent,
    gettrace,
    greenlet,
    settrace,
)
from rgevent.timeout import Timeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Self

__all__ = [
    "_C_API",
    "Greenlet",
    "GreenletExit",
    "error",
    "getcurrent",
    "gettrace",
    "greenlet",
    "iwait",
    "joinall",
    "kill",
    "killall",
    "settrace",
    "spawn",
    "spawn_later",
    "spawn_raw",
    "wait",
]

#: The version of the greenlet package whose contract this follows.
__version__ = "3.5.6"

GREENLET_USE_GC = GREENLET_USE_TRACING = GREENLET_USE_CONTEXT_VARS = True
CLOCKS_PER_SEC = 1_000_000

_optional_cleanup_enabled = True


def enable_optional_cleanup(flag: bool, /) -> None:
    """Switch optional cleanup on or off. There is none here: nothing is ever left to be found."""
    global _optional_cleanup_enabled
    _optional_cleanup_enabled = bool(flag)


def get_clocks_used_doing_optional_cleanup() -> int | None:
    """Time spent on optional cleanup, in clock ticks: none; None while it is switched off."""
    return 0 if _optional_cleanup_enabled else None


class Greenlet(_rgevent.GreenletBase):
    """A greenlet that the hub runs, with a result others can wait for.

    Greenlet(run=None, *args, **kwargs): run is called with the arguments once started. A subclass
    may define _run(*args, **kwargs) instead. Ending by GreenletExit counts as success, with the
    exception as the value; any other exception is kept, reported by the hub, and raised by get().
    """

    _spawn_count: ClassVar[int] = 0
    name: str

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "minimal_ident":
            Greenlet._spawn_count += 1
            self.minimal_ident = Greenlet._spawn_count
            return self.minimal_ident
        if attribute == "name":
            self.name = f"{type(self).__name__}-{self.minimal_ident}"
            return self.name
        message = f"{type(self).__name__!r} object has no attribute {attribute!r}"
        raise AttributeError(message)

    @classmethod
    def spawn(cls, *args: Any, **kwargs: Any) -> Self:
        """Make one and start it."""
        return _rgevent.task_spawn(cls, *args, **kwargs)

    @classmethod
    def spawn_later(cls, seconds: float, *args: Any, **kwargs: Any) -> Self:
        """Make one and start it in `seconds`."""
        made = cls(*args, **kwargs)
        made.start_later(seconds)
        return made

    def start(self) -> None:
        """Let the hub run it in its next turn. Starting twice does nothing."""
        _rgevent.task_start(self)

    def start_later(self, seconds: float) -> None:
        """Let the hub run it in `seconds`."""
        self._start_timer = _rgevent.call_later(seconds, self.start)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        """What is run when no function was given; subclasses override it."""

    def run(self) -> Any:
        """What the greenlet runs when it is switched to by hand."""
        function = _rgevent.task_get(self, "function") or self._run
        return function(*self.args, **self.kwargs)

    def join(self, timeout: float | None = None) -> None:
        """Wait until it ends, at most `timeout` seconds."""
        _rgevent.task_join(self, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Wait for the result and return it, or raise the exception it ended with.

        Raises Timeout when it has not ended in time (at once when block is false).
        """
        if not _rgevent.task_join(self, timeout if block else 0):
            expired = Timeout(timeout if block else 0)
            raise expired
        if (exception := self.exception) is not None:
            raise exception
        return self.value

    def kill(
        self,
        exception: type[BaseException] | BaseException = GreenletExit,
        block: bool = True,
        timeout: float | None = None,
    ) -> None:
        """Raise `exception` in it, and wait for its end unless block is false.

        One that has not begun never does. Killing twice, or a dead one, does nothing.
        """
        if self is getcurrent():
            raise exception
        _rgevent.task_kill(self, exception)
        if block:
            self.join(timeout)

    def ready(self) -> bool:
        """Whether it has ended."""
        return bool(_rgevent.task_get(self, "ready"))

    def successful(self) -> bool:
        """Whether it has ended without an exception (GreenletExit is none)."""
        return self.ready() and self.exception is None

    @property
    def started(self) -> bool:
        """Whether it is queued or running."""
        return bool(_rgevent.task_get(self, "scheduled")) and not self.ready()

    def __bool__(self) -> bool:
        return self.started

    @property
    def dead(self) -> bool:
        """Whether it has ended, or never will begin."""
        return self.ready()

    @property
    def value(self) -> Any:
        """What it returned; None before its end or after an exception."""
        return _rgevent.task_get(self, "value")

    @property
    def exception(self) -> BaseException | None:
        """The exception it ended with."""
        held: BaseException | None = _rgevent.task_get(self, "exception")
        return held

    @property
    def exc_info(
        self,
    ) -> tuple[type[BaseException], BaseException, TracebackType | None] | tuple[()]:
        """The exception as a triple, or an empty tuple."""
        if (exception := self.exception) is None:
            return ()
        return type(exception), exception, exception.__traceback__

    @property
    def args(self) -> tuple[Any, ...]:
        """Positional arguments of the function; empty after the end."""
        return _rgevent.task_get(self, "args") or ()

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the function; empty after the end."""
        return _rgevent.task_get(self, "kwargs") or {}

    def rawlink(self, callback: Callable[[Self], object]) -> None:
        """Have callback(self) called in the hub at the end."""
        _rgevent.task_link(self, callback)

    def link(self, callback: Callable[[Self], object]) -> None:
        """Have callback(self) called in a greenlet of its own at the end."""
        _rgevent.task_link(self, _Link(callback))

    def link_value(self, callback: Callable[[Self], object]) -> None:
        """As link, for an end without an exception only."""
        _rgevent.task_link(self, _SuccessLink(callback))

    def link_exception(self, callback: Callable[[Self], object]) -> None:
        """As link, for an end by an exception only."""
        _rgevent.task_link(self, _FailureLink(callback))

    def unlink(self, callback: Callable[[Self], object]) -> None:
        """Take a linked callback out."""
        _rgevent.task_unlink(self, callback)

    def unlink_all(self) -> None:
        """Take all linked callbacks out."""
        _rgevent.task_unlink_all(self)

    def has_links(self) -> bool:
        """Whether callbacks are linked."""
        return _rgevent.task_has_links(self) > 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        if kind is None:
            self.join()
        else:
            self.kill()


class _Link:
    """Calls back in a greenlet of its own; equal to its callback, so that unlink finds it."""

    def __init__(self, callback: Callable[[Any], object]) -> None:
        self.callback = callback

    def wants(self, source: Greenlet) -> bool:
        return True

    def __call__(self, source: Greenlet) -> None:
        if self.wants(source):
            Greenlet.spawn(self.callback, source)

    def __eq__(self, other: object) -> bool:
        return bool(self.callback == other)

    def __hash__(self) -> int:
        return hash(self.callback)


class _SuccessLink(_Link):
    def wants(self, source: Greenlet) -> bool:
        return source.successful()


class _FailureLink(_Link):
    def wants(self, source: Greenlet) -> bool:
        return not source.successful()


spawn = Greenlet.spawn
spawn_later = Greenlet.spawn_later


def spawn_raw(function: Callable[..., object], *args: Any, **kwargs: Any) -> greenlet:
    """A bare greenlet, started by the hub in its next turn: no result, no links."""
    made = greenlet(function, _rgevent.get_hub())
    call_soon(_switch_to, made, args, kwargs)
    return made


def _switch_to(target: greenlet, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    target.switch(*args, **kwargs)


def kill(greenlet: greenlet, exception: type[BaseException] | BaseException = GreenletExit) -> None:
    """Have `exception` raised in any greenlet soon, without waiting."""
    if not greenlet.dead:
        _rgevent.task_kill(greenlet, exception)


def iwait(
    objects: Iterable[Any], timeout: float | None = None, count: int | None = None
) -> Iterator[Any]:
    """Yield each object as it becomes ready, at most `count`, for at most `timeout` seconds."""
    from rgevent.queue import Empty, SimpleQueue

    objects = list(objects)
    wanted = len(objects) if count is None else min(count, len(objects))
    arrivals: Any = SimpleQueue()
    for item in objects:
        item.rawlink(arrivals.put)
    timer = Timeout.start_new(timeout)
    try:
        for _ in range(wanted):
            yield arrivals.get()
    except Timeout as expired:
        if expired is not timer:
            raise
    except Empty:
        return
    finally:
        timer.cancel()
        for item in objects:
            item.unlink(arrivals.put)


def wait(
    objects: Iterable[Any] | None = None, timeout: float | None = None, count: int | None = None
) -> Any:
    """Wait for `count` (or all) of the objects; the list of those that became ready.

    Without objects: wait until nothing is left for the hub to do.
    """
    if objects is None:
        return _rgevent.get_hub().join(timeout=timeout)
    return list(iwait(objects, timeout, count))


def joinall(
    greenlets: Iterable[Any],
    timeout: float | None = None,
    raise_error: bool = False,
    count: int | None = None,
) -> list[Any]:
    """Wait for greenlets to end; the list of those that have.

    timeout is in seconds, for all together. With raise_error the first exception is raised.
    """
    greenlets = list(greenlets)
    if count is None and timeout is None and not raise_error:
        for item in greenlets:
            item.join()
        return greenlets
    done = []
    for item in iwait(greenlets, timeout, count):
        if raise_error and getattr(item, "exception", None) is not None:
            raise item.exception
        done.append(item)
    return done


def killall(
    greenlets: Iterable[Any],
    exception: type[BaseException] | BaseException = GreenletExit,
    block: bool = True,
    timeout: float | None = None,
) -> None:
    """Kill greenlets together, and wait for their ends unless block is false.

    timeout is in seconds; Timeout is raised when not all have ended by then.
    """
    greenlets = list(greenlets)
    for item in greenlets:
        if not item.dead:
            _rgevent.task_kill(item, exception)
    if block:
        with Timeout(timeout):
            for item in greenlets:
                if isinstance(item, Greenlet):
                    item.join()
                else:
                    while not item.dead:
                        _rgevent.sleep(0)


_rgevent.set_greenlet_class(Greenlet)
