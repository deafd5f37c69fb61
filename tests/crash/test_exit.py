"""The interpreter ends as it would without greenlets, whatever is suspended at that moment."""

import signal
from collections.abc import Callable

import pytest

Check = Callable[..., None]


def test_suspended_greenlet_is_not_unwound_at_exit(check_script: Check) -> None:
    check_script(
        """
        def work():
            try:
                getcurrent().parent.switch()
            finally:
                print("unwound")

        kept = suspended(work)
        print("end")
        """,
        prints="end\n",
    )


def test_suspended_greenlets_that_know_each_other(check_script: Check) -> None:
    check_script(
        """
        def first():
            two.switch()

        def second():
            main.switch()

        main = getcurrent()
        one, two = greenlet(first), greenlet(second)
        one.switch()
        print(bool(one), bool(two), one.dead, two.dead)
        """,
        prints="True True False False\n",
    )


def test_greenlets_suspended_in_native_callbacks(check_script: Check) -> None:
    check_script(
        """
        import functools, json, re, sqlite3

        def back(*args):
            getcurrent().parent.switch()

        class Strange:
            def __getattr__(self, name):
                back()

            def __del__(self):
                back()

        def query():
            connection = sqlite3.connect(":memory:")
            connection.create_function("back", 0, back)
            connection.execute("select back()")

        def drop():
            strange = Strange()
            del strange

        jobs = [
            lambda: sorted([2, 1], key=back),
            lambda: functools.reduce(back, [1, 2]),
            lambda: re.sub("a", back, "a"),
            lambda: list(map(back, [1])),
            lambda: json.loads("{}", object_hook=back),
            lambda: Strange().missing,
            query,
            drop,
        ]
        kept = [suspended(job) for job in jobs]
        print(sum(map(bool, kept)))
        """,
        prints="8\n",
    )


def test_twenty_thousand_suspended_greenlets(check_script: Check) -> None:
    check_script(
        """
        kept = [suspended() for _ in range(20_000)]
        print(len(kept), all(kept))
        """,
        prints="20000 True\n",
    )


def test_suspended_greenlet_of_a_thread_that_still_sleeps(check_script: Check) -> None:
    check_script(
        """
        import threading

        ready, never = threading.Event(), threading.Event()

        def body():
            kept = suspended()
            ready.set()
            never.wait()

        threading.Thread(target=body, daemon=True).start()
        print(ready.wait(10))
        """,
        prints="True\n",
    )


@pytest.mark.parametrize(
    "blocks",
    ["never.wait()", "lock.acquire()", "time.sleep(1000)", "spin()", "select.select([], [], [])"],
)
def test_daemon_thread_inside_a_greenlet(check_script: Check, blocks: str) -> None:
    check_script(
        f"""
        import select, threading, time

        ready, never, lock = threading.Event(), threading.Event(), threading.Lock()
        lock.acquire()

        def spin():
            while True:
                sum(range(100))

        def inner():
            ready.set()
            {blocks}

        def outer():
            greenlet(inner).switch()

        def body():
            kept = suspended()
            greenlet(outer).switch()

        threading.Thread(target=body, daemon=True).start()
        print(ready.wait(10))
        """,
        prints="True\n",
    )


def test_daemon_threads_that_switch_all_the_time(check_script: Check) -> None:
    check_script(
        """
        import threading

        ready = threading.Barrier(4)

        def pong():
            while True:
                getcurrent().parent.switch()

        def body():
            partner = suspended(pong)
            ready.wait()
            while True:
                partner.switch()
                suspended()

        for _ in range(3):
            threading.Thread(target=body, daemon=True).start()
        ready.wait(10)
        print("end")
        """,
        prints="end\n",
    )


def test_thread_that_outlives_the_main_code(check_script: Check) -> None:
    check_script(
        """
        import threading, time

        def work():
            time.sleep(0.05)
            print("worked")

        def body():
            kept = suspended()
            greenlet(work).switch()

        threading.Thread(target=body).start()
        kept = suspended()
        print("end of main")
        """,
        prints="end of main\nworked\n",
    )


def test_sys_exit_inside_a_greenlet(check_script: Check) -> None:
    check_script(
        """
        import sys

        kept = suspended()

        def leave():
            print("leaving")
            sys.exit(3)

        greenlet(lambda: greenlet(leave).switch()).switch()
        print("not reached")
        """,
        prints="leaving\n",
        status=3,
    )


