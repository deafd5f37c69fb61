"""Timeout: an exception that is raised in a greenlet when its time is up."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from rgevent import _rgevent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, Self

__all__ = ["Timeout", "with_timeout"]


class Timeout(BaseException):
    """Raised in the greenlet that started it, `seconds` after the start, unless cancelled.

    seconds: None for never. exception: what to raise instead of this object (a class or an
    instance), or False to end a `with` block silently. Nested timeouts are told apart by identity.
    """

    def __init__(
        self,
        seconds: float | None = None,
        exception: type[BaseException] | BaseException | Literal[False] | None = None,
    ) -> None:
        super().__init__()
        self.seconds = seconds
        self.exception = exception
        self._timer: _rgevent.Timer | None = None

    @classmethod
    def start_new(
        cls,
        timeout: float | Timeout | None = None,
        exception: type[BaseException] | BaseException | Literal[False] | None = None,
    ) -> Timeout:
        """Start a new one; a Timeout passed in is started if it is not, and returned."""
        if isinstance(timeout, Timeout):
            if not timeout.pending:
                timeout.start()
            return timeout
        made = cls(timeout, exception)
        made.start()
        return made

    @property
    def pending(self) -> bool:
        """Whether it is started and has neither expired nor been cancelled."""
        return self._timer is not None and self._timer.pending

    def start(self) -> None:
        """Begin to count. Raises AssertionError when it is counting already."""
        if self.pending:
            message = f"{self!r} is already started; to restart it, cancel it first"
            raise AssertionError(message)
        if self.seconds is None:
            return
        raised: type[BaseException] | BaseException = self
        if self.exception is not None and self.exception is not False:
            raised = self.exception
        self._timer = _rgevent.throw_later(self.seconds, _rgevent.getcurrent(), raised)

    def cancel(self) -> None:
        """Stop counting. It can be started again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Stop counting, for good."""
        self.cancel()

    def __enter__(self) -> Self:
        if not self.pending:
            self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self.cancel()
        return value is self and self.exception is False

    def __str__(self) -> str:
        if self.seconds is None:
            return ""
        suffix = "" if self.seconds == 1 else "s"
        if self.exception is None:
            return f"{self.seconds} second{suffix}"
        if self.exception is False:
            return f"{self.seconds} second{suffix} (silent)"
        return f"{self.seconds} second{suffix}: {self.exception}"

    def __repr__(self) -> str:
        state = " pending" if self.pending else ""
        return f"<{type(self).__name__} at {id(self):#x} seconds={self.seconds}{state}>"


_MISSING: Any = object()


def with_timeout(
    seconds: float | None,
    function: Callable[..., Any],
    *args: Any,
    timeout_value: Any = _MISSING,
    **kwargs: Any,
) -> Any:
    """Call function(*args, **kwargs) with a limit of `seconds`.

    When it passes, timeout_value is returned if given, else Timeout is raised.
    """
    timer = Timeout.start_new(seconds)
    try:
        return function(*args, **kwargs)
    except Timeout as expired:
        if expired is timer and timeout_value is not _MISSING:
            return timeout_value
        raise
    finally:
        timer.cancel()
