"""The classes of selectors, over the cooperative parts of rgevent.select."""

from __future__ import annotations

import selectors as _selectors

from rgevent import select as _select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EVENT_READ = _selectors.EVENT_READ
EVENT_WRITE = _selectors.EVENT_WRITE
BaseSelector = _selectors.BaseSelector
SelectorKey = _selectors.SelectorKey

__all__ = [
    "EVENT_READ",
    "EVENT_WRITE",
    "BaseSelector",
    "DefaultSelector",
    "PollSelector",
    "SelectSelector",
    "SelectorKey",
]


class SelectSelector(_selectors.SelectSelector):
    """As selectors.SelectSelector."""

    _select = staticmethod(_select.select)


class PollSelector(_selectors.PollSelector):
    """As selectors.PollSelector."""

    _selector_cls = _select.poll


#: The best one there is.
DefaultSelector: Any = PollSelector

if hasattr(_selectors, "EpollSelector"):

    class EpollSelector(_selectors.EpollSelector):
        """As selectors.EpollSelector."""

        _selector_cls = _select.epoll

    DefaultSelector = EpollSelector
    __all__ += ["EpollSelector"]
