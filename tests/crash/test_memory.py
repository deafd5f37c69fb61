"""When there is no room for another stack the caller is told, and the process goes on."""

from collections.abc import Callable

import pytest

Check = Callable[..., None]

# `greenlet` has no stacks to run out of.
ours = pytest.mark.parametrize("module", ["rgevent.greenlet"], ids=["ours"])

LIMIT = """
import resource

def allow_more(megabytes):
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    limit = None if megabytes is None else used + megabytes * 1024 * 1024
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard if limit is None else limit, hard))

def fill():
    "Start greenlets until one cannot be started; give them and that one."
    kept = []
    while len(kept) < 100_000:
        last = greenlet(lambda: getcurrent().parent.switch("started"))
        try:
            last.switch()
        except MemoryError:
            return kept, last
        kept.append(last)
    raise AssertionError("the limit had no effect")
"""


@ours
def test_no_room_for_a_stack_is_a_memory_error(check_script: Check) -> None:
    check_script(
        LIMIT
        + """
allow_more(256)
kept, last = fill()
print(bool(last), last.dead, last.parent is getcurrent(), all(kept))
print({each.switch("again") for each in kept[::2]})
print(last.switch())
""",
        prints="False False True True\n{'again'}\nstarted\n",
    )


@ours
def test_refused_greenlet_starts_once_there_is_room(check_script: Check) -> None:
    check_script(
        LIMIT
        + """
allow_more(256)
kept, last = fill()
allow_more(None)
print(last.switch(), last.switch("value"), last.dead)
more = [suspended() for _ in range(2000)]
print(all(more), all(kept))
""",
        prints="started value True\nTrue True\n",
    )


@ours
def test_throw_into_a_greenlet_that_gets_no_stack(check_script: Check) -> None:
    check_script(
        LIMIT
        + """
allow_more(256)
kept, last = fill()
try:
    last.throw(ValueError("thrown"))
except MemoryError:
    print("no room", bool(last), last.dead)
except ValueError as problem:
    print("needs no room")
kept.pop().switch()
try:
    last.throw(ValueError("thrown"))
except ValueError as problem:
    print(problem, last.dead)
""",
        prints="no room False False\nthrown True\n",
    )


@ours
def test_exit_while_there_is_no_room(check_script: Check) -> None:
    check_script(
        LIMIT
        + """
allow_more(256)
kept, last = fill()
print("end", len(kept) > 20)
""",
        prints="end True\n",
    )
