"""Name look-ups: the standard module's answers, without stopping the other greenlets."""

import contextlib
import socket as stdlib
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import rgevent
from rgevent import resolver
from rgevent._rgevent import run_in_thread

STREAM = stdlib.SOCK_STREAM


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    with rgevent.Timeout(30):
        yield


@contextlib.contextmanager
def held_call() -> Iterator[tuple[rgevent.Greenlet, threading.Event]]:
    """A greenlet whose call is on a native thread until the event is set."""
    go, begun = threading.Event(), threading.Event()

    def call() -> str:
        begun.set()
        go.wait(20)
        return "done"

    greenlet = rgevent.spawn(run_in_thread, call)
    rgevent.sleep(0)
    assert begun.wait(10)
    try:
        yield greenlet, go
    finally:
        go.set()


@pytest.mark.parametrize(
    "arguments",
    [
        ("localhost", 80),
        ("localhost", "80", stdlib.AF_INET),
        ("localhost", None, 0, STREAM),
        ("localhost", 80, stdlib.AF_INET, STREAM, stdlib.IPPROTO_TCP, stdlib.AI_CANONNAME),
        (b"localhost", b"80", stdlib.AF_INET, STREAM),
        ("127.0.0.1", 80),
        ("127.0.0.1", "80", stdlib.AF_INET, STREAM),
        ("::1", 443, stdlib.AF_INET6, STREAM),
        ("::ffff:127.0.0.1", 443, stdlib.AF_INET6, STREAM),
        ("127.1", 80, 0, STREAM),
        (None, 80, stdlib.AF_INET, STREAM, 0, stdlib.AI_PASSIVE),
        (None, 0),
    ],
)
def test_answers_are_those_of_the_standard_module(arguments: Any) -> None:
    ours, theirs = resolver.getaddrinfo(*arguments), stdlib.getaddrinfo(*arguments)
    assert ours == theirs
    assert [tuple(map(type, entry)) for entry in ours] == [
        tuple(map(type, entry)) for entry in theirs
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("localhost", "no-such-service"),
        ("127.0.0.1", "no-such-service"),
        ("localhost", 80, 0, 0, 0, stdlib.AI_NUMERICHOST),
        ("localhost", 80, 12345),
        (None, None),
        ("", "no-such-service"),
        ("x" * 64, 80),
        (12, 80),
        ("localhost", 1.5),
    ],
)
def test_errors_are_those_of_the_standard_module(arguments: Any) -> None:
    with pytest.raises(Exception) as theirs:  # noqa: PT011
        stdlib.getaddrinfo(*arguments)
    with pytest.raises(type(theirs.value)) as ours:
        resolver.getaddrinfo(*arguments)
    if isinstance(theirs.value, OSError):
        assert ours.value.args == theirs.value.args


@pytest.mark.parametrize("arguments", [("nul\0", 80), (b"nul\0", b"80"), ("localhost", b"80\0")])
def test_a_null_character_is_refused(arguments: Any) -> None:
    with pytest.raises(ValueError, match="embedded null character"):
        resolver.getaddrinfo(*arguments)


def test_other_greenlets_run_during_a_look_up() -> None:
    looking = rgevent.spawn(resolver.getaddrinfo, "localhost", 80)
    rgevent.sleep(0)
    assert not looking.ready(), "it does not wait for the answer where it asks"
    assert looking.get(timeout=10)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", None])
def test_numbers_need_no_other_thread(host: Any) -> None:
    asking = rgevent.spawn(resolver.getaddrinfo, host, 80)
    rgevent.sleep(0)
    assert asking.ready()


def test_many_look_ups_at_once() -> None:
    looking = [rgevent.spawn(resolver.getaddrinfo, "localhost", port) for port in range(100)]
    rgevent.joinall(looking, timeout=20, raise_error=True)
    assert [one.value[0][4][1] for one in looking] == list(range(100))


def test_killed_look_up_ends_and_the_next_works() -> None:
    looking = rgevent.spawn(resolver.getaddrinfo, "localhost", 80)
    rgevent.sleep(0)
    looking.kill()
    assert isinstance(looking.value, rgevent.GreenletExit)
    assert resolver.getaddrinfo("localhost", 80)


