"""Green threads for Python: blocking code made cooperative, on an engine in Rust.

    import rgevent; rgevent.patch_all()

Names and meanings follow gevent. rgevent.greenlet stands in for the greenlet package.
"""

from __future__ import annotations

from rgevent import _rgevent
from rgevent._config import config, stack_info
from rgevent._rgevent import GreenletExit, getcurrent, sleep
from rgevent.greenlet import (
    Greenlet,
    iwait,
    joinall,
    kill,
    killall,
    spawn,
    spawn_later,
    spawn_raw,
    wait,
)
from rgevent.hub import get_hub, reinit
from rgevent.timeout import Timeout, with_timeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

__all__ = [
    "Greenlet",
    "GreenletExit",
    "Timeout",
    "config",
    "get_hub",
    "getcurrent",
    "iwait",
    "joinall",
    "kill",
    "killall",
    "patch_all",
    "reinit",
    "sleep",
    "spawn",
    "spawn_later",
    "spawn_raw",
    "stack_info",
    "switch",
    "wait",
    "with_timeout",
]


def switch(*args: Any, **kwargs: Any) -> Any:
    """switch(g, *args, **kwargs) is g.switch(*args, **kwargs).

    switch() gives way to the hub until somebody switches back, and returns what that passes.
    """
    if not args:
        return get_hub().switch(**kwargs)
    target, *rest = args
    if not isinstance(target, _rgevent.greenlet):
        message = f"switch() expects a greenlet first, not {type(target).__name__}"
        raise TypeError(message)
    return target.switch(*rest, **kwargs)


def patch_all(*parts: bool, **named_parts: bool) -> bool | None:
    """Make the standard library cooperative; see rgevent.monkey.patch_all."""
    from rgevent import monkey

    return monkey.patch_all(*parts, **named_parts)
