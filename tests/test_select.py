"""select, poll and epoll: waiting for several things without stopping the other greenlets."""

import os
import select as stdlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import rgevent
from rgevent import select, socket

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    first, second = socket.socketpair()
    with first, second:
        yield first, second


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    with rgevent.Timeout(20):
        yield


def poll_of(fd: Any, events: int) -> Callable[[float | None], list[tuple[int, int]]]:
    poller = select.poll()
    poller.register(fd, events)
    return lambda seconds: poller.poll(None if seconds is None else seconds * 1000)


# --- select


def test_select_tells_what_is_ready(pair: Pair) -> None:
    first, second = pair
    assert select.select([first], [first], [], 5) == ([], [first], [])
    second.send(b"x")
    assert select.select([first], [first], [], 5) == ([first], [first], [])


def test_select_lets_others_run_until_data_arrives(pair: Pair) -> None:
    first, second = pair
    waiting = rgevent.spawn(select.select, [first], [], [])
    rgevent.sleep(0)
    assert not waiting.ready()
    second.send(b"x")
    assert waiting.get(timeout=5) == ([first], [], [])


def test_select_times_out(pair: Pair) -> None:
    begun = time.monotonic()
    assert select.select([pair[0]], [], [], 0.03) == ([], [], [])
    assert time.monotonic() - begun >= 0.03


def test_select_without_sources_is_a_sleep() -> None:
    begun = time.monotonic()
    assert select.select([], [], [], 0.02) == ([], [], [])
    assert time.monotonic() - begun >= 0.02


def test_select_with_timeout_zero_gives_others_a_turn(pair: Pair) -> None:
    ran: list[int] = []
    other = rgevent.spawn(ran.append, 1)
    assert select.select([pair[0]], [], [], 0) == ([], [], [])
    assert ran == [1]
    other.join()


def test_killed_select_leaves_nothing_behind(pair: Pair) -> None:
    first, second = pair
    waiting = rgevent.spawn(select.select, [first], [], [])
    rgevent.sleep(0)
    waiting.kill()
    assert isinstance(waiting.value, rgevent.GreenletExit)
    second.send(b"x")
    assert select.select([first], [], [], 5)[0] == [first]


def test_many_greenlets_select_the_same_and_different_sources(pair: Pair) -> None:
    pairs = [socket.socketpair() for _ in range(20)]
    shared, writer = pair
    waiting = [rgevent.spawn(select.select, [shared, ours], [], []) for ours, _ in pairs]
    rgevent.sleep(0)
    for index in range(0, 20, 2):
        pairs[index][1].send(b"x")
    rgevent.joinall(waiting[::2], timeout=5)
    assert [greenlet.ready() for greenlet in waiting] == [True, False] * 10
    writer.send(b"x")
    rgevent.joinall(waiting, timeout=5)
    for index, greenlet in enumerate(waiting):
        assert greenlet.value[0] == ([shared] if index % 2 else [pairs[index][0]])
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_select_sees_data_whose_edge_a_receive_has_used(pair: Pair) -> None:
    first, second = pair
    reading = rgevent.spawn(first.recv, 1)
    rgevent.sleep(0)
    second.send(b"ab")
    assert reading.get(timeout=5) == b"a"
    assert select.select([first], [], [], 5)[0] == [first]


def test_exceptional_conditions_are_looked_for() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    with listener, client, server:
        assert select.select([], [], [server], 0) == ([], [], [])
        client.send(b"!", socket.MSG_OOB)
        with rgevent.Timeout(5):
            while select.select([], [], [server], 0.01) != ([], [], [server]):
                pass


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (([], [], [], -1), ValueError),
        (([], [], [], "soon"), TypeError),
        ((["nothing"], [], []), (TypeError, AttributeError)),
        (([-1], [], []), ValueError),
        (([None], [], []), TypeError),
        ((3, [], []), TypeError),
    ],
)
def test_wrong_arguments_fail_as_in_the_standard_module(arguments: Any, error: Any) -> None:
    with pytest.raises(error):
        select.select(*arguments)


def test_closed_fd_is_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        select.select([reader], [], [], 1)


def test_pipes_and_files_can_be_waited_for() -> None:
    reader, writer = os.pipe()
    waiting = rgevent.spawn(select.select, [reader], [], [])
    rgevent.sleep(0)
    os.write(writer, b"x")
    assert waiting.get(timeout=5)[0] == [reader]
    with open(__file__) as file:
        assert select.select([file], [], [], 5)[0] == [file]
    os.close(reader)
    os.close(writer)


