"""What patching replaces, part by part."""

from __future__ import annotations

from collections.abc import Callable

from rgevent.monkey.api import (
    patch_attribute,
    patch_item,
    patch_module,
    warn,
)
from rgevent.monkey.threads import patch_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "patch_all",
    "patch_dns",
    "patch_queue",
    "patch_select",
    "patch_selectors",
    "patch_socket",
    "patch_ssl",
    "patch_time",
]

#: Parts that patch_all has done.
_done: set[str] = set()


def patch_all(
    socket: bool = True,
    dns: bool = True,
    time: bool = True,
    select: bool = True,
    thread: bool = True,
    os: bool = True,
    ssl: bool = True,
    subprocess: bool = True,
    sys: bool = False,
    aggressive: bool = True,
    Event: bool = True,  # noqa: N803
    builtins: bool = True,
    signal: bool = True,
    queue: bool = True,
    contextvars: bool = True,
    **others: bool,
) -> bool | None:
    """Make the standard library cooperative; each part can be left out by part=False.

    Patched are thread, time, socket, dns (only with socket), select, ssl and queue. The other names
    are gevent's, for parts that need no patch here or are not cooperative yet. A name that neither
    knows gets a MonkeyPatchWarning. Returns True, or None when there was nothing new to do.
    """
    if others:
        warn(f"patch_all() knows no part called {', '.join(sorted(others))}: ignored")
    wanted = {
        "thread": thread,
        "time": time,
        "socket": socket,
        "dns": socket and dns,
        "select": select,
        "ssl": ssl,
        "queue": queue,
    }
    new = [part for part, chosen in wanted.items() if chosen and part not in _done]
    for part in new:
        _PATCHERS[part]()
        _done.add(part)
    return True if new else None


def patch_time() -> None:
    """time.sleep."""
    import time

    from rgevent import time as ours

    patch_module(time, ours)


def patch_socket(dns: bool = True, aggressive: bool = True) -> None:
    """socket.socket and what makes sockets; with dns, the look-ups too."""
    import socket

    from rgevent import socket as ours

    patch_module(socket, ours)
    if dns:
        patch_dns()


def patch_dns() -> None:
    """socket.getaddrinfo and the other look-ups."""
    import socket

    from rgevent import socket as ours

    patch_module(socket, ours, ours.__dns__)


def patch_select(aggressive: bool = True) -> None:
    """select.select, poll and epoll, and the selectors built on them."""
    import select

    from rgevent import select as ours

    patch_module(select, ours)
    patch_selectors()


def patch_selectors(aggressive: bool = True) -> None:
    """The classes of selectors, which keep their identity."""
    import selectors

    from rgevent import select as ours

    patch_attribute(selectors.SelectSelector, "_select", staticmethod(ours.select))
    for class_name, maker in (("PollSelector", "poll"), ("EpollSelector", "epoll")):
        if hasattr(selectors, class_name):
            patch_attribute(getattr(selectors, class_name), "_selector_cls", getattr(ours, maker))


def patch_ssl() -> None:
    """Sockets of the standard SSLContext, which keeps its identity."""
    import ssl

    from rgevent import ssl as ours

    # The name ssl.SSLSocket stays: ours is a subclass, and the module itself needs the original.
    patch_attribute(ssl.SSLContext, "sslsocket_class", ours.SSLSocket)


def patch_queue() -> None:
    """queue.SimpleQueue; the other queues are cooperative through their locks."""
    import _queue
    import queue

    from rgevent.queue import SimpleQueue

    patch_item(_queue, "SimpleQueue", SimpleQueue)
    patch_item(queue, "SimpleQueue", SimpleQueue)


_PATCHERS: dict[str, Callable[[], Any]] = {
    "thread": patch_thread,
    "time": patch_time,
    "socket": lambda: patch_socket(dns=False),
    "dns": patch_dns,
    "select": patch_select,
    "ssl": patch_ssl,
    "queue": patch_queue,
}
