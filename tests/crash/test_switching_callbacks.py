"""A switch may happen wherever native code calls back into Python."""

import textwrap
from collections.abc import Callable

import pytest

Check = Callable[..., None]

# Each `work(n)` below calls `pause(value)`, which answers twice the value: on the main greenlet at
# once, in others after all of them were suspended there and continued in a shuffled order.
PREPARE = """
import functools, random, sys

NUMBERS = range(1, 7)
shuffled = random.Random(11)
plain = {n: [] for n in NUMBERS}

def pause(value):
    parent = getcurrent().parent
    if parent is not None:
        return parent.switch(value)
    plain[now].append(value)
    return 2 * value

class Odd:
    def __init__(self, n):
        self.n = n
"""

COMPARE = """
expected = {}
for now in NUMBERS:
    expected[now] = work(now)

made = {n: greenlet(work) for n in NUMBERS}
asked = {n: [made[n].switch(n)] for n in NUMBERS}
assert all(made.values()), "all are suspended"
results = {}
while len(results) < len(made):
    n = shuffled.choice([n for n in NUMBERS if n not in results])
    answer = made[n].switch(2 * asked[n][-1])
    if made[n].dead:
        results[n] = answer
    else:
        asked[n].append(answer)
print(results[3], results == expected, asked == plain)
"""

THROW = """
for now in NUMBERS:
    work(now)

class Thrown(Exception):
    pass

made = {n: greenlet(work) for n in NUMBERS}
asked = {n: made[n].switch(n) for n in NUMBERS}
for n in shuffled.sample(NUMBERS, len(NUMBERS)):
    for _ in range(n % len(plain[n])):
        asked[n] = made[n].switch(2 * asked[n])
for n in shuffled.sample(NUMBERS, len(NUMBERS)):
    try:
        made[n].throw(Thrown(n))
    except Thrown as thrown:
        assert thrown.args == (n,) and made[n].dead, (n, thrown)
    else:
        print(n, "was lost")
print("end")
"""

# Each with the result of work(3). What is raised in these is swallowed or replaced.
SWALLOWING = {
    "del": (
        """
        class Dying(Odd):
            def __del__(self):
                self.n.append(pause(len(self.n)))

        def work(n):
            out = [n]
            for _ in range(3):
                Dying(out)
            return out
        """,
        "[3, 2, 4, 6]",
    ),
    "weakref callback": (
        """
        import weakref

        def work(n):
            out, odd = [], Odd(n)
            kept = [weakref.ref(odd, lambda _, k=k: out.append(pause(n + k))) for k in range(3)]
            del odd
            return sorted(out)
        """,
        "[6, 8, 10]",
    ),
    "sqlite function": (
        """
        import sqlite3

        def work(n):
            connection = sqlite3.connect(":memory:")
            connection.create_function("pause", 1, pause)
            connection.execute("create table t (x)")
            connection.executemany("insert into t values (?)", [(n,), (n + 1,), (n + 2,)])
            found = connection.execute("select x, pause(x) from t order by -x").fetchall()
            connection.close()
            return found
        """,
        "[(5, 10), (4, 8), (3, 6)]",
    ),
    "sqlite collation": (
        """
        import sqlite3

        def work(n):
            connection = sqlite3.connect(":memory:")
            connection.create_collation("paused", lambda a, b: pause(int(a) - int(b)))
            rows = " union all ".join(f"select '{k * n % 7}' as x" for k in range(1, 7))
            found = connection.execute(f"select x from ({rows}) order by x collate paused")
            out = "".join(x for (x,) in found)
            connection.close()
            return out
        """,
        "123456",
    ),
    "sqlite progress": (
        """
        import sqlite3

        def work(n):
            connection = sqlite3.connect(":memory:")
            connection.set_progress_handler(lambda: pause(0), 50)
            counting = "with recursive c(x) as (select 1 union all select x + 1 from c limit ?)"
            found = connection.execute(counting + "select sum(x) from c", (n * 10,)).fetchone()
            connection.close()
            return found
        """,
        "(465,)",
    ),
    "sqlite trace": (
        """
        import sqlite3

        def work(n):
            connection = sqlite3.connect(":memory:", isolation_level=None)
            connection.set_trace_callback(lambda text: out.append((text, pause(len(out)))))
            out = []
            rows = [connection.execute(f"select {k}").fetchone() for k in range(n, n + 2)]
            connection.close()
            return rows, out
        """,
        "([(3,), (4,)], [('select 3', 0), ('select 4', 2)])",
    ),
    "ctypes callback": (
        """
        import ctypes

        def work(n):
            def compare(one, other):
                return pause(one[0] - other[0])

            pointer = ctypes.POINTER(ctypes.c_int)
            kind = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer)
            numbers = (ctypes.c_int * 6)(*(k * n % 7 for k in range(1, 7)))
            ctypes.CDLL(None).qsort(numbers, 6, ctypes.sizeof(ctypes.c_int), kind(compare))
            return list(numbers)
        """,
        "[1, 2, 3, 4, 5, 6]",
    ),
}

