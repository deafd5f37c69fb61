"""Tracers, profilers and what reads stacks see each greenlet as it is, across switches."""

import sys
from collections.abc import Callable

import pytest

Check = Callable[..., None]

TRACED = """
import sys

events = []

def inner(name):
    main.switch(name)
    return name

def work(name):
    inner(name)
    return name

def step():
    return 1

main = getcurrent()
"""


def test_tracer_sees_each_line_of_two_greenlets(check_script: Check) -> None:
    check_script(
        TRACED
        + """
def trace(frame, event, arg):
    if frame.f_code in (inner.__code__, work.__code__, step.__code__):
        line = frame.f_lineno - frame.f_code.co_firstlineno
        events.append((frame.f_locals.get("name", "main"), frame.f_code.co_name, event, line))
        return trace

a, b = greenlet(work), greenlet(work)
sys.settrace(trace)
a.switch("a"); step(); b.switch("b"); step(); a.switch(); b.switch()
kept = sys.gettrace() is trace
sys.settrace(None)
greenlet(step).switch()
for name in ("a", "b", "main"):
    print(*(f"{function}:{event}:{line}" for owner, function, event, line in events
            if owner == name))
print(kept, [owner for owner, function, event, line in events if event == "return"])
""",
        prints=2
        * (
            "work:call:0 work:line:1 inner:call:0 inner:line:1 inner:line:2 inner:return:2"
            " work:line:2 work:return:2\n"
        )
        + "step:call:0 step:line:1 step:return:1 step:call:0 step:line:1 step:return:1\n"
        + "True ['main', 'main', 'a', 'a', 'b', 'b']\n",
    )


def test_tracer_is_set_and_removed_by_greenlets(check_script: Check) -> None:
    check_script(
        TRACED
        + """
def trace(frame, event, arg):
    events.append((event, frame.f_code.co_name))

def setter(function):
    step()
    sys.settrace(function)
    main.switch()
    step()

before = suspended(lambda: (main.switch(), step(), main.switch(), step()))
first, second = greenlet(setter), greenlet(setter)
first.switch(trace)
step()
before.switch()
second.switch(None)
step()
before.switch()
first.switch()
print(events, sys.gettrace())
""",
        prints="[('call', 'step'), ('call', 'step'), ('call', 'setter'), ('call', 'step')] None\n",
    )


def test_switch_inside_a_tracer(check_script: Check) -> None:
    check_script(
        TRACED
        + """
def trace(frame, event, arg):
    if frame.f_code is step.__code__:
        events.append((event, main.switch(event)))
        return trace

one = greenlet(lambda: step() + step())
sys.settrace(trace)
print(one.switch(), step(), greenlet(step).switch())
print([one.switch(n) for n in range(6)])
# Nobody is inside the tracer any more, so it is called again.
step()
sys.settrace(None)
print(*(f"{event}:{answer}" for event, answer in events))
""",
        prints="""\
call 1 1
['line', 'return', 'call', 'line', 'return', 2]
call:0 line:1 return:2 call:3 line:4 return:5 call:call line:line return:return
""",
    )


def test_profiler_sees_switches_as_calls(check_script: Check) -> None:
    check_script(
        TRACED
        + """
def profile(frame, event, arg):
    name = arg.__name__ if event.startswith("c_") else frame.f_code.co_name
    events.append(f"{event}:{name}")

def fails(name):
    main.switch(name)
    raise LookupError(name)

one, two = greenlet(work), greenlet(fails)
sys.setprofile(profile)
one.switch(1)
two.switch(2)
one.switch()
try:
    two.switch()
except LookupError:
    step()
sys.setprofile(None)
print(*events, sep="\\n")
""",
        prints="""\
c_call:switch
call:work
call:inner
c_call:switch
c_return:switch
c_call:switch
call:fails
c_call:switch
c_return:switch
c_call:switch
c_return:switch
return:inner
return:work
c_return:switch
c_call:switch
c_return:switch
return:fails
c_exception:switch
call:step
return:step
c_call:setprofile
""",
    )


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is new in 3.12")
def test_monitoring_across_switches(check_script: Check) -> None:
    check_script(
        TRACED
        + """
WATCHED = "PY_START PY_RETURN PY_YIELD PY_RESUME PY_UNWIND RAISE PY_THROW".split()

def numbers(name):
    yield main.switch(name)

def fails(name):
    list(numbers(name))
    main.switch(name)

def listener(event):
    def listen(code, *rest):
        if code.co_name in ("inner", "work", "numbers", "fails"):
            events.append(f"{getcurrent().name}:{code.co_name}:{event}")
    return listen

tool = sys.monitoring.PROFILER_ID
sys.monitoring.use_tool_id(tool, "test")
for name in WATCHED:
    sys.monitoring.register_callback(tool, getattr(sys.monitoring.events, name), listener(name))
one, two = greenlet(work), greenlet(fails)
main.name, one.name, two.name = "main", "one", "two"
sys.monitoring.set_events(tool, sum(getattr(sys.monitoring.events, name) for name in WATCHED))
one.switch(1)
two.switch(2)
two.switch()
one.switch()
try:
    two.throw(LookupError)
except LookupError:
    pass
sys.monitoring.set_events(tool, 0)
greenlet(work).switch(1)
print(*events, sep="\\n")
""",
        prints="""\
one:work:PY_START
one:inner:PY_START
two:fails:PY_START
two:numbers:PY_START
two:numbers:PY_YIELD
two:numbers:PY_RESUME
two:numbers:PY_RETURN
one:inner:PY_RETURN
one:work:PY_RETURN
two:fails:RAISE
two:fails:PY_UNWIND
""",
    )


