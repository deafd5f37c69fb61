"""Bare greenlets: switching, creating, and what a suspended one takes."""

from collections.abc import Callable
from functools import reduce
from itertools import repeat
from typing import Any

from measure import Side, Task, cpu_ns, memory


def switch_nothing(side: Side, count: int) -> float:
    """One way, without a value: main and one greenlet take turns."""
    back = side.raw.getcurrent().switch

    def partner() -> None:
        while True:
            back()

    def run() -> None:
        there = side.raw.greenlet(partner).switch
        for _ in repeat(None, count // 2):
            there()

    return cpu_ns(count, run)


def switch_value(side: Side, count: int) -> float:
    """One way, with one value each time."""
    back = side.raw.getcurrent().switch

    def partner(value: Any) -> None:
        while True:
            value = back(value)

    def run() -> None:
        there = side.raw.greenlet(partner).switch
        for _ in repeat(None, count // 2):
            there(1)

    return cpu_ns(count, run)


def switch_keywords(side: Side, count: int) -> float:
    """One way, with one positional value and one by keyword."""
    back = side.raw.getcurrent().switch

    def partner(value: Any, name: Any) -> None:
        while True:
            back(value, name=name)

    def run() -> None:
        there = side.raw.greenlet(partner).switch
        for _ in repeat(None, count // 2):
            there(1, name=2)

    return cpu_ns(count, run)


def switch_deep(descend: Callable[[int, Callable[[], Any]], Any], depth: int) -> Any:
    """One way, when the partner switches from `depth` levels below its function."""

    def measure(side: Side, count: int) -> float:
        back = side.raw.getcurrent().switch

        def partner() -> None:
            def forever() -> None:
                while True:
                    back()

            descend(depth, forever)

        def run() -> None:
            there = side.raw.greenlet(partner).switch
            for _ in repeat(None, count // 2):
                there()

        return cpu_ns(count, run)

    return measure


def through_python(depth: int, function: Callable[[], Any]) -> Any:
    """Call it from `depth` Python frames down."""
    return through_python(depth - 1, function) if depth else function()


def through_c(depth: int, function: Callable[[], Any]) -> Any:
    """Call it from `depth` calls through C code down."""
    if depth:
        return reduce(lambda *_: through_c(depth - 1, function), (1, 2))
    return function()


def throw(side: Side, count: int) -> float:
    """Raise an exception in a greenlet that catches it and switches back."""
    back = side.raw.getcurrent().switch

    def partner() -> None:
        while True:
            try:
                back()
            except LookupError:
                pass

    def run() -> None:
        there = side.raw.greenlet(partner)
        there.switch()
        for _ in repeat(None, count):
            there.throw(LookupError)

    return cpu_ns(count, run)


def kill(side: Side, count: int) -> float:
    """Start greenlets and drop the last reference to each while it is suspended."""
    greenlet = side.raw.greenlet
    back = side.raw.getcurrent().switch

    def run() -> None:
        for _ in repeat(None, count):
            greenlet(back).switch()

    return cpu_ns(count, run)


def create(side: Side, count: int) -> float:
    """Make a greenlet that returns at once, and run it."""
    greenlet = side.raw.greenlet

    def nothing() -> None:
        pass

    def run() -> None:
        for _ in repeat(None, count):
            greenlet(nothing).switch()

    return cpu_ns(count, run)


def suspend(side: Side, number: int) -> list[Any]:
    """Start that many greenlets that answer each switch with one back."""
    back = side.raw.getcurrent().switch

    def waits() -> None:
        while True:
            back()

    made = [side.raw.greenlet(waits) for _ in range(number)]
    for each in made:
        each.switch()
    return made


def switch_among_many(side: Side, count: int) -> float:
    """One way, each time to another one of `count` suspended greenlets."""
    switches = [each.switch for each in suspend(side, count)]

    def run() -> None:
        for _ in range(2):
            for there in switches:
                there()

    return cpu_ns(4 * count, run)


def per_suspended(which: int) -> Callable[[Side, int], float]:
    """What one suspended greenlet adds to resident memory (0) or page tables (1)."""

    def measure(side: Side, count: int) -> float:
        suspend(side, 10)
        before = memory()[which]
        kept = suspend(side, count)
        return (memory()[which] - before) / len(kept)

    return measure


TASKS = (
    Task("switch", "switch, no arguments", "ns", "greenlet", 400_000, switch_nothing),
    Task("switch-value", "switch, one value", "ns", "greenlet", 400_000, switch_value),
    Task(
        "switch-keywords", "switch, value and keyword", "ns", "greenlet", 200_000, switch_keywords
    ),
    Task(
        "switch-deep",
        "switch, 20 Python frames deep",
        "ns",
        "greenlet",
        200_000,
        switch_deep(through_python, 20),
    ),
    Task(
        "switch-native",
        "switch, 10 calls through C deep",
        "ns",
        "greenlet",
        100_000,
        switch_deep(through_c, 10),
    ),
    Task("create", "create + run + finish", "ns", "greenlet", 100_000, create),
    Task("throw", "throw into one, and back", "ns", "greenlet", 100_000, throw),
    Task("kill", "start + kill by last reference", "ns", "greenlet", 50_000, kill),
    Task(
        "switch-100k",
        "switch among 100k live ones",
        "ns",
        "greenlet",
        100_000,
        switch_among_many,
        fixed=True,
    ),
    *(
        Task(
            f"{name}-{size}",
            f"{title}, {size}",
            "bytes",
            "greenlet",
            count,
            per_suspended(which),
            fixed=True,
            slow=count >= 1_000_000,
        )
        for size, count in (("10k", 10_000), ("100k", 100_000), ("1M", 1_000_000))
        for which, name, title in (
            (0, "rss", "RSS per suspended"),
            (1, "tables", "page tables per"),
        )
    ),
)
