"""local: each greenlet sees its own attributes."""

import gc
import threading
import weakref

import pytest

import rgevent
from rgevent.local import local


class Thing:
    """Something that can be watched by a weak reference."""


def test_each_greenlet_has_its_own_attributes():
    data = local()
    data.name = "main"
    seen = {}

    def work(name):
        seen[name] = hasattr(data, "name")
        data.name = name
        rgevent.sleep(0)
        seen[name, "after"] = (data.name, data.__dict__, vars(data))

    rgevent.joinall([rgevent.spawn(work, name) for name in "ab"])
    assert data.name == "main"
    for name in "ab":
        assert seen[name] is False
        assert seen[name, "after"] == (name, {"name": name}, {"name": name})


def test_attributes_can_be_deleted():
    data = local()
    data.name = 1
    del data.name
    with pytest.raises(AttributeError):
        _ = data.name
    with pytest.raises(AttributeError):
        del data.name
    with pytest.raises(AttributeError):
        data.__dict__ = {}


def test_arguments_need_an_init():
    with pytest.raises(TypeError, match="not supported"):
        local(1)


def test_init_runs_for_each_greenlet():
    calls = []

    class Counted(local):
        kind = "class"

        def __init__(self, first, *, second):
            calls.append(rgevent.getcurrent())
            self.first = first
            self.second = second

        @property
        def both(self):
            return self.first + self.second

    data = Counted(1, second=2)
    data.first = 10
    assert rgevent.spawn(lambda: (data.both, data.first, data.kind)).get() == (3, 1, "class")
    assert data.both == 12
    assert len(set(calls)) == len(calls) == 2


def test_init_that_waits_keeps_greenlets_apart():
    class Slow(local):
        def __init__(self):
            self.owner = rgevent.getcurrent()
            rgevent.sleep(0.001)

    data = Slow()
    spawned = [rgevent.spawn(lambda: data.owner is rgevent.getcurrent()) for _ in range(5)]
    rgevent.joinall(spawned)
    assert [item.value for item in spawned] == [True] * 5
    assert data.owner is rgevent.getcurrent()


def test_init_that_fails_is_tried_again():
    fail = [False]

    class Picky(local):
        def __init__(self):
            if fail[0]:
                raise ValueError("not now")
            self.fine = True

    data = Picky()

    def work():
        fail[0] = True
        with pytest.raises(ValueError, match="not now"):
            _ = data.fine
        fail[0] = False
        return data.fine

    assert rgevent.spawn(work).get() is True


def test_data_goes_with_its_greenlet():
    data = local()

    def work():
        data.thing = Thing()
        return weakref.ref(data.thing)

    greenlet = rgevent.spawn(work)
    gone = greenlet.get()
    del greenlet
    rgevent.sleep(0)
    gc.collect()
    assert gone() is None
    assert not hasattr(data, "thing")


def test_data_goes_with_the_local():
    data = local()
    data.thing = Thing()
    data.itself = data
    gone = weakref.ref(data.thing)
    del data
    gc.collect()
    assert gone() is None


def test_data_goes_with_its_thread(wait_until):
    data = local()
    gone = []

    def work():
        data.thing = Thing()
        gone.append(weakref.ref(data.thing))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert not hasattr(data, "thing")

    def is_gone():
        gc.collect()
        return gone[0]() is None

    wait_until(is_gone, "the data of the ended thread")


def test_switching_while_data_is_dropped_is_safe():
    data = local()

    class Nosy:
        def __del__(self):
            rgevent.spawn(setattr, data, "name", "nosy").join()

    def work():
        data.thing = Nosy()

    for _ in range(20):
        greenlet = rgevent.spawn(work)
        greenlet.join()
        del greenlet
        data.name = "main"
        assert data.name == "main"


def test_many_greenlets_reuse_addresses_safely():
    data = local()

    def work(number):
        assert not hasattr(data, "number")
        data.number = number
        return data.number

    for number in range(2000):
        assert rgevent.spawn(work, number).get() == number
