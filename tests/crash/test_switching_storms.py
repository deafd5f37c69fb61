"""Many greenlets at once, and switches driven by threads, signals, event loops and dropping."""

import subprocess
import sys
from collections.abc import Callable

import pytest

Check = Callable[..., None]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("threshold", [1, 2, 7])
def test_collections_at_every_step(check_script: Check, module: str, threshold: int) -> None:
    if module == "greenlet" and sys.version_info >= (3, 15):
        pytest.skip("greenlet does not unwind what the collector finds there")
    check_script(
        f"""
        import gc, random

        shuffled = random.Random(5)
        freed = unwound = made = 0

        class Cycle:
            def __init__(self):
                self.me, self.owner = self, getcurrent()

            def __del__(self):
                global freed
                freed += 1
                [[n] for n in range(3)]

        def work(total=0):
            global unwound
            try:
                while True:
                    Cycle()
                    kept = [[], {{}}, lambda: total]
                    total += main.switch(total)
                    assert kept[2]() == total
            finally:
                unwound += 1

        main = getcurrent()
        alive, expected = [], []
        gc.set_threshold({threshold}, 2, 2)
        for step in range(1500):
            match shuffled.randrange(4):
                case 0:
                    alive.append(suspended(work))
                    made += 1
                    expected.append(0)
                case 1 if len(alive) > 20:
                    chosen = shuffled.randrange(len(alive))
                    del alive[chosen], expected[chosen]
                case _ if alive:
                    chosen = shuffled.randrange(len(alive))
                    expected[chosen] += step
                    assert alive[chosen].switch(step) == expected[chosen]
        rounds = [one.switch(0) for one in alive] == expected
        print(rounds, made > 300, unwound > 50, freed > 500)
        alive.clear()
        gc.disable()
        gc.collect()
        print(unwound == made, gc.collect(), gc.garbage)
        """,
        prints="True True True True\nTrue 0 []\n",
    )


def test_collector_called_in_greenlets_and_in_del(check_script: Check) -> None:
    check_script(
        """
        import gc

        class Cycle:
            def __init__(self, name):
                self.me, self.name = self, name

            def __del__(self):
                gc.collect()
                log.append(("in", self.name))
                main.switch()
                gc.collect()
                log.append(("out", self.name))

        def work(name):
            Cycle(name)
            gc.collect()
            return name

        gc.disable()
        main, log = getcurrent(), []
        each = [greenlet(work) for _ in range(3)]
        for name, one in enumerate(each):
            one.switch(name)
        # The collection that the first is in goes on; others do nothing meanwhile.
        print(log, [one.dead for one in each], gc.collect())
        print(each[0].switch(), log)
        """,
        prints="""\
[('in', 0)] [False, True, True] 0
0 [('in', 0), ('out', 0)]
""",
    )


def test_twenty_thousand_greenlets_in_shuffled_order(check_script: Check) -> None:
    check_script(
        """
        import random

        def work(number):
            total = number
            for _ in range(3):
                total += main.switch(total)
            return total

        main, shuffled = getcurrent(), random.Random(7)
        each = [greenlet(work) for _ in range(20_000)]
        order = list(range(20_000))
        sums = [each[n].switch(n) for n in order]
        for step in range(3):
            shuffled.shuffle(order)
            for n in order:
                sums[n] = each[n].switch(step * n)
        print(sums == [4 * n for n in range(20_000)], all(one.dead for one in each))
        """,
        prints="True True\n",
    )


def test_finally_switches_while_being_killed(check_script: Check) -> None:
    check_script(
        """
        import sys

        def help(name):
            while True:
                name = caller.switch(name * 10)

        def ask(name):
            global caller
            caller = getcurrent()
            return helper.switch(name)

        def work(name):
            try:
                getcurrent().parent.switch()
            except GreenletExit as problem:
                print(name, str(problem)[:7], ask(name))
                raise
            finally:
                if name < 3:
                    inner = greenlet(work)
                    inner.switch(name + 1)
                    del inner
                print(name, "end", ask(name))

        helper = greenlet(help)
        for _ in range(2):
            outer = greenlet(work)
            outer.switch(1)
            del outer
        try:
            raise LookupError
        except LookupError:
            outer = greenlet(work)
            outer.switch(3)
            outer = None
            print(repr(sys.exc_info()[1]), helper.dead, getcurrent().parent)
        """,
        prints="1 Killing 10\n2 Killing 20\n3 Killing 30\n3 end 30\n2 end 20\n1 end 10\n" * 2
        + "3 Killing 30\n3 end 30\nLookupError() False None\n",
    )


