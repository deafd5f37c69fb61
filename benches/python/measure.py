"""What a task is, and how time and memory are taken."""

import gc
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

ROUNDS = 7
QUICK_DIVISOR = 10
# One side is the package we stand in for; the names are those its users import.
RAW_MODULES = {"peer": "greenlet", "ours": "rgevent.greenlet"}
HUB_PACKAGES = {"peer": "gevent", "ours": "rgevent"}


@dataclass(frozen=True)
class Side:
    """One of the two sides; it imports only what a task asks for."""

    name: str

    @property
    def raw(self) -> ModuleType:
        """The module with the greenlet type."""
        return importlib.import_module(RAW_MODULES[self.name])

    @property
    def hub(self) -> ModuleType:
        """The package with spawn and sleep."""
        return importlib.import_module(HUB_PACKAGES[self.name])

    def part(self, name: str) -> ModuleType:
        """A module of that package, such as "event"."""
        return importlib.import_module(f"{HUB_PACKAGES[self.name]}.{name}")


@dataclass(frozen=True)
class Task:
    """Something both sides can do.

    `measure(side, count)` does it and returns the cost of one operation in `unit`. A task in
    bytes is measured once per process, one in ns several times. `fixed` says that the title
    names the count: it is never less then. A `slow` task is only run when it is named.
    """

    name: str
    title: str
    unit: str
    peer: str
    count: int
    measure: Callable[[Side, int], float]
    fixed: bool = False
    slow: bool = False

    def rounds(self, side: Side, quick: bool) -> list[float]:
        """Measure in this process, as often as makes sense; `quick` does less of everything."""
        less = quick and not self.fixed
        count = max(self.count // QUICK_DIVISOR, 1) if less else self.count
        if self.unit == "bytes":
            return [self.measure(side, count)]
        self.measure(side, max(count // 10, 1))
        return [self.measure(side, count) for _ in range(3 if quick else ROUNDS)]


def cpu_ns(count: int, function: Callable[..., Any], *args: Any) -> float:
    """CPU time of this process in `function(*args)`, in ns per operation, `count` of them."""
    gc.collect()
    before = time.process_time_ns()
    function(*args)
    return (time.process_time_ns() - before) / count


def memory() -> tuple[int, int]:
    """Resident memory and page tables of this process, in bytes."""
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    resident, tables = (int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmPTE"))
    return resident, tables
