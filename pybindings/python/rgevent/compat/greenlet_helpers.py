"""The greenlet package's greenlet._greenlet: what its own tests need beside the public names."""

from __future__ import annotations

import sys

from rgevent import _rgevent
from rgevent.greenlet import (
    _C_API,
    CLOCKS_PER_SEC,
    GREENLET_USE_CONTEXT_VARS,
    GREENLET_USE_GC,
    GREENLET_USE_TRACING,
    GreenletExit,
    enable_optional_cleanup,
    error,
    get_clocks_used_doing_optional_cleanup,
    getcurrent,
    gettrace,
    greenlet,
    settrace,
)

__all__ = [
    "CLOCKS_PER_SEC",
    "GREENLET_USE_CONTEXT_VARS",
    "GREENLET_USE_GC",
    "GREENLET_USE_TRACING",
    "_C_API",
    "GreenletExit",
    "enable_optional_cleanup",
    "error",
    "get_clocks_used_doing_optional_cleanup",
    "get_pending_cleanup_count",
    "get_total_main_greenlets",
    "getcurrent",
    "gettrace",
    "greenlet",
    "set_thread_local",
    "settrace",
]


def get_total_main_greenlets() -> int:
    """How many threads have greenlets, those included that ended and were not cleaned up yet."""
    return _rgevent.thread_counts()[0]


def get_pending_cleanup_count() -> int:
    """How many threads have ended and wait to be cleaned up after."""
    return _rgevent.thread_counts()[1]


def set_thread_local(key: object, value: object) -> None:
    """Put a value into the dict of the thread state, which lives as long as the thread."""
    _rgevent.set_thread_local(key, value)


if sys.version_info < (3, 13):

    def get_tstate_trash_delete_nesting() -> int:
        """How deep deallocations are nested at the moment."""
        return _rgevent.trash_nesting()
