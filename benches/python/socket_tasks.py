"""Sockets: a round trip inside one process, and an echo server under load from another."""

import os
import subprocess
import sys
import time
from itertools import repeat
from pathlib import Path
from typing import Any

from measure import Side, Task, cpu_ns

CONNECTIONS = 100
MESSAGE_BYTES = 64
LOAD_SECONDS_MAX = 60
LOAD_PROGRAM = Path(__file__).with_name("echo_load.py")


def round_trip(side: Side, count: int) -> float:
    """Two greenlets send one byte back and forth over a socket pair."""
    left, right = side.part("socket").socketpair()

    def answers() -> None:
        while data := right.recv(100):
            right.sendall(data)

    def run() -> None:
        partner = side.hub.spawn(answers)
        for _ in repeat(None, count):
            left.sendall(b"x")
            left.recv(100)
        left.close()
        partner.join()
        right.close()

    return cpu_ns(count, run)


def echo(side: Side, count: int) -> float:
    """Echo messages on a hundred connections; the CPU time is the server's alone, per message."""
    listener = side.part("socket").socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(CONNECTIONS)
    rounds = max(count // CONNECTIONS, 1)
    port = listener.getsockname()[1]
    arguments = map(str, (port, CONNECTIONS, rounds, MESSAGE_BYTES))

    def answers(connection: Any) -> None:
        while data := connection.recv(4096):
            connection.sendall(data)
        connection.close()

    go, start = os.pipe()
    load = subprocess.Popen([sys.executable, LOAD_PROGRAM, *arguments], stdin=go)
    os.close(go)
    try:
        serving = [side.hub.spawn(answers, listener.accept()[0]) for _ in range(CONNECTIONS)]
        before = time.process_time_ns()
        os.close(start)
        side.hub.joinall(serving)
        spent = time.process_time_ns() - before
        if status := load.wait(LOAD_SECONDS_MAX):
            raise RuntimeError(f"the load ended with status {status}")
    finally:
        load.kill()
        listener.close()
    return spent / (rounds * CONNECTIONS)


TASKS = (
    Task("socketpair", "socketpair, round trip", "ns", "gevent", 20_000, round_trip),
    Task("echo", "echo 64 B, 100 connections", "ns", "gevent", 50_000, echo),
)
