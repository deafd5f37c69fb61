"""Queues: order, limits, hand-over, and what happens to waits that end early."""

import gc
import queue as stdlib
import threading
import weakref

import pytest

import rgevent
from rgevent.queue import (
    Channel,
    Empty,
    Full,
    LifoQueue,
    PriorityQueue,
    Queue,
    ShutDown,
    SimpleQueue,
)

BOTH = pytest.mark.parametrize("kind", [Queue, SimpleQueue])


@pytest.mark.parametrize(
    ("kind", "order"), [(Queue, [3, 1, 2]), (LifoQueue, [2, 1, 3]), (PriorityQueue, [1, 2, 3])]
)
def test_items_come_out_in_the_order_of_the_kind(kind, order):
    queue = kind(items=[3, 1])
    queue.put(2)
    assert queue.peek() == order[0]
    assert (len(queue), queue.empty(), bool(queue)) == (3, False, True)
    assert [queue.get() for _ in order] == order
    assert queue.empty()


def test_the_exceptions_are_those_of_the_standard_library():
    assert (Empty, Full) == (stdlib.Empty, stdlib.Full)
    assert issubclass(ShutDown, Exception)


@BOTH
def test_a_ready_queue_does_not_wait(kind):
    queue = kind(1)
    assert queue.maxsize == 1
    queue.put_nowait("a")
    assert queue.full()
    with pytest.raises(Full):
        queue.put_nowait("b")
    assert queue.get_nowait() == "a"
    with pytest.raises(Empty):
        queue.get_nowait()
    with pytest.raises(Empty):
        queue.peek_nowait()


@BOTH
@pytest.mark.parametrize("maxsize", [None, 0, -1])
def test_no_limit_reads_back_as_none(kind, maxsize):
    queue = kind(maxsize)
    assert queue.maxsize is None
    assert not queue.full()


@BOTH
def test_waits_time_out(kind):
    queue = kind(1)
    with pytest.raises(Empty):
        queue.get(timeout=0.01)
    with pytest.raises(Empty):
        queue.peek(timeout=0.01)
    queue.put(1)
    with pytest.raises(Full):
        queue.put(2, timeout=0.01)
    assert list(queue.queue) == [1]
    with pytest.raises(ValueError, match="non-negative"):
        queue.put(2, timeout=-1)


def test_getters_are_served_in_the_order_of_arrival():
    queue = Queue()
    log = []
    waiters = [rgevent.spawn(lambda n=n: log.append((n, queue.get()))) for n in range(3)]
    rgevent.sleep(0)
    for item in "abc":
        queue.put(item)
    assert queue.empty(), "the items are promised"
    with pytest.raises(Empty):
        queue.get_nowait()
    rgevent.joinall(waiters)
    assert log == [(0, "a"), (1, "b"), (2, "c")]


def test_putters_are_served_in_the_order_of_arrival():
    queue = Queue(1, items=["first"])
    waiters = [rgevent.spawn(queue.put, n) for n in range(3)]
    rgevent.sleep(0)
    assert queue.get() == "first"
    assert queue.full(), "the place is promised"
    assert [queue.get() for _ in waiters] == [0, 1, 2]
    rgevent.joinall(waiters)


def test_an_item_outlives_a_getter_killed_in_the_same_moment():
    queue = Queue()
    first, second = rgevent.spawn(queue.get), rgevent.spawn(queue.get)
    rgevent.sleep(0)
    first.kill(block=False)
    queue.put("item")
    second.join(timeout=5)
    assert second.value == "item"
    assert isinstance(first.value, rgevent.GreenletExit)


def test_an_item_outlives_the_only_getter():
    queue = Queue()
    getter = rgevent.spawn(queue.get)
    rgevent.sleep(0)
    getter.kill(block=False)
    queue.put("item")
    getter.join()
    assert queue.get_nowait() == "item"


def test_an_item_put_at_the_deadline_is_delivered_or_stays():
    for _ in range(50):
        queue = Queue()
        got = []

        def getter(queue=queue, got=got):
            try:
                got.append(queue.get(timeout=0.001))
            except Empty:
                pass

        waiter = rgevent.spawn(getter)
        rgevent.spawn_later(0.001, queue.put, "item")
        waiter.join()
        if not got:
            got.append(queue.get(timeout=5))
        assert got == ["item"]
        assert queue.empty()


def test_a_killed_putter_leaves_its_place_to_the_next():
    queue = Queue(1, items=["first"])
    killed, next_one = rgevent.spawn(queue.put, "lost"), rgevent.spawn(queue.put, "next")
    rgevent.sleep(0)
    killed.kill(block=False)
    assert queue.get() == "first"
    assert queue.get(timeout=5) == "next"
    rgevent.joinall([killed, next_one])
    assert queue.empty()


def test_peek_takes_nothing():
    queue = Queue()
    peeker = rgevent.spawn(queue.peek)
    rgevent.sleep(0)
    queue.put(1)
    peeker.join()
    assert peeker.value == 1
    assert queue.get_nowait() == 1


def test_iteration_ends_at_stop_iteration():
    assert list(Queue(items=[1, 2, StopIteration, 3])) == [1, 2]
    assert list(SimpleQueue(items=[StopIteration])) == []