# What is raised in these comes out.
PASSING = {
    "sorted": (
        """
        def work(n):
            return sorted((k * n % 7 for k in range(1, 7)), key=lambda k: -pause(k))
        """,
        "[6, 5, 4, 3, 2, 1]",
    ),
    "lt": (
        """
        class Small(Odd):
            def __lt__(self, other):
                return pause(self.n - other.n) < 0

        def work(n):
            return [small.n for small in sorted(Small(k * n % 7) for k in range(1, 7))]
        """,
        "[1, 2, 3, 4, 5, 6]",
    ),
    "reduce": (
        """
        def work(n):
            return functools.reduce(lambda a, b: pause(a + b), range(n, n + 4))
        """,
        "88",
    ),
    "re.sub": (
        """
        import re

        def work(n):
            return re.sub(r"\\d", lambda m: str(pause(int(m[0]) + n)), "a1 b2 c3 a1")
        """,
        "a8 b10 c12 a8",
    ),
    "json hook": (
        """
        import json

        def work(n):
            text = json.dumps({"a": {"n": n}, "b": [{"n": n + 1}]})
            hook = lambda made: {**made, "n": pause(made.get("n", 0))}
            return json.loads(text, object_hook=hook)
        """,
        "{'a': {'n': 6}, 'b': [{'n': 8}], 'n': 0}",
    ),
    "json default": (
        """
        import json

        def work(n):
            return json.dumps([Odd(n), {"a": Odd(n + 1)}], default=lambda odd: pause(odd.n))
        """,
        '[6, {"a": 8}]',
    ),
    "expat": (
        """
        from xml.parsers import expat

        def work(n):
            out, parser = [], expat.ParserCreate()
            parser.StartElementHandler = lambda name, _: out.append(name + str(pause(n)))
            parser.CharacterDataHandler = lambda text: out.append(pause(int(text)))
            parser.Parse(f"<a>{n}<b>{n + 1}</b></a>", True)
            return out
        """,
        "['a6', 6, 'b6', 8]",
    ),
    "getattr": (
        """
        class Lazy(Odd):
            def __getattr__(self, name):
                return name + str(pause(self.n))

        def work(n):
            return Lazy(n).a + getattr(Lazy(n + 1), "b") + str(hasattr(Lazy(n), "c"))
        """,
        "a6b8True",
    ),
    "import": (
        """
        import importlib, pathlib, tempfile

        sys.dont_write_bytecode = True
        kept = tempfile.TemporaryDirectory()
        sys.path.insert(0, kept.name)
        for n in NUMBERS:
            path = pathlib.Path(kept.name, f"outer_{n}.py")
            path.write_text(f"from __main__ import pause; import inner_{n}; b = pause({n})")
            path = pathlib.Path(kept.name, f"inner_{n}.py")
            path.write_text(f"from __main__ import pause; a = pause({n} + 1)")
        importlib.invalidate_caches()

        def work(n):
            try:
                exec(f"from outer_{n} import inner_{n} as inner, b", scope := {})
                return scope["inner"].a, scope["b"], f"outer_{n}" in sys.modules
            finally:
                sys.modules.pop(f"outer_{n}", None)
                sys.modules.pop(f"inner_{n}", None)
        """,
        "(8, 6, True)",
    ),
    "exit": (
        """
        class Guard(Odd):
            def __enter__(self):
                return pause(self.n)

            def __exit__(self, kind, value, traceback):
                self.n = [kind.__name__, pause(value.args[0]), sys.exc_info()[1] is value]
                return True

        def work(n):
            guard = Guard(n)
            with guard as entered:
                raise ValueError(n + 1)
            return entered, guard.n, sys.exc_info()
        """,
        "(6, ['ValueError', 8, True], (None, None, None))",
    ),
    "iter and next": (
        """
        class Steps(Odd):
            def __iter__(self):
                self.left = pause(self.n)
                return self

            def __next__(self):
                self.left -= 1
                if not self.left:
                    raise StopIteration
                return pause(self.left)

        def work(n):
            first, *rest = Steps(n)
            return [first, rest, sum(Steps(n)), list(zip(Steps(n), Steps(1)))]
        """,
        "[10, [10, 8, 6, 4, 2], 30, [(10, 2)]]",
    ),
    "descriptor": (
        """
        class Descriptor:
            def __get__(self, instance, owner):
                return pause(instance.n)

            def __set__(self, instance, value):
                instance.n = pause(value)

        class Owner(Odd):
            value = Descriptor()

        def work(n):
            owner = Owner(n)
            owner.value += 1
            return owner.n, owner.value
        """,
        "(14, 28)",
    ),
    "property": (
        """
        class Owner(Odd):
            @property
            def value(self):
                return pause(self.n)

            @value.setter
            def value(self, value):
                self.n = pause(value)

            @value.deleter
            def value(self):
                self.n = pause(1)

        def work(n):
            owner = Owner(n)
            owner.value += 1
            seen = owner.n
            del owner.value
            return seen, owner.value
        """,
        "(14, 4)",
    ),
    "eq in a dictionary": (
        """
        class Key(Odd):
            def __hash__(self):
                return 1

            def __eq__(self, other):
                return pause(self.n) == 2 * other.n

        def work(n):
            table = {Key(k): k for k in range(n, n + 3)}
            return [table[Key(k)] for k in range(n, n + 3)] + [Key(n + 3) in table, len(table)]
        """,
        "[3, 4, 5, False, 3]",
    ),
    "class body": (
        """
        class Meta(type):
            @classmethod
            def __prepare__(meta, name, bases, n):
                return {"prepared": pause(n)}

            def __new__(meta, name, bases, scope, n):
                return super().__new__(meta, name, bases, scope)

            def __init__(cls, name, bases, scope, n):
                cls.made = pause(cls.prepared)

        def work(n):
            class Made(metaclass=Meta, n=n):
                inside = pause(n + 1)
            return Made.prepared, Made.inside, Made.made
        """,
        "(6, 8, 12)",
    ),
    "operators": (
        """
        class Number(Odd):
            def __radd__(self, other):
                return other + pause(self.n)

            def __index__(self):
                return pause(self.n)

            def __hash__(self):
                return pause(self.n)

            def __bool__(self):
                return pause(self.n) > 0

            def __format__(self, spec):
                return str(pause(self.n))

        def work(n):
            odd = Number(n)
            out = [sum([odd, odd]), range(20)[odd], hash(odd), not odd, f"{odd}", bytes(odd)]
            return out[:-1] + [len(out[-1])]
        """,
        "[12, 6, 6, False, '6', 6]",
    ),
    "repr": (
        """
        class Shown(Odd):
            def __repr__(self):
                return "n" + str(pause(self.n))

        def work(n):
            shown = [Shown(n), {n: Shown(n + 1)}]
            shown.append(shown)
            return repr(shown)
        """,
        "[n6, {3: n8}, [...]]",
    ),
    "pickle": (
        """
        import copy, pickle

        class Saved(Odd):
            def __reduce__(self):
                return Saved, (pause(self.n),)

        def work(n):
            saved = [Saved(n), Saved(n + 1)]
            return [s.n for s in pickle.loads(pickle.dumps(saved)) + copy.deepcopy(saved)]
        """,
        "[6, 8, 6, 8]",
    ),
    "codec": (
        """
        import codecs

        def work(n):
            codecs.register_error(f"pause{n}", lambda error: (str(pause(error.start)), error.end))
            return b"a\\xffbc\\xffd".decode("ascii", f"pause{n}")
        """,
        "a2bc8d",
    ),
    "file": (
        """
        import io

        class Slow(io.RawIOBase):
            def __init__(self, n):
                self.n = n

            def readable(self):
                return True

            def readinto(self, buffer):
                self.n -= 1
                line = b"%d," % pause(self.n) if self.n >= 0 else b""
                buffer[:len(line)] = line
                return len(line)

        def work(n):
            return io.TextIOWrapper(io.BufferedReader(Slow(n))).read()
        """,
        "4,2,0,",
    ),
}


@pytest.mark.parametrize("place", [*SWALLOWING, *PASSING])
def test_suspended_inside_a_callback(check_script: Check, place: str) -> None:
    work, result = {**SWALLOWING, **PASSING}[place]
    check_script(source(work, COMPARE), prints=f"{result} True True\n")


@pytest.mark.parametrize("place", PASSING)
def test_exception_thrown_into_a_callback_comes_out(check_script: Check, place: str) -> None:
    check_script(source(PASSING[place][0], THROW), prints="end\n")


def source(work: str, drive: str) -> str:
    return PREPARE + textwrap.dedent(work) + drive
