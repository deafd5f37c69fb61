"""A seeded random program over greenlets that prints what happens to it.

Run once with `greenlet` and once with `rgevent.greenlet`, the two traces must be equal line for
line. Every greenlet, the main one included, draws its next step from one shared random source, so
the first difference in behaviour shows at once and everything after it may differ as well.

The trace holds nothing that depends on the machine: greenlets are named by number, exceptions by
type and arguments, tracebacks by function names. The collector runs only when a step asks for it.
The program works in rounds, each with its own population and its own random source, so that what
one round leaks cannot be seen by the next. Nesting is bounded, or the recursion limit would show.
"""

import argparse
import faulthandler
import gc
import importlib
import random
import re
import sys
import traceback
import weakref
from typing import Any, TextIO

import random_grammar
import random_lives
import random_natives

ROUND_STEPS = 400
DEPTH_MAX = 5
DRAIN_TRIES_MAX = 8
TRACEBACK_NAMES_MAX = 12
CONTEXTS_MAX = 5


class World:
    """The population of one run, its random source and its trace.

    Arguments: the greenlet module, the seed, and where the trace goes.
    """

    def __init__(self, api: Any, seed: int, out: TextIO) -> None:
        self.api = api
        self.seed = seed
        self.out = out
        self.rng = random.Random()
        self.muted = False
        self.budget = 0
        self.born = 0
        self.slots: dict[int, Any] = {}
        self.depths: dict[int, int] = {}
        # The greenlet that is being switched to by name, for lookups of its `run`.
        self.direct: int | None = None
        self.looking: set[int | None] = set()
        self.refs: dict[int, weakref.ref[Any]] = {}
        self.generators: dict[int, Any] = {}
        self.contexts: list[Any] = []
        # Begun and not ended; and let go of by the slots at some time.
        self.alive: set[int] = set()
        self.dropped: set[int] = set()
        self.main = api.getcurrent()
        self.main.number = 0
        self.classes = random_lives.greenlet_classes(self)
        self.stderr_text = ""

    # Naming and noting.

    def current(self) -> int:
        """Give the number of the greenlet that runs."""
        return self.api.getcurrent().number

    def note(self, text: str) -> None:
        """Write one line of the trace, headed by the greenlet that runs."""
        if not self.muted:
            self.out.write(f"{self.current()}: {text}\n")

    def shown(self, value: Any, depth: int = 0) -> str:
        """Describe a value without addresses."""
        if isinstance(value, self.api.greenlet):
            return f"G{getattr(value, 'number', '?')}"
        if isinstance(value, BaseException):
            return f"{type(value).__name__}{self.shown(value.args, depth + 1)}"
        if isinstance(value, tuple | list) and depth < 4:
            return f"({', '.join(self.shown(item, depth + 1) for item in value)})"
        if isinstance(value, dict) and depth < 4:
            items = (f"{key}={self.shown(item, depth + 1)}" for key, item in value.items())
            return f"{{{', '.join(items)}}}"
        if isinstance(value, str):
            return repr(neutral(value))
        if value is None or isinstance(value, int):
            return repr(value)
        return f"<{type(value).__name__}>"

    def described(self, problem: BaseException) -> str:
        """Describe an exception, what it came from, and the functions it passed through."""
        tb = problem.__traceback__
        names = [frame.f_code.co_name for frame, _ in traceback.walk_tb(tb)]
        contexts = []
        before = problem.__context__
        while before is not None and len(contexts) < CONTEXTS_MAX:
            contexts.append(type(before).__name__)
            before = before.__context__
        way = ">".join(names[-TRACEBACK_NAMES_MAX:])
        return f"{self.shown(problem)} after {contexts} by {len(names)} {way}"

    # The random source.

    def chance(self, probability: float) -> bool:
        """Say yes with the given probability."""
        return self.rng.random() < probability

    def pick(self, things: Any) -> Any:
        """Give one of the things."""
        return things[self.rng.randrange(len(things))]

    def someone(self) -> int:
        """Give the number of a greenlet that can be reached: any slot, main, or the current."""
        if not self.slots or self.chance(0.1):
            return 0 if self.chance(0.5) else self.current()
        return self.pick(sorted(self.slots))

    def at(self, number: int) -> Any:
        """Give the greenlet with that number, main when it is gone."""
        if number == self.current():
            return self.api.getcurrent()
        return self.slots.get(number, self.main)

    # Steps.

    def step(self) -> None:
        """Take one random step, if the round has any left."""
        if self.budget <= 0:
            return
        self.budget -= 1
        if self.depths.get(self.current(), 0) >= DEPTH_MAX or self.chance(0.7):
            action = random_grammar.pick_flat(self)
        elif self.chance(0.5):
            action = random_grammar.pick_nested(self)
        else:
            action = self.pick(random_natives.CALLBACKS)
        action(self)

    def steps(self, at_most: int = 4) -> None:
        """Take a few random steps one level deeper."""
        number = self.current()
        self.depths[number] = self.depths.get(number, 0) + 1
        try:
            for _ in range(self.rng.randint(1, at_most)):
                self.step()
        finally:
            self.depths[number] -= 1

    def attempt(self, label: str, call: Any, *args: Any, **kwargs: Any) -> Any:
        """Call and note the outcome; an exception is sometimes passed on."""
        try:
            result = call(*args, **kwargs)
        except BaseException as problem:
            self.note(f"{label} raised {self.described(problem)}")
            passed_on = 0.9 if isinstance(problem, self.api.GreenletExit) else 0.3
            if self.chance(passed_on):
                raise
        else:
            self.note(f"{label} -> {self.shown(result)}")
            return result

    # The interpreter's own reports.

    def unraisable(self, report: Any) -> None:
        """Note an exception that nobody could be given."""
        owner = self.shown(report.object)
        self.note(f"unraisable {self.shown(report.exc_value)} in {owner}")

    def write(self, text: str) -> int:
        """Stand in for `sys.stderr`: note whole lines, up to the first object's repr."""
        self.stderr_text += text
        while "\n" in self.stderr_text:
            line, self.stderr_text = self.stderr_text.split("\n", 1)
            self.note(f"stderr {line.split('<')[0]!r}")
        return len(text)

    def flush(self) -> None:
        """Stand in for `sys.stderr`: nothing is held back."""

    # Rounds.

    def play_round(self, index: int, steps: int) -> None:
        """Play one round and leave nothing of it that a later one could meet."""
        self.rng.seed(f"{self.seed}/{index}")
        self.main.gr_context = None
        self.born = 0
        self.note(f"round {index} of {steps}")
        self.budget = steps
        while self.budget > 0:
            try:
                self.steps(20)
            except BaseException as problem:
                self.note(f"main caught {self.described(problem)}")
        self.api.settrace(None)
        self.drain()
        self.muted = True
        self.contexts.clear()
        if random_grammar.COLLECTS_FRAMES:
            # What leaked stays: greenlet 3.5.6 may crash when the collector ends greenlets.
            gc.freeze()
        else:
            gc.collect()
        self.muted = False
        self.depths.clear()
        self.refs.clear()
        self.alive.clear()
        self.dropped.clear()
        self.stderr_text = ""
        self.out.flush()

    def drain(self) -> None:
        """End every greenlet and generator that can still be reached."""
        for _ in range(DRAIN_TRIES_MAX):
            for number in sorted(self.slots):
                target = self.slots[number]
                if not target.dead:
                    random_lives.spare_unstarted_parent(self, target)
                    try:
                        self.note(f"drain {number} -> {self.shown(target.throw())}")
                    except BaseException as problem:
                        self.note(f"drain {number} raised {self.described(problem)}")
                del target
        for number in sorted(self.generators):
            try:
                self.generators.pop(number).close()
            except BaseException as problem:
                self.note(f"generator {number} raised {self.described(problem)}")
        while self.slots:
            number, target = self.slots.popitem()
            self.note(f"let go of {number} dead={target.dead}")
            del target


def neutral(text: str) -> str:
    """Take addresses and type names out of a message."""
    return re.sub(r"'[\w.]*greenlet[\w.]*'", "'greenlet'", re.sub(r"0x[0-9a-f]+", "0x", text))


def main() -> None:
    """Parse the command line and print the trace."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", default="rgevent.greenlet")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--unbuffered", action="store_true", help="lose no line in a crash")
    parser.add_argument("--collect", action="store_true", help="collect garbage on every version")
    options = parser.parse_args()
    if options.collect:
        random_grammar.COLLECTS_FRAMES = False
    faulthandler.enable(sys.__stderr__)
    gc.disable()
    sys.setrecursionlimit(20_000)
    out = sys.stdout
    if options.unbuffered:
        out.reconfigure(write_through=True)
    world = World(importlib.import_module(options.module), options.seed, out)
    sys.unraisablehook = world.unraisable
    sys.stderr = world
    left = options.steps
    index = 0
    while left > 0:
        world.play_round(index, min(left, ROUND_STEPS))
        left -= ROUND_STEPS
        index += 1
    world.note("finished")
    sys.stderr = sys.__stderr__
    sys.unraisablehook = sys.__unraisablehook__


if __name__ == "__main__":
    main()
