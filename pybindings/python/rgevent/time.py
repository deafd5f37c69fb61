"""time.sleep for greenlets."""

from __future__ import annotations

import sys
from operator import index

from rgevent import _rgevent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, SupportsIndex

__all__ = ["sleep"]
__implements__ = ["sleep"]


def sleep(seconds: float | SupportsIndex, /) -> None:
    """Let other greenlets run for a number of seconds. As time.sleep.

    Raises ValueError for a negative number, TypeError for something else than a number (any real
    number is one from CPython 3.15 on, before that only floats and integers).
    """
    _rgevent.sleep(seconds if isinstance(seconds, float) else _number(seconds))


def _number(seconds: SupportsIndex) -> Any:
    """Seconds that are not a float, refused with the words of this version's time.sleep."""
    if sys.version_info >= (3, 15):
        return seconds
    try:
        return index(seconds)
    except TypeError as problem:
        if sys.version_info < (3, 14):
            raise
        message = f"{problem} or float"
        raise TypeError(message) from None
