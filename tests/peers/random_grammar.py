"""What a random program can do: flat steps, and steps that hold others."""

import contextvars
import functools
import gc
import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from random_lives import (
    FIRST,
    SECOND,
    OrdinaryError,
    live,
    some_arguments,
    some_exception,
    some_value,
    spare_unstarted_parent,
    throw_arguments,
)

if TYPE_CHECKING:
    from random_steps import World

FRAMES_NAMED_MAX = 30
LIVE_MAX = 14
GENERATORS_MAX = 6
# From this version on `greenlet` lets the collector see into suspended frames, and may crash when
# that ends greenlets, so the comparison does not collect while there are any to be found.
COLLECTS_FRAMES = sys.version_info >= (3, 15)


class Node:
    """A part of a reference cycle; it says when it goes."""

    def __init__(self, world: "World", label: int) -> None:
        self.world = world
        self.label = label
        self.me: Any = self
        self.extra: Any = None

    def __del__(self) -> None:
        self.world.note(f"node {self.label} goes")


# Flat steps.


def create(world: "World") -> None:
    """Make a greenlet of some kind with some parent; start none."""
    if len(world.slots) >= LIVE_MAX:
        drop(world)
        return
    run = functools.partial(live, world)
    kind = world.rng.randrange(10)
    if kind < 4:
        made = world.api.greenlet(run)
    elif kind < 6:
        made = world.api.greenlet(run=run, parent=world.at(world.someone()))
    elif kind == 6:
        made = world.api.greenlet()
        if world.chance(0.5):
            made.run = run
    elif kind == 7:
        made = world.classes[0](parent=world.at(world.someone()))
    else:
        made = world.pick(world.classes)()
    world.born += 1
    number = world.born
    made.number = number
    world.slots[number] = made
    if world.chance(0.3):
        world.refs[number] = weakref.ref(made, lambda _: world.note(f"{number} is gone"))
    world.note(f"made {number} kind {kind} under {world.shown(made.parent)}")


def switch(world: "World") -> None:
    """Switch to any greenlet in any state."""
    number = world.someone()
    args, kwargs = some_arguments(world)
    label = f"switch {number} {world.shown(args)} {world.shown(kwargs)}"
    world.note(label)
    world.direct = number
    world.attempt(label, world.at(number).switch, *args, **kwargs)


def switch_to_parent(world: "World") -> None:
    """Switch to the parent, as generators made of greenlets do."""
    parent = world.api.getcurrent().parent
    label = f"switch to parent {world.shown(parent)}"
    call = world.main.switch if parent is None else parent.switch
    del parent
    world.note(label)
    world.attempt(label, call, some_value(world))


def throw(world: "World") -> None:
    """Throw something into any greenlet in any state."""
    number = world.someone()
    args = throw_arguments(world)
    label = f"throw {number} {world.shown(args)}"
    world.note(label)
    if not world.at(number):
        spare_unstarted_parent(world, world.at(number))
    world.direct = number
    world.attempt(label, world.at(number).throw, *args)


def raise_something(world: "World") -> None:
    """Raise in the greenlet that runs; main would only print it."""
    if world.current() and world.chance(0.4):
        raise some_exception(world)


def set_parent(world: "World") -> None:
    """Give a greenlet another parent, or something that cannot be one."""
    child, parent = world.someone(), world.someone()
    if may_be_dying(world, world.at(parent)):
        return
    wrong = world.rng.randrange(12)
    value = None if wrong == 0 else 5 if wrong == 1 else world.at(parent)
    label = f"parent of {child} := {world.shown(value)}"
    try:
        if wrong == 2:
            del world.at(child).parent
        else:
            world.at(child).parent = value
    except (AttributeError, TypeError, ValueError) as problem:
        world.note(f"{label} raised {world.shown(problem)}")
    else:
        world.note(label)


def may_be_dying(world: "World", greenlet: Any) -> bool:
    """Say whether the greenlet or one above it may be in the middle of being killed.

    One that is being killed has another parent for that time. Who adopts a child then can close a
    circle that nobody checks when the old parent comes back: `greenlet` never returns from it.
    """
    while greenlet is not None:
        if greenlet.number in world.dropped:
            return True
        greenlet = greenlet.parent
    return False


def drop(world: "World") -> None:
    """Let go of a greenlet; if that was the last reference it is killed here and now."""
    if not world.slots:
        return
    number = world.pick(sorted(world.slots))
    world.dropped.add(number)
    world.note(f"drop {number}")
    del world.slots[number]
    world.note(f"dropped {number}")