def test_sys_exit_into_a_parent_inside_a_callback(check_script: Check) -> None:
    check_script(
        """
        import sys

        def key(item):
            greenlet(sys.exit).switch(4)

        sorted([1, 2], key=key)
        """,
        prints="",
        status=4,
    )


def test_hard_exit_inside_a_greenlet(check_script: Check) -> None:
    check_script(
        """
        import os

        kept = suspended()
        greenlet(os._exit).switch(5)
        """,
        prints="",
        status=5,
    )


def test_uncaught_error_is_reported_through_both_greenlets(check_script: Check) -> None:
    check_script(
        """
        def fail():
            raise ValueError("from inside")

        def start():
            greenlet(fail).switch()

        start()
        """,
        prints="",
        status=1,
        complains=r"(?s)^Traceback.* in start.* in fail.*ValueError: from inside\n$",
    )


def test_interrupt_inside_a_greenlet(check_script: Check) -> None:
    check_script(
        """
        import signal

        greenlet(signal.raise_signal).switch(signal.SIGINT)
        """,
        prints="",
        status=-signal.SIGINT,
        complains="KeyboardInterrupt",
    )


def test_collector_runs_during_finalization(check_script: Check) -> None:
    check_script(
        """
        import gc

        class Collects:
            def __init__(self, held):
                self.me, self.held, self.collect = self, held, gc.collect

            def __del__(self):
                self.collect()

        kept = [suspended() for _ in range(50)]
        cycles = [Collects(held) for held in kept]
        local = [Collects(greenlet()) for _ in range(50)]
        del local, kept
        print("end")
        """,
        prints="end\n",
    )


def test_collector_during_finalization_meets_cycles_of_greenlets(check_script: Check) -> None:
    check_script(
        """
        for _ in range(50):
            one = greenlet(lambda: None)
            two = greenlet(lambda: getcurrent().parent.switch(), one)
            three = suspended()
            one.other, two.other, three.other = two, three, one
            one.me = one
        print("end")
        """,
        prints="end\n",
    )


@pytest.mark.parametrize("holder", ["globals()", "vars(sys)", "vars(os)"])
def test_finalizer_switches_at_exit(check_script: Check, holder: str) -> None:
    check_script(
        f"""
        import os, sys, types

        def answers(switch_back):
            value = b"started"
            while True:
                value = switch_back(value)

        class Asks:
            def __init__(self):
                # A suspended frame keeps its globals alive, so they must not be the module's.
                self.partner = greenlet(types.FunctionType(answers.__code__, {{}}))
                self.partner.switch(getcurrent().switch)
                self.write = os.write

            def __del__(self):
                self.write(1, self.partner.switch(b"switched\\n"))

        {holder}["kept"] = Asks()
        """,
        prints="switched\n",
    )


def test_atexit_callbacks_use_greenlets_in_any_order(check_script: Check) -> None:
    check_script(
        """
        @atexit.register
        def last_registered():
            report("after the import")
            greenlet(report).switch("in a greenlet")
            kept.switch()
            print(kept.dead)

        kept = suspended()
        """,
        start="""
        import atexit

        @atexit.register
        def first_registered():
            report("before the import")
            suspended()

        def report(when):
            print(when, getcurrent().parent is None, getcurrent().dead)
        """,
        prints="after the import True False\nin a greenlet False False\nTrue\n"
        "before the import True False\n",
    )


def test_exit_with_greenlets_of_ended_threads(check_script: Check) -> None:
    check_script(
        """
        import threading

        kept = []

        def body():
            kept.extend(suspended() for _ in range(10))

        for _ in range(20):
            thread = threading.Thread(target=body)
            thread.start()
            thread.join()
        print(len(kept))
        """,
        prints="200\n",
    )


def test_exit_with_greenlets_dropped_in_another_thread(check_script: Check) -> None:
    check_script(
        """
        import threading

        ready, never = threading.Event(), threading.Event()
        held = []

        def body():
            held.extend(suspended() for _ in range(10))
            ready.set()
            never.wait()

        threading.Thread(target=body, daemon=True).start()
        ready.wait(10)
        held.clear()
        print("end")
        """,
        prints="end\n",
    )


def test_exit_in_the_middle_of_being_killed(check_script: Check) -> None:
    check_script(
        """
        import sys

        def work():
            try:
                getcurrent().parent.switch()
            finally:
                sys.exit(6)

        kept = suspended(work)
        kept.throw()
        """,
        prints="",
        status=6,
    )
