"""time.sleep for greenlets."""

from __future__ import annotations

import sys
from operator import index
from typing import SupportsIndex

from rgevent import _rgevent

__all__ = ["sleep"]
__implements__ = ["sleep"]


def sleep(seconds: float | SupportsIndex, /) -> None:
    """Let other greenlets run for a number of seconds. As time.sleep.

    Raises ValueError for a negative number, TypeError for something else than a number.
    """
    _rgevent.sleep(seconds if isinstance(seconds, float) else _whole(seconds))


def _whole(seconds: SupportsIndex) -> int:
    try:
        return index(seconds)
    except TypeError as problem:
        if sys.version_info < (3, 14):
            raise
        # What time.sleep says from 3.14 on.
        message = f"{problem} or float"
        raise TypeError(message) from None
