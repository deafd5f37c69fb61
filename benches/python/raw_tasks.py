"""Bare greenlets: switching, creating, and what a suspended one takes."""

from collections.abc import Callable
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
    Task("create", "create + run + finish", "ns", "greenlet", 100_000, create),
    Task(
        "switch-100k",
        "switch among 100k live ones",
        "ns",
        "greenlet",
        100_000,
        switch_among_many,
        fixed=True,
    ),
    Task(
        "rss-10k",
        "RSS per suspended, 10k",
        "bytes",
        "greenlet",
        10_000,
        per_suspended(0),
        fixed=True,
    ),
    Task(
        "tables-10k",
        "page tables per, 10k",
        "bytes",
        "greenlet",
        10_000,
        per_suspended(1),
        fixed=True,
    ),
    Task(
        "rss-100k",
        "RSS per suspended, 100k",
        "bytes",
        "greenlet",
        100_000,
        per_suspended(0),
        fixed=True,
    ),
    Task(
        "tables-100k",
        "page tables per, 100k",
        "bytes",
        "greenlet",
        100_000,
        per_suspended(1),
        fixed=True,
    ),
)