def test_profile_counts_functions_of_all_greenlets(check_script: Check) -> None:
    check_script(
        TRACED
        + """
import cProfile, pstats

def one(count):
    for _ in range(count):
        step()
        main.switch()

def other(count):
    for _ in range(count):
        inner(step())

def last():
    profile.disable()
    main.switch()

profile = cProfile.Profile()
a, b, c = greenlet(one), greenlet(other), greenlet(last)
profile.enable()
a.switch(5), b.switch(7)
for _ in range(5):
    a.switch(), b.switch()
b.switch(), b.switch()
c.switch()
c.switch()
print(a.dead, b.dead, c.dead)
rows = pstats.Stats(profile).stats
counts = {name: row[1] for (_, _, name), row in rows.items() if name in globals()}
print(sorted(counts.items()))
print([row[1] for (_, _, name), row in rows.items() if "'switch'" in name])
print(all(row[2] >= 0 and row[3] >= 0 for row in rows.values()))
""",
        # The main greenlet switches 15 times before profiling ends, the others 5 and 7 times.
        prints="""\
True True True
[('inner', 7), ('last', 1), ('one', 1), ('other', 1), ('step', 12)]
[27]
True
""",
    )


READERS = {
    "sys._getframe": "walk(sys._getframe(1))",
    "traceback.extract_stack": "[f.name for f in traceback.extract_stack()[-2::-1]]",
    "traceback.print_stack": "printed(lambda file: traceback.print_stack(file=file))[-4::-1]",
    "inspect.stack": "[f.function for f in inspect.stack()[1:]]",
    "sys._current_frames": "walk(sys._current_frames()[threading.get_ident()])[1:]",
    "faulthandler": "printed(lambda file: faulthandler.dump_traceback(file, False))[3:]",
}


@pytest.mark.parametrize("reader", READERS)
def test_readers_of_the_stack_see_one_greenlet(check_script: Check, reader: str) -> None:
    check_script(
        f"""
        import faulthandler, functools, inspect, re, sys, tempfile, threading, traceback

        def walk(frame):
            names = []
            while frame is not None:
                names.append(frame.f_code.co_name)
                frame = frame.f_back
            return names

        def printed(write):
            with tempfile.TemporaryFile("w+") as file:
                write(file)
                file.seek(0)
                return re.findall(r'File ".*, line \\d+,? in (\\S+)', file.read())

        def read():
            return {READERS[reader]}

        def first(value):
            print(*read())
            functools.reduce(lambda *_: second.switch(), [1, 2])
            print(*read())

        def work():
            print(*read())
            third.switch()
            print(*read())

        def again():
            return sorted([1], key=lambda _: (print(*read()), main.switch(), print(*read())))

        main = getcurrent()
        outer = greenlet(lambda: list(map(first, [1])))
        second, third = greenlet(work, outer), greenlet(again)
        outer.switch()
        print(*read())
        third.switch()
        second.switch()
        print(*read(), outer.dead, second.dead)
        """,
        prints="""\
first <lambda>
work
<lambda> again
<module>
<lambda> again
work
first <lambda>
<module> True True
""",
    )