def test_look_ups_from_native_threads() -> None:
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(resolver.getaddrinfo("localhost", 80)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [stdlib.getaddrinfo("localhost", 80)] * 4


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("gethostbyname", ("localhost",)),
        ("gethostbyname", ("127.0.0.1",)),
        ("gethostbyname", ("",)),
        ("gethostbyname_ex", ("localhost",)),
        ("gethostbyname_ex", ("127.0.0.1",)),
        ("gethostbyaddr", ("127.0.0.1",)),
        ("getnameinfo", (("127.0.0.1", 80), stdlib.NI_NUMERICHOST | stdlib.NI_NUMERICSERV)),
        ("getnameinfo", (("127.0.0.1", 9), stdlib.NI_NUMERICSERV)),
        ("getfqdn", ("localhost",)),
        ("getfqdn", ("127.0.0.1",)),
    ],
)
def test_the_other_look_ups(name: str, arguments: Any) -> None:
    assert getattr(resolver, name)(*arguments) == getattr(stdlib, name)(*arguments)


# --- calls on native threads, which look-ups are made of


def test_call_runs_elsewhere_and_returns_its_result() -> None:
    here = threading.get_ident()
    there, value = run_in_thread(lambda a, b=0: (threading.get_ident(), a + b), 1, b=2)
    assert value == 3
    assert there != here


def test_call_raises_with_its_traceback() -> None:
    def fail() -> None:
        message = "from the thread"
        raise LookupError(message)

    with pytest.raises(LookupError, match="from the thread") as caught:
        run_in_thread(fail)
    assert caught.traceback[-1].name == "fail"


def test_waiting_for_a_call_is_no_deadlock() -> None:
    """With nothing else to wait for, the hub still waits for the thread."""
    with held_call() as (greenlet, go):
        rgevent.sleep(0.01)
        assert not greenlet.ready()
        go.set()
        assert greenlet.get(timeout=10) == "done"
    assert run_in_thread(time.sleep, 0.01) is None


def test_result_of_a_killed_caller_is_dropped() -> None:
    class Result:
        dropped = 0

        def __del__(self) -> None:
            Result.dropped += 1

    go, made = threading.Event(), threading.Event()

    def call() -> Result:
        go.wait(20)
        made.set()
        return Result()

    greenlet = rgevent.spawn(run_in_thread, call)
    rgevent.sleep(0)
    greenlet.kill()
    assert isinstance(greenlet.value, rgevent.GreenletExit)
    go.set()
    assert made.wait(10)
    with rgevent.Timeout(10):
        while not Result.dropped:
            rgevent.sleep(0.01)


def test_more_calls_than_threads_wait_their_turn() -> None:
    calls = [rgevent.spawn(run_in_thread, time.sleep, 0.002) for _ in range(60)]
    rgevent.joinall(calls, timeout=20, raise_error=True)
    assert all(call.ready() for call in calls)


def test_forked_child_has_threads_of_its_own(run_python: Callable[..., Any]) -> None:
    script = """
        import os, threading, rgevent
        from rgevent import resolver
        from rgevent._rgevent import run_in_thread
        expected = resolver.getaddrinfo("localhost", 80)
        pid = os.fork()
        if pid == 0:
            rgevent.reinit()
        assert resolver.getaddrinfo("localhost", 80) == expected
        assert run_in_thread(threading.get_ident) != threading.get_ident()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
    """
    done = run_python("-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script))
    assert (done.returncode, done.stderr) == (0, "")


def test_exit_does_not_wait_for_a_call_nor_crash(run_python: Callable[..., Any]) -> None:
    """The thread asks for the GIL again while the interpreter goes down."""
    script = """
        import sys, time, rgevent
        from rgevent._rgevent import run_in_thread

        class Late:
            def __del__(self, sleep=time.sleep):
                sleep(0.3)

        sys.late = Late()
        for seconds in (0.1, 0.15, 30):
            rgevent.spawn(run_in_thread, time.sleep, seconds)
        rgevent.sleep(0.02)
        print("end", flush=True)
    """
    begun = time.monotonic()
    done = run_python("-c", textwrap.dedent(script))
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
    assert time.monotonic() - begun < 20