def test_native_threads_select_each_in_their_hub(pair: Pair) -> None:
    first, second = pair
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(select.select([first], [], [], 10)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    second.send(b"x")
    for thread in threads:
        thread.join()
    assert results == [([first], [], [])] * 3


# --- poll


def test_poll_tells_events_and_times_out(pair: Pair) -> None:
    first, second = pair
    poll = poll_of(first, stdlib.POLLIN)
    assert poll(0) == []
    begun = time.monotonic()
    assert poll(0.03) == []
    assert time.monotonic() - begun >= 0.03
    second.send(b"x")
    assert poll(None) == [(first.fileno(), stdlib.POLLIN)]


def test_poll_lets_others_run(pair: Pair) -> None:
    first, second = pair
    waiting = rgevent.spawn(poll_of(first, stdlib.POLLIN), None)
    rgevent.sleep(0)
    assert not waiting.ready()
    second.send(b"x")
    assert waiting.get(timeout=5) == [(first.fileno(), stdlib.POLLIN)]


@pytest.mark.skipif(not hasattr(stdlib, "POLLRDHUP"), reason="a flag of Linux")
@pytest.mark.parametrize("events", [0, "POLLRDHUP"])
def test_poll_for_a_hang_up_waits_although_there_is_data(pair: Pair, events: Any) -> None:
    first, second = pair
    mask = getattr(stdlib, events) if events else 0
    second.send(b"unread")
    waiting = rgevent.spawn(poll_of(first, mask), None)
    for _ in range(3):
        rgevent.sleep(0)
    assert not waiting.ready()
    second.close()
    ((fd, got),) = waiting.get(timeout=5)
    assert fd == first.fileno()
    assert got & (stdlib.POLLHUP | mask)


def test_poll_reports_a_closed_fd() -> None:
    reader, writer = os.pipe()
    poll = poll_of(reader, stdlib.POLLIN)
    os.close(reader)
    os.close(writer)
    assert poll(1) == [(reader, stdlib.POLLNVAL)]


def test_poll_registrations_change(pair: Pair) -> None:
    first, second = pair
    poller = select.poll()
    poller.register(first, stdlib.POLLIN)
    poller.modify(first, stdlib.POLLOUT)
    assert poller.poll(1000) == [(first.fileno(), stdlib.POLLOUT)]
    poller.unregister(first)
    second.send(b"x")
    assert poller.poll(1) == []
    with pytest.raises(KeyError):
        poller.unregister(first)
    with pytest.raises(FileNotFoundError):
        poller.modify(first, stdlib.POLLIN)


def test_killed_poll_ends(pair: Pair) -> None:
    waiting = rgevent.spawn(poll_of(pair[0], stdlib.POLLIN), None)
    rgevent.sleep(0)
    waiting.kill()
    assert isinstance(waiting.value, rgevent.GreenletExit)


# --- epoll

needs_epoll = pytest.mark.skipif(not hasattr(stdlib, "epoll"), reason="epoll is Linux's")


@needs_epoll
def test_epoll_waits_and_lets_others_run(pair: Pair) -> None:
    first, second = pair
    with select.epoll() as poller:
        poller.register(first, stdlib.EPOLLIN)
        assert poller.poll(0) == []
        begun = time.monotonic()
        assert poller.poll(0.03) == []
        assert time.monotonic() - begun >= 0.03
        waiting = rgevent.spawn(poller.poll)
        rgevent.sleep(0)
        second.send(b"x")
        assert waiting.get(timeout=5) == [(first.fileno(), stdlib.EPOLLIN)]
        poller.unregister(first)
        assert poller.poll(0) == []
    assert poller.closed


@needs_epoll
def test_closing_an_epoll_wakes_its_waiter(pair: Pair) -> None:
    poller = select.epoll()
    poller.register(pair[0], stdlib.EPOLLIN)
    waiting = rgevent.spawn(poller.poll)
    rgevent.sleep(0)
    poller.close()
    poller.close()
    waiting.join(timeout=5)
    assert isinstance(waiting.exception, OSError)
    with pytest.raises(ValueError, match="closed"):
        poller.poll(0)


@needs_epoll
def test_epoll_from_a_descriptor(pair: Pair) -> None:
    first, second = pair
    with select.epoll() as poller:
        other = select.epoll.fromfd(os.dup(poller.fileno()))
        with other:
            other.register(first, stdlib.EPOLLIN)
            second.send(b"x")
            assert poller.poll(5) == [(first.fileno(), stdlib.EPOLLIN)]