def test_other_threads_see_the_current_greenlet(check_script: Check) -> None:
    check_script(
        """
        import faulthandler, re, sys, tempfile, threading

        def names():
            frame, seen = sys._current_frames()[thread.ident], []
            while frame is not None:
                seen.append(frame.f_code.co_name)
                frame = frame.f_back
            with tempfile.TemporaryFile("w+") as file:
                faulthandler.dump_traceback(file)
                file.seek(0)
                parts = file.read().split("\\n\\n")
            part = next(part for part in parts if f"{thread.ident:016x}" in part)
            dumped = re.findall(r'File ".*, line \\d+ in (\\S+)', part)
            # The thread may be on its way into the wait.
            seen, dumped = seen[seen.index("rest"):], dumped[dumped.index("rest"):]
            assert seen == dumped, (seen, dumped)
            return seen

        def rest():
            reached.set()
            proceed.wait(30)
            proceed.clear()

        def work(below):
            rest()
            if below:
                below[0].switch(below[1:])
            rest()

        def body():
            chain = [greenlet(work) for _ in range(3)]
            for above, below in zip(chain, chain[1:]):
                below.parent = above
            chain[0].run = lambda: list(map(work, [chain[1:]]))
            rest()
            chain[0].switch()
            rest()

        reached, proceed = threading.Event(), threading.Event()
        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        for _ in range(8):
            assert reached.wait(30)
            reached.clear()
            print(*names())
            proceed.set()
        thread.join(30)
        print(thread.is_alive())
        """,
        prints="rest body run _bootstrap_inner _bootstrap\n"
        + "rest work <lambda>\nrest work\nrest work\n"
        + "rest work\nrest work\nrest work <lambda>\n"
        + "rest body run _bootstrap_inner _bootstrap\nFalse\n",
    )


ENDS = {
    "returned": "one.switch()",
    "raised": "attempt(lambda: one.throw(LookupError))",
    "killed": "one.throw()",
    "dropped": "one = None",
}


@pytest.mark.parametrize("end", ENDS)
def test_frames_outlive_their_greenlet(check_script: Check, end: str) -> None:
    check_script(
        f"""
        import gc, sys

        def attempt(call):
            try:
                call()
            except LookupError:
                pass

        def inner(depth):
            text = "deep" * depth
            if depth:
                return inner(depth - 1)
            early.append(sys._getframe())
            main.switch()
            text = "later"
            return text

        def work():
            kept = [main]
            early.append(sys._getframe())
            try:
                return inner(2)
            finally:
                kept.append("ended")

        main, early = getcurrent(), []
        one = suspended(work)
        late = one.gr_frame
        {ENDS[end]}
        for _ in range(3):
            suspended(work).switch(), gc.collect()
        outer, innermost = early[:2]
        print(late is innermost, outer.f_back, outer.f_locals["kept"][1:])
        while late is not None:
            print(late.f_code.co_name, late.f_locals.get("text"), late.f_locals.get("depth"))
            late = late.f_back
        innermost.clear(), outer.clear()
        print(outer.f_locals, innermost.f_back.f_locals)
        """,
        prints=f"""\
True None ['ended']
inner {"later" if end == "returned" else ""} 0
inner deep 1
inner deepdeep 2
work None None
{{}} {{'depth': 1, 'text': 'deep'}}
""",
    )


def test_traceback_outlives_its_greenlets(check_script: Check) -> None:
    check_script(
        """
        import gc, traceback, weakref

        def down(depth, below=None):
            local = [depth]
            if depth:
                return down(depth - 1, below)
            if below is not None:
                return below.switch(2)
            raise LookupError(local)

        def fails():
            each = [greenlet(down) for _ in range(2)]
            gone.extend(map(weakref.ref, each))
            each[1].parent = each[0]
            try:
                each[0].switch(1, each[1])
            except LookupError as problem:
                return problem

        gone = []
        problem = fails()
        gc.collect()
        step = problem.__traceback__
        while step is not None:
            frame = step.tb_frame
            back = frame.f_back and frame.f_back.f_code.co_name
            print(frame.f_code.co_name, frame.f_locals.get("local"), back)
            step = step.tb_next
        print(len(traceback.format_tb(problem.__traceback__)))
        del problem, frame, step
        gc.collect()
        print([ref() for ref in gone])
        """,
        prints="""\
fails None <module>
down [1] None
down [0] down
down [2] None
down [1] down
down [0] down
6
[None, None]
""",
    )
