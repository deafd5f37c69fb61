"""What rgevent.greenlet has beyond switching, which tests/peers and tests/crash are about."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import threading
import weakref
from abc import ABC, abstractmethod
from typing import Any

import pytest

import rgevent
from rgevent.greenlet import GreenletExit, error, getcurrent, gettrace, greenlet, settrace


@pytest.fixture
def trace():
    """Events of the thread while the test runs, with the names of greenlets in `names`."""
    seen: list[tuple[str, Any, Any]] = []
    settrace(lambda event, switch: seen.append((event, *switch)))
    yield seen
    settrace(None)


class TestSettrace:
    def test_tells_of_each_switch(self, trace):
        main = getcurrent()
        child = greenlet(lambda: main.switch(1))
        assert child.switch() == 1
        child.switch()
        assert trace == [
            ("switch", main, child),
            ("switch", child, main),
            ("switch", main, child),
            ("switch", child, main),
        ]

    def test_tells_of_throws_also_by_the_death_of_a_child(self, trace):
        main = getcurrent()

        def fails():
            raise KeyError(1)

        child = greenlet(fails)
        with pytest.raises(KeyError):
            child.switch()
        assert trace == [("switch", main, child), ("throw", child, main)]
        trace.clear()
        other = greenlet(main.switch)
        other.switch()
        assert isinstance(other.throw(), GreenletExit)
        assert trace[2:] == [("throw", main, other), ("switch", other, main)]

    def test_tells_of_a_switch_to_oneself(self, trace):
        main = getcurrent()
        assert main.switch(5) == 5
        assert trace == [("switch", main, main)]

    def test_error_removes_it_and_takes_the_place_of_the_result(self):
        def fails(event, switch):
            raise LookupError(event)

        settrace(fails)
        with pytest.raises(LookupError, match="switch"):
            getcurrent().switch()
        assert gettrace() is None

    def test_error_at_the_start_of_a_greenlet_is_raised_in_it(self):
        main = getcurrent()

        def fails(event, switch):
            if switch[1] is not main:
                raise LookupError

        ran = []
        child = greenlet(lambda: ran.append(1))
        settrace(fails)
        try:
            with pytest.raises(LookupError):
                child.switch()
        finally:
            settrace(None)
        assert child.dead
        assert ran == []

    def test_answers_the_one_before(self):
        def first(*_):
            pass

        assert settrace(first) is None
        assert settrace(first) is first
        assert gettrace() is first
        assert settrace(None) is first
        assert gettrace() is None

    def test_is_of_one_thread(self, trace):
        other = threading.Thread(target=lambda: greenlet(int).switch())
        other.start()
        other.join(10)
        assert trace == []

    def test_python_functions_of_sys_settrace_do_not_see_it(self):
        lines = []

        def python_trace(frame, event, arg):
            lines.append(frame.f_code.co_name)
            return python_trace

        def greenlet_trace(event, switch):
            pass

        settrace(greenlet_trace)
        before = sys.gettrace()
        sys.settrace(python_trace)
        try:
            greenlet(lambda: None).switch()
        finally:
            sys.settrace(before)
            settrace(None)
        assert "greenlet_trace" not in lines


class TestObject:
    def test_type_has_the_names_of_the_module(self):
        assert greenlet.getcurrent is getcurrent
        assert greenlet.settrace is settrace
        assert greenlet.gettrace is gettrace
        assert greenlet.error is error
        assert greenlet.GreenletExit is GreenletExit

    def test_type_cannot_be_changed(self):
        with pytest.raises(TypeError, match="immutable type"):
            greenlet.__init__ = lambda self: None
        with pytest.raises(TypeError, match="immutable type"):
            greenlet.extra = 1

    def test_layout_is_what_compiled_subclasses_expect(self):
        word = object.__basicsize__ // 2
        assert greenlet.__basicsize__ == object.__basicsize__ + 3 * word
        assert greenlet.__weakrefoffset__ == object.__basicsize__
        assert greenlet.__dictoffset__ == object.__basicsize__ + word

    @pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, pickle.dumps])
    def test_cannot_be_copied(self, make):
        with pytest.raises(TypeError, match=r"cannot serialize 'greenlet\.greenlet' object"):
            make(greenlet())

    def test_abstract_subclass_cannot_be_made(self):
        class Abstract(greenlet, ABC):
            @abstractmethod
            def run(self): ...

        class Concrete(Abstract):
            def run(self):
                return 7

        assert Concrete().switch() == 7
        with pytest.raises(TypeError, match="abstract"):
            Abstract()

    def test_keywords_and_wrong_arguments_of_the_constructor(self):
        parent = greenlet()
        made = greenlet(parent=parent, run=int)
        assert (made.run, made.parent) == (int, parent)
        assert greenlet(None).run is None
        assert greenlet(int, None).parent is getcurrent()
        with pytest.raises(TypeError, match="3 given"):
            greenlet(int, None, 3)
        with pytest.raises(TypeError, match=r"unexpected|invalid keyword"):
            greenlet(target=int)
        with pytest.raises(TypeError, match="Expected any type of greenlet, not int"):
            greenlet(int, 3)

    def test_recycled_object_is_like_new(self):
        for _ in range(100):
            old = greenlet(lambda: getcurrent().parent.switch(1))
            old.attribute = 1
            reference = weakref.ref(old)
            old.switch()
            old.switch()
            del old
            assert reference() is None
            new = greenlet()
            assert not hasattr(new, "attribute")
            assert not new
            assert not new.dead
            assert new.gr_context is None
            assert new.gr_frame is None
            assert new in gc.get_objects()
            with pytest.raises(AttributeError):
                _ = new.run

    def test_stack_saved_is_positive_while_suspended(self):
        main = getcurrent()
        seen = []
        child = greenlet(lambda: main.switch(seen.append(main._stack_saved)))
        assert child._stack_saved == main._stack_saved == 0
        child.switch()
        assert seen[0] > 0
        assert 0 < child._stack_saved < 20_000
        child.switch()
        assert child._stack_saved == 0


def test_ended_threads_leave_no_greenlets_behind():
    def use():
        main = getcurrent()
        child = greenlet(lambda: main.switch())
        child.switch()
        child.switch()

    def count():
        gc.collect()
        return sum(isinstance(each, greenlet) for each in gc.get_objects())

    def run_threads(number):
        for _ in range(number):
            thread = threading.Thread(target=use)
            thread.start()
            thread.join(10)

    run_threads(3)
    before = count()
    run_threads(20)
    # The last one may not have left its native thread yet.
    assert count() <= before + 1


class TestStackSize:
    def run(self, *lines: str, **environment: str) -> subprocess.CompletedProcess[str]:
        code = "import rgevent; from rgevent.greenlet import greenlet\n" + "\n".join(lines)
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": "", **environment},
        )

    def test_comes_from_the_environment(self):
        done = self.run("print(rgevent.config.stack_size)", RGEVENT_STACK_SIZE="2097152")
        assert (done.stdout, done.stderr) == ("2097152\n", "")

    @pytest.mark.parametrize("value", ["many", "-1", "1", "99999999999999999999", "1.5"])
    def test_absurd_environment_is_refused_by_name(self, value):
        done = self.run(RGEVENT_STACK_SIZE=value)
        assert done.returncode == 1
        assert "ValueError" in done.stderr
        assert "RGEVENT_STACK_SIZE" in done.stderr

    def test_can_be_set_while_greenlets_live(self):
        before = rgevent.config.stack_size
        child = greenlet(lambda: getcurrent().parent.switch(1))
        child.switch()
        try:
            rgevent.config.stack_size = 2 * before
            assert rgevent.config.stack_size == 2 * before
            assert greenlet(lambda: 2).switch() == 2
        finally:
            rgevent.config.stack_size = None
        assert rgevent.config.stack_size == before
        child.switch()
        assert child.dead

    @pytest.mark.parametrize("value", [0, 1, -5, 4096, 1 << 40, 1 << 80])
    def test_absurd_number_is_a_value_error(self, value):
        with pytest.raises(ValueError, match=rf"{value} bytes is out of range"):
            rgevent.config.stack_size = value
        with pytest.raises(ValueError, match=rf"{value} bytes is out of range"):
            greenlet(int, stack_size=value)

    @pytest.mark.parametrize("value", ["1048576", 1.5, [1]])
    def test_something_else_is_a_type_error(self, value):
        with pytest.raises(TypeError, match="number of bytes"):
            rgevent.config.stack_size = value
        with pytest.raises(TypeError, match="number of bytes"):
            greenlet(int, stack_size=value)

    def test_larger_one_takes_deeper_recursion(self):
        done = self.run(
            "import functools, sys, threading",
            "sys.setrecursionlimit(100_000)",
            "def deep(n):",
            "    return 0 if n == 0 else functools.reduce(lambda a, b: deep(n - 1), [1, 2])",
            "big = greenlet(deep, stack_size=256 << 20)",
            "big.switch(400)",
            "assert big.dead",
            "print('fine')",
        )
        assert done.stdout == "fine\n", done.stderr

    def test_info_counts(self):
        done = self.run(
            "from rgevent.greenlet import getcurrent",
            "main = getcurrent()",
            "some = [greenlet(main.switch) for _ in range(5)]",
            "for each in some: each.switch()",
            "info = rgevent.stack_info()",
            "assert (info['slots'], info['in_use'], info['pooled']) == (5, 5, 0), info",
            "for each in some: each.switch()",
            "info = rgevent.stack_info()",
            "assert (info['slots'], info['in_use'], info['pooled']) == (5, 0, 5), info",
        )
        assert done.returncode == 0, done.stderr

    def test_burst_is_given_back_by_an_idle_hub(self):
        done = self.run(
            "from rgevent.greenlet import getcurrent",
            "main = getcurrent()",
            "some = [greenlet(main.switch) for _ in range(20_000)]",
            "for each in some: each.switch()",
            "def mapped():",
            "    lines = open('/proc/self/status').read().splitlines()",
            "    return sum(int(line.split()[1]) for line in lines",
            "               if line.startswith(('VmRSS', 'VmPTE')))",
            "full = mapped()",
            "for each in some: each.switch()",
            "del some, each",
            "for _ in range(50):",
            "    rgevent.sleep(0.1)",
            "    if rgevent.stack_info()['slots'] < 5_000: break",
            "info = rgevent.stack_info()",
            "assert info['slots'] < 5_000 and info['released'] > 15_000, info",
            "assert full - mapped() > 15_000 * 4, (full, mapped())",
        )
        assert done.returncode == 0, done.stderr


def test_compat_stands_in_for_the_greenlet_package(run_python):
    done = run_python(
        "-c",
        "import rgevent.compat; rgevent.compat.install_as_greenlet()\n"
        "rgevent.compat.install_as_greenlet()\n"
        "import greenlet, rgevent.greenlet\n"
        "from greenlet import greenlet as raw, _greenlet, getcurrent\n"
        "assert greenlet is rgevent.greenlet and raw is rgevent.greenlet.greenlet\n"
        "import greenlet._greenlet\n"
        "assert greenlet._greenlet is _greenlet\n"
        "assert getcurrent()\n"
        "assert _greenlet.get_total_main_greenlets() == 1\n"
        "assert _greenlet.get_pending_cleanup_count() == 0\n"
        "import ctypes\n"
        "load = ctypes.pythonapi.PyCapsule_Import\n"
        "load.restype, load.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]\n"
        "table = load(b'greenlet._C_API', 0)\n"
        "assert ctypes.c_void_p.from_address(table).value == id(raw)\n",
    )
    assert done.returncode == 0, done.stderr


def test_compat_comes_too_late_after_the_greenlet_package(run_python):
    done = run_python(
        "-c",
        "import greenlet, rgevent.compat\n"
        "try: rgevent.compat.install_as_greenlet()\n"
        "except RuntimeError as error: print(error)\n"
        "import greenlet as again\n"
        "assert again is greenlet",
    )
    assert "greenlet is imported already" in done.stdout, done.stderr
    assert "install_as_greenlet() first thing" in done.stdout
