"""Greenlets on a hub: spawning, sleeping, and the primitives they wait on."""

import random
from collections.abc import Callable
from itertools import repeat
from typing import Any

from measure import Side, Task, cpu_ns, memory

TIMER_SECONDS_MAX = 0.5
FAN_OUT = 1000


def spawn_join(batch: int) -> Callable[[Side, int], float]:
    """Spawn greenlets that do nothing and join them, `batch` at a time."""

    def measure(side: Side, count: int) -> float:
        spawn, joinall = side.hub.spawn, side.hub.joinall
        batches = max(count // batch, 1)
        size = min(batch, count)

        def nothing() -> None:
            pass

        def run() -> None:
            for _ in range(batches):
                joinall([spawn(nothing) for _ in range(size)])

        return cpu_ns(batches * size, run)

    return measure


def together(side: Side, number: int, function: Callable[..., Any], *args: Any) -> None:
    """Run a function in that many greenlets and wait for all."""
    side.hub.joinall([side.hub.spawn(function, *args) for _ in range(number)])


def sleep_zero(greenlets: int) -> Callable[[Side, int], float]:
    """Give way to the others with sleep(0), so many greenlets taking turns; all have begun."""

    def measure(side: Side, count: int) -> float:
        sleep = side.hub.sleep
        turns = max(count // greenlets, 10)

        def yields() -> None:
            sleep(0)
            for _ in repeat(None, turns):
                sleep(0)

        begun = [side.hub.spawn(yields) for _ in range(greenlets)]
        sleep(0)
        return cpu_ns(turns * greenlets, side.hub.joinall, begun)

    return measure


def timers(side: Side, count: int) -> float:
    """Spawn greenlets that each sleep for a random time, and wait for all."""
    source = random.Random(1)
    times = [source.random() * TIMER_SECONDS_MAX for _ in range(count)]
    spawn, sleep, joinall = side.hub.spawn, side.hub.sleep, side.hub.joinall

    def run() -> None:
        joinall([spawn(sleep, seconds) for seconds in times])

    return cpu_ns(count, run)


def event_fan_out(side: Side, count: int) -> float:
    """Set an event that a thousand greenlets wait for, per wakeup."""
    event_type, sleep = side.part("event").Event, side.hub.sleep
    rounds = max(count // FAN_OUT, 2)
    events = [event_type() for _ in range(rounds)]

    def waits() -> None:
        for event in events:
            event.wait()

    def run() -> None:
        waiting = [side.hub.spawn(waits) for _ in range(FAN_OUT)]
        for event in events:
            sleep(0)
            event.set()
        side.hub.joinall(waiting)

    return cpu_ns(rounds * FAN_OUT, run)


def result(side: Side, count: int) -> float:
    """Make a result, set it, and get it in another greenlet."""
    result_type, spawn = side.part("event").AsyncResult, side.hub.spawn

    def sets(results: list[Any]) -> None:
        for each in results:
            each.set(1)
            side.hub.sleep(0)

    def run() -> None:
        results = [result_type() for _ in range(count)]
        setter = spawn(sets, results)
        for each in results:
            each.get()
        setter.join()

    return cpu_ns(count, run)


def queue_unbounded(side: Side, count: int) -> float:
    """Put an item and get it, never waiting."""
    queue = side.part("queue").Queue()

    def run() -> None:
        put, get = queue.put, queue.get
        for _ in repeat(None, count):
            put(1)
            get()

    return cpu_ns(count, together, side, 1, run)


def queue_of_one(side: Side, count: int) -> float:
    """Hand an item over through a queue with room for one."""
    queue = side.part("queue").Queue(1)

    def puts() -> None:
        for item in range(count):
            queue.put(item)

    def run() -> None:
        producer = side.hub.spawn(puts)
        for _ in repeat(None, count):
            queue.get()
        producer.join()

    return cpu_ns(count, run)


def semaphore_free(side: Side, count: int) -> float:
    """Acquire and release, never waiting."""
    semaphore = side.part("lock").Semaphore(1)

    def run() -> None:
        acquire, release = semaphore.acquire, semaphore.release
        for _ in repeat(None, count):
            acquire()
            release()

    return cpu_ns(count, together, side, 1, run)


def semaphore_contended(side: Side, count: int) -> float:
    """Two greenlets wake each other: a release, and an acquire that waits."""
    semaphore_type = side.part("lock").Semaphore
    one, two = semaphore_type(0), semaphore_type(0)

    def plays(mine: Any, other: Any) -> None:
        for _ in repeat(None, count // 2):
            other.release()
            mine.acquire()

    def run() -> None:
        side.hub.joinall([side.hub.spawn(plays, one, two), side.hub.spawn(plays, two, one)])

    return cpu_ns(count, run)


def timeout(side: Side, count: int) -> float:
    """Enter and leave a timeout that does not expire."""
    timeout_type = side.hub.Timeout

    def run() -> None:
        for _ in repeat(None, count):
            with timeout_type(10):
                pass

    return cpu_ns(count, together, side, 1, run)


def per_spawned(side: Side, count: int) -> float:
    """What one spawned greenlet that waits for an event adds to resident memory."""
    event = side.part("event").Event()
    side.hub.spawn(event.wait)
    side.hub.sleep(0)
    before = memory()[0]
    kept = [side.hub.spawn(event.wait) for _ in range(count)]
    side.hub.sleep(0)
    if not all(kept):
        raise RuntimeError("some have not started")
    return (memory()[0] - before) / count


TASKS = (
    Task("spawn-1k", "spawn + join, batches of 1k", "ns", "gevent", 50_000, spawn_join(1000)),
    Task(
        "spawn-100k",
        "spawn + join, 100k at once",
        "ns",
        "gevent",
        100_000,
        spawn_join(100_000),
        fixed=True,
    ),
    Task(
        "rss-spawned",
        "RSS per waiting spawned, 100k",
        "bytes",
        "gevent",
        100_000,
        per_spawned,
        fixed=True,
    ),
    Task("sleep-2", "sleep(0), 2 greenlets", "ns", "gevent", 100_000, sleep_zero(2)),
    Task("sleep-10k", "sleep(0), 10k greenlets", "ns", "gevent", 300_000, sleep_zero(10_000)),
    Task(
        "timers-10k", "spawn + sleep + join, 10k timers", "ns", "gevent", 10_000, timers, fixed=True
    ),
    Task(
        "timers-100k",
        "spawn + sleep + join, 100k timers",
        "ns",
        "gevent",
        100_000,
        timers,
        fixed=True,
    ),
    Task("event", "Event, 1000 waiters, per wakeup", "ns", "gevent", 50_000, event_fan_out),
    Task("result", "AsyncResult, set + get", "ns", "gevent", 50_000, result),
    Task("queue", "Queue, put + get", "ns", "gevent", 200_000, queue_unbounded),
    Task("queue-1", "Queue of size 1, hand over", "ns", "gevent", 50_000, queue_of_one),
    Task("semaphore", "Semaphore, free", "ns", "gevent", 200_000, semaphore_free),
    Task("semaphore-wait", "Semaphore, contended", "ns", "gevent", 50_000, semaphore_contended),
    Task("timeout", "Timeout as a context", "ns", "gevent", 50_000, timeout),
)