def collect(world: "World") -> None:
    """Run the collector, where it can be seen to do the same on both sides."""
    if COLLECTS_FRAMES and not world.alive <= world.slots.keys():
        return
    world.note("collect")
    gc.collect()
    world.note("collected")


def make_cycle(world: "World") -> None:
    """Leave garbage for the collector, perhaps with an unstarted greenlet in it."""
    world.born += 1
    node = Node(world, world.born)
    if world.chance(0.5):
        node.extra = world.api.greenlet(functools.partial(live, world, node))
        node.extra.number = world.born
        node.extra.node = node


def tie_to_itself(world: "World") -> None:
    """Make a greenlet part of a cycle through its own dictionary, or free it from one."""
    target = world.at(world.someone())
    if target is world.main:
        return
    if hasattr(target, "me"):
        del target.me
        world.note(f"untied {world.shown(target)}")
    else:
        target.me = target
        world.note(f"tied {world.shown(target)}")


def look_at(world: "World") -> None:
    """Note everything that can be asked of a greenlet."""
    number = world.someone()
    target = world.at(number)
    frame = target.gr_frame
    names = []
    while frame is not None and len(names) < FRAMES_NAMED_MAX:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    context = target.gr_context
    variables = None if context is None else (context.get(FIRST), context.get(SECOND))
    alive = {key: ref() is not None for key, ref in world.refs.items()}
    world.note(
        f"{number}: {bool(target)} {target.dead} parent {world.shown(target.parent)} "
        f"context {variables} frames {'<'.join(names)} refs {alive}"
    )


def own_frames(world: "World") -> None:
    """Note the functions this greenlet is in."""
    frame: Any = sys._getframe()
    names = []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    world.note(f"in {len(names)} {'<'.join(names[:FRAMES_NAMED_MAX])}")


def read_run(world: "World") -> None:
    """Ask for `run`, or set it, in any state."""
    number = world.someone()
    try:
        if world.chance(0.3):
            world.at(number).run = functools.partial(live, world)
            world.note(f"run of {number} set")
        else:
            world.note(f"run of {number} is {world.shown(world.at(number).run)}")
    except (AttributeError, OrdinaryError) as problem:
        world.note(f"run of {number} raised {world.shown(problem)}")


def trace_switches(world: "World") -> None:
    """Have switches told of, by a function that may fail, or no longer."""

    def tracer(event: str, switch: tuple[Any, Any]) -> None:
        world.note(f"trace {event} {world.shown(switch)}")
        if fails:
            raise OrdinaryError("tracer")

    fails = world.chance(0.2)
    before = world.api.settrace(tracer if world.chance(0.5) else None)
    same = world.api.gettrace()
    world.note(f"traced {before is not None} {same is not None}")


def set_variable(world: "World") -> None:
    """Set a context variable."""
    variable = FIRST if world.chance(0.5) else SECOND
    before = variable.get()
    variable.set(world.rng.randrange(1000))
    world.note(f"{variable.name}: {before} := {variable.get()}")


def read_variables(world: "World") -> None:
    """Note the context variables."""
    world.note(f"variables {FIRST.get()} {SECOND.get()}")


def set_context(world: "World") -> None:
    """Give a greenlet a context: a copy, one that others have too, none, or a wrong one."""
    number = world.someone()
    choice = world.rng.randrange(5)
    if choice == 0:
        context: Any = None
    elif choice == 1:
        context = 5
    elif choice == 2 and world.contexts:
        context = world.pick(world.contexts)
    else:
        context = contextvars.copy_context()
        world.contexts = [*world.contexts[-3:], context]
    try:
        world.at(number).gr_context = context
    except (TypeError, ValueError) as problem:
        world.note(f"context of {number} raised {world.shown(problem)}")
    else:
        world.note(f"context of {number} set, choice {choice}")


def note_handled(world: "World") -> None:
    """Note the exception being handled."""
    world.note(f"handling {world.shown(sys.exc_info()[1])}")


FLAT: tuple[tuple[int, Callable[["World"], None]], ...] = (
    (10, create),
    (24, switch),
    (8, switch_to_parent),
    (8, throw),
    (2, raise_something),
    (5, set_parent),
    (6, drop),
    (1, collect),
    (1, make_cycle),
    (1, tie_to_itself),
    (4, look_at),
    (1, own_frames),
    (2, read_run),
    (3, set_variable),
    (3, read_variables),
    (2, set_context),
    (1, trace_switches),
    (3, note_handled),
)


# Steps that hold other steps.


def handle(world: "World") -> None:
    """Take steps while an exception is being handled."""
    try:
        raise OrdinaryError(world.rng.randrange(100))
    except OrdinaryError as problem:
        before = problem
        world.steps()
        same = sys.exc_info()[1] is before
        world.note(f"still handling: {same}")
        del before
    world.note(f"handled, now {world.shown(sys.exc_info()[1])}")