def test_greenlet_that_saves_itself_while_being_killed(check_script: Check) -> None:
    check_script(
        """
        def work(name):
            try:
                main.switch()
            finally:
                saved[name] = getcurrent()
                main.switch("does not get there")
                print("resumed", name)

        main, saved = getcurrent(), {}
        each = [greenlet(work) for _ in range(3)]
        for name, one in enumerate(each):
            one.switch(name)
        del one
        each.clear()
        print(list(saved), [bool(one) and one.parent is main for one in saved.values()])
        for name in (1, 2, 0):
            one = saved.pop(name)
            print(type(one.switch()).__name__, one.dead)
        """,
        prints="[2, 1, 0] [True, True, True]\n"
        + "".join(f"resumed {name}\nGreenletExit True\n" for name in (1, 2, 0)),
    )


def test_threads_switch_their_greenlets_at_the_same_time(check_script: Check) -> None:
    check_script(
        """
        import random, sys, threading

        sys.setswitchinterval(1e-5)
        results = {}

        def work(home, number):
            total = 0
            while True:
                assert threading.get_ident() == home and getcurrent().parent is mains[home]
                try:
                    total += mains[home].switch(total)
                    [].pop()
                except IndexError:
                    pass

        mains, together = {}, threading.Barrier(5)

        def body(number):
            home = threading.get_ident()
            mains[home] = getcurrent()
            together.wait(30)
            shuffled = random.Random(number)
            each = [greenlet(work) for _ in range(40)]
            sums = [one.switch(home, n) for n, one in enumerate(each)]
            for step in range(4000):
                n = shuffled.randrange(40)
                if step % 10 == 0:
                    each[n] = greenlet(work)
                    sums[n] = each[n].switch(home, n)
                sums[n] += step
                assert each[n].switch(step) == sums[n]
            results[number] = [one.switch(0) for one in each] == sums

        threads = [threading.Thread(target=body, args=(n,), daemon=True) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
        print(sorted(results.items()))
        """,
        prints=f"{[(n, True) for n in range(5)]}\n",
    )


# Only ours: greenlet frees the memory of these frames, and reading them crashes.
def test_frames_outlive_their_thread(run_python: Run) -> None:
    done = run_python(
        "-c",
        """
import gc, threading
from rgevent.greenlet import getcurrent, greenlet

def inner(depth):
    text = "deep" * depth
    if depth:
        return inner(depth - 1)
    getcurrent().parent.switch()

def work():
    inner(2)

def body():
    one = greenlet(work)
    one.switch()
    frames.append(one.gr_frame)
    kept.append(one)

frames, kept = [], []
thread = threading.Thread(target=body)
thread.start()
thread.join()
kept.clear()
for _ in range(3):
    other = greenlet(work)
    other.switch(), other.switch(), gc.collect()
late = frames.pop()
while late is not None:
    print(late.f_code.co_name, *late.f_locals.items())
    late = late.f_back
""",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "inner ('depth', 0) ('text', '')\n"
        "inner ('depth', 1) ('text', 'deep')\n"
        "inner ('depth', 2) ('text', 'deepdeep')\n"
        "work\n"
    )


RING = """
import signal, sys, time

SIGNALS_MIN = 200
limit = time.monotonic() + 30
ticks = dict.fromkeys(range(6), 0)
rounds = dict.fromkeys(range(6), 0)

def work(name):
    while sum(ticks.values()) < SIGNALS_MIN and time.monotonic() < limit:
        for _ in range(50):
            rounds[name] += 1
            ring[(name + 1) % len(ring)].switch(name + 1)
    return "done"

def outermost(frame):
    while frame.f_back is not None:
        frame = frame.f_back
    return frame

def begin(handler):
    for name in range(6):
        ring[name].name = name
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    print(ring[0].switch(0))
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(sum(ticks.values()) >= SIGNALS_MIN, sum(n > 0 for n in ticks.values()) > 1)
    print(max(rounds.values()) - min(rounds.values()) <= 1)

ring = [greenlet(work) for _ in range(6)]
"""


