"""Random steps taken inside callbacks from C: the greenlet is suspended with C frames below it."""

import ctypes
import functools
import json
import operator
import re
import sqlite3
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random_steps import World

COMPARE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
LIBC = ctypes.CDLL(None)


def through_sorted(world: "World") -> None:
    """Sort with a key function that takes steps."""

    def key(item: int) -> int:
        world.steps(1)
        return -item

    world.note(f"sorted {sorted([2, 3, 1], key=key)}")


def through_comparison(world: "World") -> None:
    """Sort objects whose comparison takes steps."""

    class Item:
        def __init__(self, value: int) -> None:
            self.value = value

        def __lt__(self, other: "Item") -> bool:
            world.steps(1)
            return self.value < other.value

    ordered = sorted([Item(2), Item(1), Item(3)])
    world.note(f"compared {[item.value for item in ordered]}")


def through_reduce(world: "World") -> None:
    """Fold with a function that takes steps."""

    def add(left: int, right: int) -> int:
        world.steps(1)
        return left + right

    world.note(f"reduced to {functools.reduce(add, (1, 2, 3))}")


def through_map(world: "World") -> None:
    """Map a function that takes steps."""

    def double(item: int) -> int:
        world.steps(1)
        return 2 * item

    world.note(f"mapped {list(map(double, (1, 2)))}")


def through_substitution(world: "World") -> None:
    """Replace matches with what a function that takes steps gives."""

    def replace(match: re.Match[str]) -> str:
        world.steps(1)
        return match.group().upper()

    world.note(f"replaced {re.sub('[bd]', replace, 'abcd')}")


def through_missing_attribute(world: "World") -> None:
    """Look up an attribute that steps have to find."""

    class Finder:
        def __getattr__(self, name: str) -> str:
            world.steps(2)
            return name * 2

    world.note(f"found {operator.attrgetter('ab')(Finder())}")


def through_hash(world: "World") -> None:
    """Use a dictionary whose keys take steps in hashing and comparing."""

    class Key:
        def __hash__(self) -> int:
            world.steps(1)
            return 1

        def __eq__(self, other: object) -> bool:
            world.steps(1)
            return self is other

    table: dict[Any, int] = {Key(): 1, Key(): 2}
    world.note(f"hashed {len(table)}")


def through_finalizer(world: "World") -> None:
    """Drop an object whose finalizer takes steps."""

    class Mortal:
        def __del__(self) -> None:
            world.note("mortal goes")
            world.steps(2)
            world.note("mortal gone")

    mortal = Mortal()
    del mortal


def in_deallocation() -> bool:
    """Whether the running greenlet is in a finalizer or a weak reference's callback."""
    frame: Any = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name in ("__del__", "gone"):
            return True
        frame = frame.f_back
    return False


def through_nested_finalizers(world: "World") -> None:
    """Drop a deep structure with such an object at its end."""
    if in_deallocation():
        # The interpreter would keep the end of the structure for later, and when that is depends
        # on which temporary objects the implementations free.
        world.note("structure kept")
        return

    class Leaf:
        def __del__(self) -> None:
            world.note("leaf goes")
            world.steps(1)

    deep: Any = [Leaf()]
    for _ in range(120):
        deep = (deep, [])
    del deep
    world.note("structure gone")


def through_weak_reference(world: "World") -> None:
    """Drop an object whose weak reference has a callback that takes steps."""

    class Watched:
        pass

    def gone(_: Any) -> None:
        world.steps(2)
        world.note("watched gone")

    watched = Watched()
    reference = weakref.ref(watched, gone)
    del watched
    world.note(f"reference {reference()}")


def through_json_load(world: "World") -> None:
    """Parse text with a hook that takes steps."""

    def hook(table: dict[str, Any]) -> int:
        world.steps(1)
        return len(table)

    parsed = json.loads('[{"a": {"b": 1}}, {}]', object_hook=hook)
    world.note(f"parsed {parsed}")


def through_json_dump(world: "World") -> None:
    """Serialize an object with a hook that takes steps."""

    def default(_: object) -> list[int]:
        world.steps(2)
        return [1]

    world.note(f"serialized {json.dumps({'a': object()}, default=default)}")


def through_sqlite(world: "World") -> None:
    """Run a query that calls a function that takes steps."""

    def double(value: int) -> int:
        world.steps(1)
        return 2 * value

    connection = sqlite3.connect(":memory:")
    try:
        connection.create_function("double", 1, double)
        rows = connection.execute("select double(1) union all select double(2)").fetchall()
        world.note(f"rows {rows}")
    except sqlite3.Error as problem:
        world.note(f"query failed with {type(problem).__name__}")
    finally:
        connection.close()


def through_ctypes(world: "World") -> None:
    """Let the C library call a comparison that takes steps.

    One element means exactly one call; what C gets when the comparison raises is undefined.
    """

    def compare(left: Any, right: Any) -> int:
        first, second = left[0], right[0]
        world.steps(2)
        world.note(f"compared in C {first} {second}")
        return 0

    number = ctypes.c_int(3)
    here = ctypes.byref(number)
    size = ctypes.c_size_t
    LIBC.bsearch(here, here, size(1), size(ctypes.sizeof(number)), COMPARE(compare))
    world.note("back from C")


def through_iterator(world: "World") -> None:
    """Feed a C function from an iterator that takes steps."""

    class Counter:
        def __init__(self) -> None:
            self.left = 3

        def __iter__(self) -> Iterator[int]:
            return self

        def __next__(self) -> int:
            world.steps(1)
            self.left -= 1
            if self.left < 0:
                raise StopIteration
            return self.left

    world.note(f"sum {sum(Counter())}")


def through_index(world: "World") -> None:
    """Convert an object that takes steps in becoming a number and a string."""

    class Number:
        def __index__(self) -> int:
            world.steps(1)
            return 2

        def __repr__(self) -> str:
            world.steps(1)
            return "Number"

    number = Number()
    world.note(f"indexed {[1, 2, 3][number]} shown {[number]!r}")


def through_class_creation(world: "World") -> None:
    """Create a class whose descriptors and bases take steps."""

    class Named:
        def __set_name__(self, owner: type, name: str) -> None:
            world.steps(1)

    class Base:
        def __init_subclass__(cls) -> None:
            world.steps(1)

    try:
        made = type("Made", (Base,), {"named": Named()})
        world.note(f"class {made.__name__}")
    except RuntimeError as problem:
        world.note(f"class failed after {world.shown(problem.__cause__)}")


CALLBACKS: tuple[Callable[["World"], None], ...] = (
    through_sorted,
    through_comparison,
    through_reduce,
    through_map,
    through_substitution,
    through_missing_attribute,
    through_hash,
    through_finalizer,
    through_nested_finalizers,
    through_weak_reference,
    through_json_load,
    through_json_dump,
    through_sqlite,
    through_ctypes,
    through_iterator,
    through_index,
    through_class_creation,
)
