"""The greenlets of a random program: what their bodies do, and what is passed between them."""

import contextvars
import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random_steps import World

FIRST = contextvars.ContextVar("first", default=-1)
SECOND = contextvars.ContextVar("second", default=-1)


class OrdinaryError(Exception):
    """An ordinary error of the program."""


class UnmakeableError(Exception):
    """An exception class that cannot be instantiated."""

    def __init__(self, *args: object) -> None:
        raise OrdinaryError("constructor", *args)


# Lives: what the body of a greenlet does from its first step to its last.


def live_plainly(world: "World") -> Any:
    """Take some steps and return a value."""
    world.steps(12)
    return some_value(world)


def live_carefully(world: "World") -> Any:
    """Clean up at the end, taking more steps while doing so."""
    try:
        world.steps(10)
    finally:
        world.note(f"cleaning up, handling {world.shown(sys.exc_info()[1])}")
        if world.chance(0.4):
            world.steps(2)
            world.note(f"cleaned up, handling {world.shown(sys.exc_info()[1])}")
    return some_value(world)


def live_stubbornly(world: "World") -> Any:
    """Go on once after being killed."""
    try:
        world.steps(10)
    except world.api.GreenletExit as problem:
        world.note(f"stubborn after {world.described(problem)}")
    world.steps(3)
    return some_value(world)


def live_again(world: "World") -> Any:
    """Be found in a slot again after being killed."""
    try:
        world.steps(10)
    finally:
        if world.budget > 0 and world.chance(0.6):
            me = world.api.getcurrent()
            world.slots[me.number] = me
            world.note("stays")
            del me
    world.steps(2)
    return some_value(world)


def live_attached(world: "World") -> Any:
    """Hold a reference to oneself for a while."""
    me = world.api.getcurrent()
    world.steps(4)
    world.note(f"held {world.shown(me)}")
    del me
    world.steps(6)
    return some_value(world)


def live_dangerously(world: "World") -> Any:
    """End with an exception."""
    world.steps(8)
    raise some_exception(world)


LIVES = (
    live_plainly,
    live_plainly,
    live_carefully,
    live_carefully,
    live_stubbornly,
    live_again,
    live_attached,
    live_dangerously,
)


def live(world: "World", *args: Any, **kwargs: Any) -> Any:
    """Run one greenlet from its first switch to its end."""
    number = world.current()
    world.alive.add(number)
    first = FIRST.get()
    world.note(f"begins {world.shown(args)} {world.shown(kwargs)} first={first}")
    world.note(f"handling {world.shown(sys.exc_info()[1])} at the start")
    try:
        return world.pick(LIVES)(world)
    except world.api.GreenletExit:
        spare_unstarted_parent(world, world.api.getcurrent())
        raise
    finally:
        world.alive.discard(number)
        world.note(f"ends handling {world.shown(sys.exc_info()[1])}")


def spare_unstarted_parent(world: "World", greenlet: Any) -> None:
    """Let a greenlet that ends with GreenletExit not end in one that has yet to start.

    The exception would be the argument to start with: greenlet takes it for a tuple, and reads the
    memory behind it.
    """
    above = greenlet.parent
    while above is not None and above.dead:
        above = above.parent
    if above is not None and not above:
        greenlet.parent = world.main


def greenlet_classes(world: "World") -> tuple[type, ...]:
    """Make the greenlet subclasses of one world."""

    class WithRun(world.api.greenlet):
        def run(self, *args: Any, **kwargs: Any) -> Any:
            return live(world, *args, **kwargs)

    class WithLookup(world.api.greenlet):
        @property
        def run(self) -> Any:
            world.note(f"looks up run of {world.shown(self)}")
            # Steps only when it is switched to by itself and by one side: greenlet loses the
            # arguments when a dead greenlet's parent, or two sides at once, look it up and switch.
            # It also loses them when a second lookup inside the first fails.
            number = getattr(self, "number", None)
            nested = number in world.looking
            alone = world.direct == number and not nested
            world.direct = None
            if world.chance(0.3) and alone:
                world.looking.add(number)
                try:
                    world.steps(2)
                finally:
                    world.looking.discard(number)
            if world.chance(0.1) and not nested:
                raise OrdinaryError("no run today")
            return functools.partial(live, world)

    class WithFinalizer(world.api.greenlet):
        def run(self, *args: Any, **kwargs: Any) -> Any:
            return live(world, *args, **kwargs)

        def __del__(self) -> None:
            world.note(f"finalizer of {world.shown(self)}")

    return WithRun, WithLookup, WithFinalizer


# Values and exceptions.


def some_value(world: "World") -> Any:
    """Give something to pass around."""
    kind = world.rng.randrange(8)
    number = world.rng.randrange(100)
    if kind == 0:
        return None
    if kind == 1:
        return (number,)
    if kind == 2:
        return (number, number + 1)
    if kind == 3:
        return {"value": number}
    if kind == 4:
        return OrdinaryError(number)
    if kind == 5:
        return ()
    return number


def some_exception(world: "World") -> BaseException:
    """Make an exception, seldom one that means the end of something."""
    number = world.rng.randrange(100)
    makers: tuple[Callable[[int], BaseException], ...] = (
        OrdinaryError,
        KeyError,
        ValueError,
        SystemExit,
        KeyboardInterrupt,
        StopIteration,
        world.api.GreenletExit,
    )
    return world.pick(makers)(number)


def some_arguments(world: "World") -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give the arguments of a switch."""
    args = tuple(some_value(world) for _ in range(world.pick((0, 1, 1, 2, 3))))
    kwargs = {"key": some_value(world)} if world.chance(0.2) else {}
    if world.chance(0.05):
        kwargs["other"] = 5
    return args, kwargs


def throw_arguments(world: "World") -> tuple[Any, ...]:
    """Give the arguments of a throw, right or wrong ones."""
    kill = world.api.GreenletExit
    try:
        raise OrdinaryError("traced")
    except OrdinaryError as problem:
        trace = problem.__traceback__
    return world.pick(
        (
            (),
            (),
            (kill,),
            (kill, "text"),
            (kill("instance"),),
            (OrdinaryError,),
            (OrdinaryError, "text"),
            (OrdinaryError, ("two", "texts")),
            (OrdinaryError, OrdinaryError("given")),
            (OrdinaryError, KeyError("given")),
            (OrdinaryError("instance"),),
            (OrdinaryError("instance"), None, trace),
            (OrdinaryError, "text", trace),
            (OrdinaryError, None, None),
            (SystemExit, 3),
            (UnmakeableError,),
            (OrdinaryError("instance"), "too much"),
            (OrdinaryError, "text", 5),
            (5,),
            (None,),
            (int,),
        )
    )
