"""Event and AsyncResult: ready, timeout, kill, links, and several native threads."""

import gc
import threading
import traceback
import weakref

import pytest

import rgevent
from rgevent.event import AsyncResult, Event


def test_a_set_event_does_not_wait():
    event = Event()
    assert not event.is_set()
    assert not event.isSet()
    event.set()
    assert event.is_set()
    assert event.ready()
    assert event.wait() is True
    event.clear()
    assert not event.is_set()
    assert "unset" in repr(event)


def test_a_wait_for_an_event_times_out():
    assert Event().wait(timeout=0.01) is False
    assert Event().wait(0) is False


def test_everyone_who_waits_goes_on():
    event = Event()
    waiters = [rgevent.spawn(event.wait) for _ in range(5)]
    rgevent.sleep(0)
    event.set()
    event.clear()
    rgevent.joinall(waiters, timeout=5)
    assert [waiter.value for waiter in waiters] == [True] * 5


def test_a_killed_waiter_leaves_the_event():
    event = Event()
    killed, other = rgevent.spawn(event.wait), rgevent.spawn(event.wait)
    rgevent.sleep(0)
    killed.kill()
    event.set()
    other.join(timeout=5)
    assert isinstance(killed.value, rgevent.GreenletExit)
    assert other.value is True


def test_links_are_called_once_with_the_event():
    event = Event()
    log = []
    event.rawlink(log.append)
    event.rawlink(log.clear)
    event.unlink(log.clear)
    event.set()
    assert log == [], "links are called in the hub"
    rgevent.sleep(0.001)
    event.set()
    rgevent.sleep(0.001)
    assert log == [event]
    event.rawlink(log.append)
    rgevent.sleep(0.001)
    assert log == [event, event]
    with pytest.raises(TypeError, match="callable"):
        event.rawlink(None)


def test_a_link_of_another_thread_is_called_there():
    event = Event()
    called_in = []
    linked = threading.Event()
    done = Event()

    def other():
        event.rawlink(lambda _: (called_in.append(threading.get_ident()), done.set()))
        linked.set()
        done.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    assert linked.wait(10)
    event.set()
    thread.join(10)
    assert called_in == [thread.ident]


def test_a_failing_link_does_not_stop_the_others(capsys):
    event = Event()
    log = []
    event.rawlink(lambda _: 1 / 0)
    event.rawlink(log.append)
    event.set()
    rgevent.sleep(0.001)
    assert log == [event]
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_threads_and_greenlets_wait_for_one_event():
    event = Event()
    results = []
    threads = [threading.Thread(target=lambda: results.append(event.wait(10))) for _ in range(3)]
    for thread in threads:
        thread.start()
    waiter = rgevent.spawn(event.wait, 10)
    rgevent.sleep(0)
    event.set()
    waiter.join(timeout=10)
    for thread in threads:
        thread.join(10)
    assert results == [True] * 3
    assert waiter.value is True


def test_an_event_of_another_thread_ends_the_wait():
    event = Event()
    thread = threading.Timer(0.02, event.set)
    thread.start()
    assert event.wait(10)
    thread.join()


def test_a_subclass_takes_its_own_arguments():
    class Named(Event):
        def __init__(self, name):
            super().__init__()
            self.name = name

    assert Named("n").name == "n"


def test_an_event_in_a_cycle_is_collected():
    event = Event()
    event.rawlink(lambda _, event=event: None)
    gone = weakref.ref(event)
    del event
    gc.collect()
    assert gone() is None


def test_a_result_gives_its_value():
    result = AsyncResult()
    assert (result.ready(), result.successful(), result.value) == (False, False, None)
    result.set("value")
    assert result.get() == result.get_nowait() == result.result() == result.wait() == "value"
    assert result.ready()
    assert result.done()
    assert result.successful()
    assert (result.exception, result.exc_info) == (None, ())
    assert (result.cancel(), result.cancelled()) == (False, False)
    result.set_result("other")
    assert result.value == "other"


def test_a_result_raises_its_exception_with_the_same_traceback_each_time():
    result = AsyncResult()
    try:
        raise KeyError("why")
    except KeyError as error:
        result.set_exception(error)
    lengths = set()
    for _ in range(3):
        with pytest.raises(KeyError) as caught:
            result.get()
        lengths.add(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(lengths) == 1
    assert result.wait() is None
    assert result.ready()
    assert not result.successful()
    assert result.exc_info[:2] == (KeyError, result.exception)


def test_a_result_that_does_not_come_raises_timeout():
    result = AsyncResult()
    with pytest.raises(rgevent.Timeout):
        result.get(timeout=0.01)
    with pytest.raises(rgevent.Timeout):
        result.get(block=False)
    with pytest.raises(rgevent.Timeout):
        result.get_nowait()
    assert result.wait(timeout=0.01) is None


def test_a_killed_getter_leaves_the_result():
    result = AsyncResult()
    killed, other = rgevent.spawn(result.get), rgevent.spawn(result.get)
    rgevent.sleep(0)
    killed.kill()
    result.set(1)
    other.join(timeout=5)
    assert other.value == 1


def test_a_result_follows_a_greenlet():
    good, bad = AsyncResult(), AsyncResult()
    rgevent.spawn(lambda: "done").link(good)
    failing = rgevent.Greenlet(lambda: [][1])
    failing.link(bad)
    rgevent.get_hub().handle_error = lambda *_: None
    try:
        failing.start()
        assert good.get(timeout=5) == "done"
        with pytest.raises(IndexError):
            bad.get(timeout=5)
    finally:
        del rgevent.get_hub().handle_error


def test_a_result_crosses_threads():
    result = AsyncResult()
    thread = threading.Timer(0.02, result.set, ["value"])
    thread.start()
    assert result.get(timeout=10) == "value"
    thread.join()
