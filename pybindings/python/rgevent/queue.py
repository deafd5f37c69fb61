"""Queues between greenlets, of one native thread or of several.

An item goes to the greenlet that has waited longest. It is not lost when that greenlet is killed
or runs out of time in the same moment.
"""

from __future__ import annotations

import queue as _queue
import time
from collections import deque
from collections.abc import Iterator
from queue import Empty, Full
from types import GenericAlias

from rgevent._rgevent import LifoQueue, PriorityQueue, Queue, SimpleQueue
from rgevent.event import Event
from rgevent.lock import Semaphore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

__all__ = [
    "Channel",
    "Empty",
    "Full",
    "JoinableQueue",
    "LifoQueue",
    "PriorityQueue",
    "Queue",
    "ShutDown",
    "SimpleQueue",
]

JoinableQueue = Queue

ShutDown: type[Exception]
if hasattr(_queue, "ShutDown"):
    ShutDown = _queue.ShutDown
else:

    class ShutDown(Exception):  # type: ignore[no-redef]
        """The queue was shut down."""


class _Offer:
    """An item on its way through a channel."""

    def __init__(self, item: Any) -> None:
        self.item = item
        self.taken = Event()


class Channel:
    """A queue without room: put() waits until somebody takes the item."""

    __class_getitem__: ClassVar[Any] = classmethod(GenericAlias)

    def __init__(self, maxsize: int = 1) -> None:
        self._offers: deque[_Offer] = deque()
        self._count = Semaphore(0)
        self._getting = 0

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} at {id(self):#x}"
            f" getters={self._getting} putters={len(self._offers)}>"
        )

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        item = self.get()
        if item is StopIteration:
            raise item
        return item

    @property
    def balance(self) -> int:
        """How many offer an item, less how many wait for one."""
        return len(self._offers) - self._getting

    def qsize(self) -> int:
        """Always 0: a channel holds nothing."""
        return 0

    def empty(self) -> bool:
        """Always true."""
        return True

    def full(self) -> bool:
        """Always true."""
        return True

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Hand an item over, waiting for a taker at most `timeout` seconds if `block`.

        Raises Full when there was none in time.
        """
        waited_for = self._getting > len(self._offers)
        if not block and not waited_for:
            raise Full
        offer = _Offer(item)
        self._offers.append(offer)
        self._count.release()
        if waited_for:
            return
        try:
            offer.taken.wait(timeout)
        finally:
            if not offer.taken.is_set():
                self._offers.remove(offer)
                self._count.acquire(blocking=False)
        if not offer.taken.is_set():
            raise Full

    def put_nowait(self, item: Any) -> None:
        """Hand an item over to somebody who waits for one. Raises Full when nobody does."""
        self.put(item, False)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take an item, waiting for one at most `timeout` seconds if `block`.

        Raises Empty when there was none in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._getting += 1
            try:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                granted = self._count.acquire(block, left)
            finally:
                self._getting -= 1
            if not granted:
                raise Empty
            # Whoever offered it may have given up meanwhile.
            if self._offers:
                offer = self._offers.popleft()
                offer.taken.set()
                return offer.item

    def get_nowait(self) -> Any:
        """Take an item that somebody offers just now. Raises Empty when nobody does."""
        return self.get(False)