def test_join_waits_for_every_task():
    queue = Queue(items=[1, 2])
    assert queue.unfinished_tasks == 2
    assert not queue.join(timeout=0.01)

    def work():
        for _ in range(2):
            queue.get()
            queue.task_done()

    rgevent.spawn(work)
    assert queue.join(timeout=5)
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()


def test_a_killed_join_leaves_the_others_waiting():
    queue = Queue(items=[1])
    killed, other = rgevent.spawn(queue.join), rgevent.spawn(queue.join)
    rgevent.sleep(0)
    killed.kill()
    queue.task_done()
    other.join(timeout=5)
    assert other.value is True


def test_shutdown_ends_the_waits():
    queue = Queue()
    getter = rgevent.spawn(pytest.raises, ShutDown, queue.get)
    bounded = Queue(1, items=["item"])
    putter = rgevent.spawn(pytest.raises, ShutDown, bounded.put, 1)
    rgevent.sleep(0)
    queue.shutdown()
    bounded.shutdown()
    rgevent.joinall([getter, putter], raise_error=True)
    assert bounded.get() == "item"
    for attempt in (bounded.get, bounded.get_nowait, lambda: bounded.put(1)):
        with pytest.raises(ShutDown):
            attempt()


def test_immediate_shutdown_counts_the_items_as_done():
    queue = Queue(items=[1, 2])
    joiner = rgevent.spawn(queue.join)
    rgevent.sleep(0)
    queue.shutdown(immediate=True)
    joiner.join(timeout=5)
    assert joiner.value is True
    assert (queue.qsize(), queue.is_shutdown) == (0, True)


def test_the_container_is_live():
    queue = Queue(items=[1, 2, 3])
    queue.queue.remove(2)
    assert [queue.get(), queue.get()] == [1, 3]
    queue.queue.append(4)
    assert queue.get() == 4
    queue.put(5)
    queue.queue.clear()
    assert queue.empty()


def test_a_getter_whose_item_was_taken_from_the_container_waits_on():
    queue = Queue()
    getter = rgevent.spawn(queue.get)
    rgevent.sleep(0)
    queue.put("gone")
    queue.queue.clear()
    rgevent.sleep(0)
    assert not getter.ready()
    queue.put("here")
    getter.join(timeout=5)
    assert getter.value == "here"


def test_subclasses_replace_the_store():
    class Unique(Queue):
        def _init(self, maxsize):
            self.queue = set()

        def _put(self, item):
            self.queue.add(item)

        def _get(self):
            return self.queue.pop()

        def _qsize(self):
            return len(self.queue)

    queue = Unique()
    getters = [rgevent.spawn(queue.get) for _ in range(2)]
    rgevent.sleep(0)
    queue.put(1)
    queue.put(1)
    rgevent.sleep(0)
    queue.put(2)
    rgevent.joinall(getters, timeout=5)
    assert sorted(getter.value for getter in getters) == [1, 2]


def test_errors_of_a_store_leave_the_queue_usable():
    class Picky(Queue):
        def _put(self, item):
            if item is None:
                raise TypeError("not this one")
            super()._put(item)

    queue = Picky(1)
    getter = rgevent.spawn(queue.get)
    rgevent.sleep(0)
    with pytest.raises(TypeError, match="not this one"):
        queue.put(None)
    queue.put(1)
    getter.join(timeout=5)
    assert getter.value == 1
    queue.put(2)
    assert queue.get() == 2
    assert queue.unfinished_tasks == 2


def test_subclasses_take_their_own_arguments():
    class Named(Queue):
        def __init__(self, name, *, size):
            super().__init__(size)
            self.name = name

    queue = Named("n", size=2)
    assert (queue.name, queue.maxsize) == ("n", 2)
    assert Queue[int].__origin__ is Queue


def test_items_pass_between_native_threads():
    queue, answers = Queue(2), Queue()

    def worker():
        for item in queue:
            answers.put(item * 2)

    threads = [threading.Thread(target=worker, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(200):
        queue.put(number, timeout=10)
    for _ in threads:
        queue.put(StopIteration, timeout=10)
    assert sorted(answers.get(timeout=10) for _ in range(200)) == list(range(0, 400, 2))
    for thread in threads:
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_a_queue_in_a_cycle_is_collected():
    queue = Queue()
    queue.put(queue)
    gone = weakref.ref(queue)
    del queue
    gc.collect()
    assert gone() is None


def test_a_channel_hands_over():
    channel = Channel()
    with pytest.raises(Full):
        channel.put_nowait(1)
    with pytest.raises(Empty):
        channel.get_nowait()
    with pytest.raises(Full):
        channel.put(1, timeout=0.01)
    with pytest.raises(Empty):
        channel.get(timeout=0.01)
    log = []

    def put():
        channel.put("item")
        log.append("put")

    putter = rgevent.spawn(put)
    rgevent.sleep(0)
    assert log == []
    assert channel.get() == "item"
    putter.join(timeout=5)
    assert log == ["put"]
    getter = rgevent.spawn(channel.get)
    rgevent.sleep(0)
    channel.put_nowait("other")
    getter.join(timeout=5)
    assert getter.value == "other"


def test_a_killed_putter_withdraws_from_the_channel():
    channel = Channel()
    putter = rgevent.spawn(channel.put, "lost")
    rgevent.sleep(0)
    putter.kill()
    with pytest.raises(Empty):
        channel.get(timeout=0.01)
    assert channel.balance == 0
