"""What no recursion limit stops dies, and says which greenlet it was and what to do."""

import re
import signal
import sys

import pytest

OVERFLOW = """
import ctypes, sys
import rgevent
from rgevent.greenlet import greenlet

STACK = 512 * 1024

class Large(ctypes.Structure):
    # Passed on the stack: more than there is, but no more than the guard takes.
    _fields_ = [("bytes", ctypes.c_char * (STACK - 128 * 1024 + 24 * 1024))]

take = ctypes.CDLL(None).abs
take.argtypes = [Large]

def overflow():
    take(Large())
"""
RECURSION = """
import functools, sys
import rgevent
from rgevent.greenlet import greenlet
sys.setrecursionlimit(1 << 30)

def overflow(*ignored):
    return functools.reduce(overflow, [1, 2])
"""
IN_GREENLET = "greenlet(overflow, stack_size=STACK).switch()"
ADVICE = "Raise rgevent.config.stack_size or RGEVENT_STACK_SIZE"


def report(kind, function):
    return (
        rf"Fatal error: stack overflow in {kind} object at 0x[0-9a-f]+ that runs {function}: "
        rf"all of its \d+ KiB of stack are used\. {ADVICE}"
    )


@pytest.fixture
def dies(run_python):
    """dies(code, *options): what a program wrote to its standard error before a fault ended it."""

    def check(code, *options):
        done = run_python(*options, "-c", code)
        assert done.returncode == -signal.SIGSEGV, (done.returncode, done.stdout, done.stderr)
        return done.stderr

    return check


def test_raw_greenlet_is_named(dies):
    assert re.search(report("greenlet.greenlet", "overflow"), dies(OVERFLOW + IN_GREENLET))


def test_spawned_greenlet_is_named(dies):
    code = "rgevent.config.stack_size = STACK\nrgevent.spawn(overflow).join()"
    assert re.search(report(".*Greenlet", "overflow"), dies(OVERFLOW + code))


def test_bound_method_is_named(dies):
    code = """
class Crawler:
    def fetch(self):
        overflow()

greenlet(Crawler().fetch, stack_size=STACK).switch()
"""
    assert re.search(report("greenlet.greenlet", r"Crawler\.fetch"), dies(OVERFLOW + code))


def test_something_else_than_a_python_function_is_left_out(dies):
    text = dies(
        OVERFLOW + "import functools\noverflow = functools.partial(overflow)\n" + IN_GREENLET
    )
    assert re.search(r"in greenlet.greenlet object at 0x[0-9a-f]+: all of its", text), text


def test_native_thread_is_covered(dies):
    code = """
import threading
thread = threading.Thread(target=lambda: greenlet(overflow, stack_size=STACK).switch())
thread.start()
thread.join()
"""
    assert re.search(report("greenlet.greenlet", "overflow"), dies(OVERFLOW + code))


@pytest.mark.parametrize("before", [True, False], ids=["enabled before", "enabled after"])
def test_faulthandler_speaks_as_well(dies, before):
    enable = "import faulthandler; faulthandler.enable()\n"
    text = dies((enable if before else "") + OVERFLOW + ("" if before else enable) + IN_GREENLET)
    assert re.search(report("greenlet.greenlet", "overflow"), text), text
    assert "Fatal Python error: Segmentation fault" in text
    assert "in overflow" in text


def test_other_fault_is_not_taken_for_one(dies):
    code = "greenlet(lambda: ctypes.string_at(16)).switch()"
    assert "stack overflow" not in dies(OVERFLOW + code)


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="recursion in C ends in RecursionError there"
)
def test_endless_recursion_through_c_is_named(dies):
    text = dies(RECURSION + "greenlet(overflow).switch()")
    assert re.search(report("greenlet.greenlet", "overflow"), text), text


@pytest.mark.skipif(sys.version_info < (3, 12), reason="nothing bounds recursion in C there")
def test_endless_recursion_through_c_is_an_error(run_python):
    code = RECURSION + (
        "made = greenlet(overflow)\n"
        "try: made.switch()\n"
        "except RecursionError: print('RecursionError')"
    )
    done = run_python("-c", code)
    assert (done.returncode, done.stdout) == (0, "RecursionError\n"), done.stderr
