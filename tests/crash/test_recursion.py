"""Deep recursion and deep data end in an exception inside a greenlet too, at default limits."""

import sys
from collections.abc import Callable

import pytest

Check = Callable[..., None]

PREPARE = """
import ast, copy, ctypes, functools, json, operator, pickle, sys

def nested(depth=200_000):
    made = []
    for _ in range(depth):
        made = [made]
    return made

def plainly():
    return plainly() + 1

def by_arguments(*args, **kwargs):
    return by_arguments(*args, **kwargs)

def by_partial():
    return functools.partial(by_partial)()

def by_key(item=None):
    return sorted([1, 2], key=by_key)

def by_reduce(*args):
    return functools.reduce(by_reduce, (1, 2))

def by_map(*args):
    return list(map(by_map, (1,)))

def by_comprehension():
    return [by_comprehension() for _ in range(1)]

def by_generator():
    yield from by_generator()

def by_hook(*args):
    return json.loads("{}", object_hook=by_hook)

def by_default(*args):
    return json.dumps(object(), default=by_default)

def by_ctypes():
    return CALLBACK(by_ctypes)()

CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int)

class Odd:
    def __getattr__(self, name):
        return getattr(self, name + "_")

    def __eq__(self, other):
        return [self] == [Odd()]

    def __repr__(self):
        return repr([self])

    def __init__(self, deep=False):
        if deep:
            Odd(True)

    def __call__(self):
        return self()

    def __add__(self, other):
        return operator.add(self, other)

class Property:
    @property
    def value(self):
        return self.value

def nested_tuple(depth=200_000):
    made = int
    for _ in range(depth):
        made = (made, int)
    return made

def compiled(opening, middle, closing):
    return compile(opening * 100_000 + middle + closing * 100_000, "deep", "eval")
"""

# What the same job ends in on the main greenlet of some version.
CLEAN = "(RecursionError, MemoryError, SyntaxError)"

JOBS = {
    "function": "plainly()",
    "partial": "by_partial()",
    "sorted": "by_key()",
    "reduce": "by_reduce()",
    "map": "by_map()",
    "comprehension": "by_comprehension()",
    "generator": "list(by_generator())",
    "json hook": "by_hook()",
    "json default": "by_default()",
    "getattr": "Odd().name",
    "eq": "Odd() == 1",
    "repr of objects": "repr(Odd())",
    "init": "Odd(True)",
    "call": "Odd()()",
    "add": "Odd() + 1",
    "property": "Property().value",
    "repr": "repr(nested())",
    "comparison": "nested() == nested()",
    "json dump": "json.dumps(nested())",
    "json load": "json.loads('[' * 200_000)",
    "pickle": "pickle.dumps(nested())",
    "deepcopy": "copy.deepcopy(nested())",
    "isinstance": "isinstance('', nested_tuple(1_000_000))",
    "parentheses": "compiled('(', '1', ')')",
    "unary minus": "compiled('-', '1', '')",
    "subscripts": "compiled('a[', '1', ']')",
    "attributes": "compiled('', 'a', '.b')",
    "literal": "ast.literal_eval('-' * 100_000 + '1')",
    "literal list": "ast.literal_eval('[' * 100_000)",
}

# CPython 3.15.2 never ends this one by itself, with greenlets or without.
if sys.version_info < (3, 15):
    JOBS["arguments"] = "by_arguments(1, a=2)"


@pytest.mark.parametrize("job", JOBS)
def test_deep_recursion_ends_in_an_exception(check_script: Check, module: str, job: str) -> None:
    if module == "greenlet" and job in ("isinstance", "repr") and sys.version_info >= (3, 14):
        pytest.skip("greenlet runs it on the native stack, which is large enough there")
    check_script(
        PREPARE
        + f"""
def work():
    try:
        {JOBS[job]}
    except {CLEAN} as problem:
        # The rest of the program still has all its room.
        main.switch("refused")
        return repr([problem])[:1]
    return "finished"

main = getcurrent()
deep = greenlet(work)
print(deep.switch())
print(len(repr(nested(50))), suspended().switch("well"), deep.switch())
again = greenlet(work)
print(again.switch())
""",
        prints="refused\n102 well [\nrefused\n",
    )


@pytest.mark.parametrize("raised", [True, False], ids=["thrown", "returned"])
def test_structures_deep_enough_to_need_care_are_freed(check_script: Check, raised: bool) -> None:
    check_script(
        PREPARE
        + f"""
def work():
    deep = nested()
    deep_tuple = nested_tuple()
    try:
        main.switch()
    finally:
        del deep, deep_tuple
        print("freed")

main = getcurrent()
kept = [suspended(work) for _ in range(3)]
for each in kept:
    each.{"throw" if raised else "switch"}()
print(all(each.dead for each in kept))
""",
        prints="freed\n" * 3 + "True\n",
    )


def test_recursion_in_a_greenlet_of_another_thread(check_script: Check) -> None:
    check_script(
        PREPARE
        + """
import threading

def work():
    try:
        plainly()
    except RecursionError:
        print("refused")

thread = threading.Thread(target=lambda: greenlet(work).switch())
thread.start()
thread.join()
print("end")
""",
        prints="refused\nend\n",
    )


def test_depth_is_counted_for_each_greenlet(check_script: Check) -> None:
    check_script(
        """
        import sys

        def down(depth):
            if depth:
                return down(depth - 1)
            return getcurrent().parent.switch("deep")

        half = sys.getrecursionlimit() // 2
        kept = [greenlet(down) for _ in range(10)]
        print({each.switch(half) for each in kept})
        print({each.switch("back") for each in kept})
        """,
        prints="{'deep'}\n{'back'}\n",
    )


def test_recursion_limit_changed_while_suspended(check_script: Check) -> None:
    check_script(
        """
        import sys

        def depth_reached():
            try:
                return 1 + depth_reached()
            except RecursionError:
                return 1

        def work():
            first = getcurrent().parent.switch(depth_reached())
            return depth_reached()

        each = greenlet(work)
        first = each.switch()
        sys.setrecursionlimit(sys.getrecursionlimit() - 300)
        second = each.switch()
        print(first - second)
        """,
        prints="300\n",
    )


def test_deep_chain_of_greenlets(check_script: Check) -> None:
    check_script(
        """
        import sys

        sys.setrecursionlimit(10_000)

        def chain(depth):
            if depth == 0:
                return getcurrent().parent.switch("bottom")
            below = greenlet(chain)
            result = below.switch(depth - 1)
            back = getcurrent().parent.switch(result)
            return below.switch(back)

        top = greenlet(chain)
        print(top.switch(300), top.switch("up"), top.dead)
        """,
        prints="bottom up True\n",
    )
