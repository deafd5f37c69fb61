"""Locks and semaphores between greenlets, of one native thread or of several.

Who waits is served in the order of arrival: a lock that is released while somebody waits belongs
to the first in line at once.
"""

from __future__ import annotations

from types import TracebackType

from rgevent._rgevent import BoundedSemaphore, Lock, RLock, Semaphore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

__all__ = ["BoundedSemaphore", "DummySemaphore", "Lock", "RLock", "Semaphore"]


class DummySemaphore:
    """A semaphore with no end of permits: whoever asks gets one, at once."""

    def __init__(self, value: object = None) -> None:
        pass

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def locked(self) -> Literal[False]:
        """Always false: a permit is free."""
        return False

    def ready(self) -> Literal[True]:
        """Always true: a permit is free."""
        return True

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> Literal[True]:
        """Succeed at once."""
        return True

    def release(self) -> None:
        """Do nothing."""

    def rawlink(self, callback: Any) -> None:
        """Do nothing: nobody is told what has always been so."""

    def unlink(self, callback: Any) -> None:
        """Do nothing."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None
