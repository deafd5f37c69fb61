"""Threads of a patched program are greenlets, and everything of threading goes on working.

Each program runs in a process of its own, and tells what it saw by assertions.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable

import pytest

START = """
import rgevent
rgevent.patch_all()
import _thread, threading, time
native_ident = rgevent.monkey.get_original("_thread", "get_ident")
"""


@pytest.fixture
def program(run_python) -> Callable[[str], str]:
    """program(text) runs a patched program; what it wrote, once it ended well."""

    def run(text: str) -> str:
        done = run_python("-c", START + textwrap.dedent(text), seconds=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_threads_are_greenlets_of_one_native_thread(program):
    program("""
        seen = []
        def body():
            time.sleep(0.2)
            seen.append((native_ident(), threading.get_ident()))
        began = time.monotonic()
        threads = [threading.Thread(target=body) for _ in range(50)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert time.monotonic() - began < 2
        assert len({native for native, _ in seen}) == 1
        assert {ident for _, ident in seen} == {thread.ident for thread in threads}
        assert threading.enumerate() == [threading.main_thread()]
    """)


def test_main_thread_keeps_the_native_ident(program):
    program("""
        assert threading.get_ident() == native_ident() == threading.main_thread().ident
        assert threading.current_thread() is threading.main_thread()
    """)


def test_subclass_made_before_the_patch_is_cooperative(run_python):
    done = run_python(
        "-c",
        textwrap.dedent("""
        import threading, time
        class Early(threading.Thread):
            def run(self):
                time.sleep(0.01)
                self.where = native()
        import rgevent
        rgevent.patch_all()
        native = rgevent.monkey.get_original("_thread", "get_ident")
        thread = Early()
        thread.start()
        thread.join()
        assert thread.where == native()
    """),
    )
    assert done.returncode == 0, done.stderr


def test_join_waits_no_longer_than_its_timeout(program):
    program("""
        leave = threading.Event()
        thread = threading.Thread(target=leave.wait)
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
        leave.set()
        thread.join(30)
        assert not thread.is_alive()
    """)


def test_several_can_join_one_thread(program):
    program("""
        leave = threading.Event()
        thread = threading.Thread(target=leave.wait)
        thread.start()
        ended = []
        def wait():
            thread.join()
            ended.append(thread.is_alive())
        waiters = [threading.Thread(target=wait) for _ in range(5)]
        for waiter in waiters: waiter.start()
        time.sleep(0)
        leave.set()
        for waiter in waiters: waiter.join()
        assert ended == [False] * 5
    """)


def test_thread_cannot_join_itself_or_be_joined_before_its_start(program):
    program("""
        errors = []
        def body():
            try: threading.current_thread().join()
            except RuntimeError as error: errors.append(str(error))
        thread = threading.Thread(target=body)
        try: thread.join()
        except RuntimeError as error: errors.append(str(error))
        thread.start()
        thread.join()
        assert errors == ["cannot join thread before it is started", "cannot join current thread"]
    """)


def test_exception_goes_to_the_excepthook(program):
    program("""
        seen = []
        threading.excepthook = lambda args: seen.append((args.exc_type, args.thread))
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
        assert seen == [(ZeroDivisionError, thread)]
    """)


def test_exception_of_a_bare_thread_goes_to_the_unraisablehook(program):
    program("""
        import sys
        seen = []
        sys.unraisablehook = lambda args: seen.append((args.exc_type, args.object))
        done = _thread.allocate_lock()
        done.acquire()
        def body():
            try: 1 / 0
            finally: done.release()
        _thread.start_new_thread(body, ())
        def leave():
            try: raise SystemExit
            finally: done.release()
        done.acquire()
        _thread.start_new_thread(leave, ())
        done.acquire()
        time.sleep(0)
        assert seen == [(ZeroDivisionError, body)]
    """)


@pytest.mark.parametrize("call", ["(1, ())", "(print, [])", "(print, (), [])"])
def test_start_new_thread_refuses_wrong_types(program, call):
    program(f"""
        try: _thread.start_new_thread{call}
        except TypeError as ours: said = str(ours)
        try: rgevent.monkey.get_original("_thread", "start_new_thread"){call}
        except TypeError as theirs: assert said.split()[:3] == str(theirs).split()[:3]
    """)


def test_lock_passes_between_threads(program):
    program("""
        lock = threading.Lock()
        order = []
        def body(n):
            with lock:
                time.sleep(0.001)
                order.append(n)
        with lock:
            threads = [threading.Thread(target=body, args=(n,)) for n in range(10)]
            for thread in threads: thread.start()
            assert not lock.acquire(timeout=0.01)
        for thread in threads: thread.join()
        assert order == list(range(10))
    """)


def test_rlock_belongs_to_one_greenlet(program):
    program("""
        lock = threading.RLock()
        got = []
        with lock, lock:
            thread = threading.Thread(target=lambda: got.append(lock.acquire(blocking=False)))
            thread.start()
            thread.join()
        assert got == [False]
    """)


def test_condition_wakes_and_times_out(program):
    program("""
        condition = threading.Condition()
        with condition:
            assert not condition.wait(0.02)
        ready = []
        def body():
            with condition:
                ready.append(condition.wait_for(lambda: flag, timeout=30))
        flag = False
        threads = [threading.Thread(target=body) for _ in range(5)]
        for thread in threads: thread.start()
        with condition:
            flag = True
            condition.notify_all()
        for thread in threads: thread.join()
        assert ready == [True] * 5
    """)


def test_barrier_semaphore_event_and_timer(program):
    program("""
        barrier = threading.Barrier(3)
        numbers = []
        threads = [threading.Thread(target=lambda: numbers.append(barrier.wait(30)))
                   for _ in range(3)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert sorted(numbers) == [0, 1, 2]

        semaphore = threading.BoundedSemaphore(2)
        assert semaphore.acquire() and semaphore.acquire()
        assert not semaphore.acquire(timeout=0.01)
        semaphore.release(2)

        event = threading.Event()
        assert not event.wait(0.01)
        timer = threading.Timer(0.01, event.set)
        timer.start()
        assert event.wait(30)
        never = threading.Timer(30, print, ["never"])
        never.start()
        never.cancel()
        never.join(30)
        assert not never.is_alive()
    """)


def test_local_is_of_one_greenlet(program):
    program("""
        data = threading.local()
        data.value = 1
        seen = []
        def body():
            seen.append(hasattr(data, "value"))
            data.value = 2
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        rgevent.spawn(body).join()
        assert seen == [False, False] and data.value == 1
    """)


def test_thread_of_a_bare_greenlet_is_forgotten_with_it(program):
    program("""
        import gc
        before = len(threading._active)
        greenlets = [rgevent.spawn(threading.current_thread) for _ in range(100)]
        rgevent.joinall(greenlets)
        assert len({greenlet.value.ident for greenlet in greenlets}) == 100
        assert all(isinstance(greenlet.value, threading._DummyThread) for greenlet in greenlets)
        del greenlets
        gc.collect()
        assert len(threading._active) == before
    """)


def test_main_thread_can_be_joined(program):
    written = program("""
        def body():
            threading.main_thread().join(0.01)
            assert threading.main_thread().is_alive()
            threading.main_thread().join()
            print("main ended")
        threading.Thread(target=body).start()
        time.sleep(0.05)
        print("main ends")
    """)
    assert written.split("\n")[:2] == ["main ends", "main ended"]


def test_interpreter_waits_for_threads_but_not_for_daemons(program):
    written = program("""
        def body(seconds, text):
            time.sleep(seconds)
            print(text)
        def nested():
            time.sleep(0.05)
            threading.Thread(target=body, args=(0.05, "second")).start()
        threading.Thread(target=nested).start()
        threading.Thread(target=body, args=(0.01, "first")).start()
        threading.Thread(target=body, args=(600, "daemon"), daemon=True).start()
    """)
    assert written.split() == ["first", "second"]


def test_exit_does_not_wait_in_a_forked_child(program):
    program("""
        import os
        leave = threading.Event()
        threading.Thread(target=leave.wait).start()
        child = os.fork()
        if child == 0:
            code = 0 if threading.enumerate() == [threading.main_thread()] else 1
            threading._shutdown()
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        leave.set()
    """)


def test_executor_runs_its_work_side_by_side(program):
    program("""
        from concurrent.futures import ThreadPoolExecutor, TimeoutError, as_completed
        began = time.monotonic()
        with ThreadPoolExecutor(20) as pool:
            futures = [pool.submit(lambda n: (time.sleep(0.1), n)[1], n) for n in range(40)]
            assert sorted(future.result() for future in as_completed(futures)) == list(range(40))
            slow = pool.submit(time.sleep, 0.2)
            try: slow.result(timeout=0.01)
            except TimeoutError: pass
            else: raise AssertionError("no timeout")
            failing = pool.submit(lambda: 1 / 0)
            assert isinstance(failing.exception(), ZeroDivisionError)
        assert time.monotonic() - began < 3
    """)


def test_executor_that_was_never_shut_down_lets_the_interpreter_end(program):
    program("""
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(2)
        assert pool.submit(int, "7").result() == 7
    """)


def test_lock_and_event_reach_native_threads(program):
    program("""
        start_native = rgevent.monkey.get_original("_thread", "start_new_thread")
        lock, event = threading.Lock(), threading.Event()
        told = threading.Event()
        seen = []
        def body():
            seen.append(native_ident())
            told.set()
            event.wait()
            with lock:
                seen.append(threading.current_thread().ident == native_ident())
            told.set()
        lock.acquire()
        start_native(body, ())
        assert told.wait(30)
        told.clear()
        event.set()
        assert not told.wait(0.05)
        lock.release()
        assert told.wait(30)
        assert seen[0] != native_ident() and seen[1]
    """)


def test_two_greenlets_import_one_slow_module(program, tmp_path):
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(0.1)\nvalue = 7\n")
    program(f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        def body():
            import slow
            return slow.value
        greenlets = [rgevent.spawn(body) for _ in range(5)]
        rgevent.joinall(greenlets, raise_error=True)
        assert [greenlet.value for greenlet in greenlets] == [7] * 5
    """)


def test_module_that_patches_can_be_imported_meanwhile_by_others(run_python, tmp_path):
    (tmp_path / "application.py").write_text(
        textwrap.dedent("""
        import rgevent
        rgevent.patch_all()
        import time
        def body():
            import application
            return application.value
        other = rgevent.spawn(body)
        time.sleep(0.05)
        value = 7
    """)
    )
    path = [str(tmp_path), os.environ.get("PYTHONPATH")]
    done = run_python(
        "-c",
        "import application; assert application.other.get(timeout=30) == 7",
        env={"PYTHONPATH": os.pathsep.join(filter(None, path))},
    )
    assert done.returncode == 0, done.stderr


def test_logging_from_many_greenlets(run_python):
    done = run_python(
        "-c",
        textwrap.dedent("""
        import logging, sys
        class Slow(logging.StreamHandler):
            def emit(self, record):
                time.sleep(0.001)
                super().emit(record)
        logging.basicConfig(handlers=[Slow(sys.stdout)], format="%(message)s")
        import rgevent
        rgevent.patch_all()
        import threading, time
        threads = [threading.Thread(target=logging.warning, args=("line",)) for _ in range(50)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    """),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["line"] * 50