def handle_twice(world: "World") -> None:
    """Handle an exception that came up while another was being handled."""
    try:
        try:
            raise OrdinaryError("outer")
        except OrdinaryError:
            world.steps(2)
            raise KeyError("inner") from None
        finally:
            world.steps(2)
            world.note(f"finally handling {world.shown(sys.exc_info()[1])}")
    except KeyError as problem:
        world.steps(2)
        world.note(f"both handled {world.described(problem)}")


def catch(world: "World") -> None:
    """Catch whatever the steps raise, and take more steps then."""
    try:
        world.steps()
    except Exception as problem:
        world.note(f"caught {world.described(problem)}")
        world.steps(2)
        world.note(f"after catching, handling {world.shown(sys.exc_info()[1])}")


def clean_up(world: "World") -> None:
    """Take steps, and more of them on the way out."""
    try:
        world.steps()
    finally:
        world.note("clean up")
        world.steps(2)


def hold_local(world: "World") -> None:
    """Keep a reference to some greenlet across some steps."""
    held = world.at(world.someone())
    world.steps(3)
    world.note(f"held {world.shown(held)} dead {held.dead}")


def in_context(world: "World") -> None:
    """Take steps in a copy of the context, or in one that may be in use."""
    context = world.pick(world.contexts) if world.contexts else contextvars.copy_context()
    try:
        context.run(world.steps)
    except RuntimeError as problem:
        world.note(f"context raised {world.shown(problem)}")


def yielding(world: "World", label: int) -> Any:
    """A generator whose parts may run in different greenlets, and switch."""
    try:
        for turn in range(6):
            try:
                world.steps(2)
                got = yield turn
                world.note(f"generator {label} got {world.shown(got)}")
            except OrdinaryError as problem:
                world.note(f"generator {label} handles {world.shown(problem)}")
                yield -turn
                world.note(f"generator {label} still {world.shown(sys.exc_info()[1])}")
    finally:
        world.note(f"generator {label} closes")
        if world.chance(0.3):
            world.steps(1)


def use_generator(world: "World") -> None:
    """Advance a generator that other greenlets use as well."""
    if len(world.generators) < GENERATORS_MAX and world.chance(0.3):
        world.born += 1
        world.generators[world.born] = yielding(world, world.born)
    if not world.generators:
        return
    number = world.pick(sorted(world.generators))
    generator = world.generators[number]
    kind = world.rng.randrange(10)
    if kind < 5:
        world.attempt(f"next of {number}", next, generator, "finished")
    elif kind < 7:
        world.attempt(f"send to {number}", generator.send, None)
    elif kind == 7:
        world.attempt(f"throw into {number}", generator.throw, OrdinaryError("for a generator"))
    elif kind == 8:
        world.attempt(f"close {number}", generator.close)
    else:
        world.note(f"drop generator {number}")
        world.generators.pop(number, None)
        del generator
        world.note(f"dropped generator {number}")


def delegate(world: "World") -> None:
    """Drive a generator that delegates to another one."""

    def outer() -> Any:
        result = yield from yielding(world, -1)
        world.note(f"delegated {world.shown(result)}")

    for item in outer():
        world.note(f"outer gave {item}")
        if item >= 2:
            break


def run_child(world: "World") -> None:
    """Start a greenlet that nobody else knows and take what it gives."""
    child = world.api.greenlet(functools.partial(live, world))
    world.born += 1
    child.number = world.born
    world.dropped.add(child.number)
    world.note(f"child {child.number}")
    world.attempt("child", child.switch, "hello")
    world.note(f"child {child.number} dead {child.dead}")


NESTED: tuple[tuple[int, Callable[["World"], None]], ...] = (
    (4, handle),
    (2, handle_twice),
    (4, catch),
    (3, clean_up),
    (2, hold_local),
    (3, in_context),
    (6, use_generator),
    (1, delegate),
    (4, run_child),
)


def weighted(table: tuple[tuple[int, Any], ...]) -> tuple[Any, ...]:
    """Repeat each entry as often as its weight says."""
    return tuple(entry for weight, entry in table for _ in range(weight))


FLAT_CHOICES = weighted(FLAT)
NESTED_CHOICES = weighted(NESTED)


def pick_flat(world: "World") -> Callable[["World"], None]:
    """Choose a step that holds no others."""
    return world.pick(FLAT_CHOICES)


def pick_nested(world: "World") -> Callable[["World"], None]:
    """Choose a step that holds others."""
    return world.pick(NESTED_CHOICES)
