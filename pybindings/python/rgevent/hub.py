"""The hub: the greenlet that runs the event loop of its native thread."""

from __future__ import annotations

import os
import sys
from types import TracebackType

from rgevent import _rgevent
from rgevent._rgevent import GreenletExit, LoopExit, get_hub, getcurrent, greenlet, sleep
from rgevent.timeout import Timeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

__all__ = ["GreenletExit", "Hub", "LoopExit", "get_hub", "getcurrent", "reinit", "sleep"]


class Hub(greenlet):
    """Runs the event loop. Made by get_hub(), one for each native thread that needs it."""

    #: Ends of greenlets that are not reported.
    NOT_ERROR: ClassVar[tuple[type[BaseException], ...]] = (GreenletExit, SystemExit)
    #: Exceptions that are raised in the main greenlet.
    SYSTEM_ERROR: ClassVar[tuple[type[BaseException], ...]] = (
        KeyboardInterrupt,
        SystemExit,
        SystemError,
    )

    def handle_error(
        self,
        context: object,
        type: type[BaseException],
        value: BaseException,
        tb: TracebackType | None,
    ) -> None:
        """Deal with an exception that nobody caught: print it, or raise it in the main greenlet."""
        if not issubclass(type, self.NOT_ERROR):
            self.print_exception(context, type, value, tb)
        if issubclass(type, self.SYSTEM_ERROR):
            self.handle_system_error(value)

    def handle_system_error(self, value: BaseException) -> None:
        """Raise `value` in the main greenlet of this thread."""
        main = self.parent
        if main is None or main is getcurrent():
            raise value
        _rgevent.task_kill(main, value)

    def print_exception(
        self,
        context: object,
        type: type[BaseException],
        value: BaseException,
        tb: TracebackType | None,
    ) -> None:
        """Write the traceback and what failed to sys.stderr."""
        stream = sys.stderr
        if stream is None:
            return
        import traceback  # seldom needed, slow to load

        traceback.print_exception(type, value, tb, file=stream)
        if context is not None:
            stream.write(f"{context!r} failed with {type.__name__}\n\n")

    def join(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left for the hub to do; false when `timeout` seconds passed first.

        Only for the main greenlet.
        """
        timer = Timeout.start_new(timeout)
        try:
            self.switch()
        except LoopExit:
            return True
        except Timeout as expired:
            if expired is not timer:
                raise
            return False
        finally:
            timer.cancel()
        return False


def reinit(hub: Any = None) -> None:
    """Make the hub of a forked child independent of its parent's. Done by itself after os.fork."""
    _rgevent.reinit_after_fork()


_rgevent.set_hub_class(Hub)

os.register_at_fork(after_in_child=_rgevent.reinit_after_fork)
