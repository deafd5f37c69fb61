"""Selectors over the cooperative select module."""

import selectors as stdlib
from collections.abc import Iterator
from typing import Any

import pytest

import rgevent
from rgevent import selectors, socket

CLASSES = [
    getattr(selectors, name)
    for name in ("SelectSelector", "PollSelector", "EpollSelector")
    if hasattr(selectors, name)
]


@pytest.fixture(params=CLASSES, ids=lambda class_: class_.__name__)
def selector(request: Any) -> Iterator[Any]:
    with rgevent.Timeout(20), request.param() as made:
        yield made


def test_default_is_the_best_one() -> None:
    best = "EpollSelector" if hasattr(stdlib, "EpollSelector") else "PollSelector"
    assert selectors.DefaultSelector is getattr(selectors, best)
    assert issubclass(selectors.DefaultSelector, stdlib.BaseSelector)


def test_ready_keys_carry_their_data(selector: Any) -> None:
    first, second = socket.socketpair()
    with first, second:
        selector.register(first, stdlib.EVENT_READ, "one")
        selector.register(second, stdlib.EVENT_READ | stdlib.EVENT_WRITE, "two")
        ((key, events),) = selector.select(5)
        assert (key.data, events) == ("two", stdlib.EVENT_WRITE)
        second.send(b"x")
        ready = {key.data: events for key, events in selector.select(5)}
        assert ready == {"one": stdlib.EVENT_READ, "two": stdlib.EVENT_WRITE}
        selector.unregister(second)
        selector.modify(first, stdlib.EVENT_WRITE)
        assert [events for _, events in selector.select(5)] == [stdlib.EVENT_WRITE]


def test_waiting_lets_others_run(selector: Any) -> None:
    first, second = socket.socketpair()
    with first, second:
        selector.register(first, stdlib.EVENT_READ)
        assert selector.select(0) == []
        assert selector.select(0.01) == []
        waiting = rgevent.spawn(selector.select)
        rgevent.sleep(0)
        assert not waiting.ready()
        second.send(b"x")
        assert [events for _, events in waiting.get(timeout=5)] == [stdlib.EVENT_READ]


def test_killed_wait_ends(selector: Any) -> None:
    first, second = socket.socketpair()
    with first, second:
        selector.register(first, stdlib.EVENT_READ)
        waiting = rgevent.spawn(selector.select)
        rgevent.sleep(0)
        waiting.kill()
        assert isinstance(waiting.value, rgevent.GreenletExit)