def test_signals_are_handled_in_the_current_greenlet(check_script: Check) -> None:
    check_script(
        RING
        + """
def handler(number, frame):
    current = getcurrent()
    if current in ring:
        assert outermost(frame).f_locals["name"] == current.name
        ticks[current.name] += 1

begin(handler)
""",
        prints="done\nTrue True\nTrue\n",
    )


def test_signal_handler_that_switches(check_script: Check) -> None:
    check_script(
        RING
        + """
asked = 0

def help(home):
    global asked
    while True:
        asked += 1
        home = home.switch(home)

def handler(number, frame):
    current = getcurrent()
    if current in ring:
        ticks[current.name] += 1
        assert helper.switch(current) is current

helper = greenlet(help)
begin(handler)
print(asked == sum(ticks.values()))
""",
        prints="done\nTrue True\nTrue\nTrue\n",
    )


def test_greenlets_suspended_in_a_signal_handler(check_script: Check) -> None:
    check_script(
        """
        import signal

        def handler(number, frame):
            answer = main.switch(frame.f_locals["name"])
            if answer == "raise":
                raise LookupError(frame.f_locals["name"])

        def work(name):
            signal.raise_signal(signal.SIGUSR1)
            return name * 2

        main = getcurrent()
        signal.signal(signal.SIGUSR1, handler)
        each = [greenlet(work) for _ in range(4)]
        print(*[one.switch(name) for one, name in zip(each, "abcd")])
        for one in (each[2], each[0], each[3]):
            print(one.switch(), one.dead)
        try:
            each[1].switch("raise")
        except LookupError as problem:
            print(repr(problem))
        """,
        prints="a b c d\ncc True\naa True\ndd True\nLookupError('b')\n",
    )


def test_event_loop_inside_a_greenlet(check_script: Check) -> None:
    check_script(
        """
        import asyncio, contextvars

        variable = contextvars.ContextVar("variable", default="unset")

        async def tick(n):
            variable.set(n)
            got = []
            for _ in range(3):
                got.append(main.switch(n))
                assert variable.get() == n and asyncio.current_task().get_name() == f"tick {n}"
                await asyncio.sleep(0)
            return got

        async def body():
            asyncio.get_running_loop().call_soon(main.switch, "callback")
            ticks = [asyncio.create_task(tick(n), name=f"tick {n}") for n in range(3)]
            return await asyncio.wait_for(asyncio.gather(*ticks), 30)

        def count():
            for n in range(100, 200):
                variable.set(n)
                main.switch(n)

        main = getcurrent()
        runner, counter = greenlet(lambda: asyncio.run(body())), greenlet(count)
        asked = [runner.switch()]
        while not runner.dead:
            assert variable.get() == "unset"
            asked.append(runner.switch(counter.switch()))
        print(asked[:-1])
        print(asked[-1])
        print(asyncio.run(asyncio.sleep(0, "again")))
        """,
        prints="""\
['callback', 0, 1, 2, 0, 1, 2, 0, 1, 2]
[[101, 104, 107], [102, 105, 108], [103, 106, 109]]
again
""",
    )


def test_awaiting_from_plain_functions_in_greenlets(check_script: Check) -> None:
    check_script(
        """
        import asyncio, contextvars

        variable = contextvars.ContextVar("variable")

        def wait(awaitable):
            return getcurrent().parent.switch(awaitable)

        async def spawned(function, *arguments):
            child = greenlet(function)
            child.gr_context = contextvars.copy_context()
            result = child.switch(*arguments)
            while not child.dead:
                try:
                    value = await result
                except Exception as problem:
                    result = child.throw(problem)
                else:
                    result = child.switch(value)
            return result

        async def later(n):
            await asyncio.sleep(0)
            if n % 3 == 0:
                raise LookupError(n)
            return n + variable.get()

        def plain(n):
            total = 0
            for k in range(n, n + 4):
                try:
                    total += wait(later(k))
                except LookupError as problem:
                    assert problem.args == (k,)
                    total += wait(spawned(lambda: wait(later(1))))
            return total

        async def one(n):
            variable.set(100 * n)
            return await spawned(plain, n)

        async def body():
            return await asyncio.wait_for(asyncio.gather(*(one(n) for n in range(20))), 30)

        expected = [
            sum((1 if k % 3 == 0 else k) + 100 * n for k in range(n, n + 4)) for n in range(20)
        ]
        print(asyncio.run(body()) == expected, expected[1:3])
        """,
        prints="True [408, 812]\n",
    )
