"""Compare rgevent with greenlet and gevent: run.py [--quick] [--markdown] [NAME ...].

Every task runs on both sides in turn, several times, each time in a process of its own; the median
counts. Times are CPU time per operation, sizes are per greenlet. The ratio is the peer's cost over
ours: above one we are better.
"""

import argparse
import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path

from measure import Task
from task import TASKS

PROGRAM = Path(__file__).with_name("task.py")
PROCESSES = 5
QUICK_PROCESSES = 2
SECONDS_MAX = 300
SIDES = ("peer", "ours")
HEADINGS = ("task", "peer", "peer's cost", "rgevent", "ratio")
WIDTHS = (34, 9, 12, 12, 8)


def measured(task: Task, side: str, quick: bool) -> list[float]:
    """Run one task on one side in a new process; raises RuntimeError with its complaint."""
    command = [sys.executable, str(PROGRAM), task.name, "--side", side]
    done = subprocess.run(
        [*command, "--quick"] if quick else command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    if done.returncode:
        complaint = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise RuntimeError(f"{task.name}, {side}: {complaint[-1]}")
    return json.loads(done.stdout)


def compared(task: Task, quick: bool) -> tuple[dict[str, float], list[str]]:
    """The medians of the sides that work, measured in turn, and the complaints of the others."""
    values: dict[str, list[float]] = {side: [] for side in SIDES}
    complaints = {}
    for _ in range(QUICK_PROCESSES if quick else PROCESSES):
        for side in SIDES:
            if side in complaints:
                continue
            try:
                values[side].append(statistics.median(measured(task, side, quick)))
            except (RuntimeError, subprocess.TimeoutExpired) as problem:
                complaints[side] = str(problem)
    medians = {side: statistics.median(values[side]) for side in SIDES if side not in complaints}
    return medians, list(complaints.values())


def shown(value: float, unit: str) -> str:
    """A cost with three digits and a unit people read easily."""
    big, factor = ("KiB", 1024) if unit == "bytes" else ("µs", 1000)
    if value >= factor:
        return f"{value / factor:.3g} {big}" if value < 1000 * factor else f"{value:.0f} {unit}"
    return f"{value:.3g} {unit}"


def line(cells: tuple[str, ...], markdown: bool) -> str:
    """One row of the table."""
    if markdown:
        return f"| {' | '.join(cells)} |"
    first, *rest = zip(cells, WIDTHS, strict=True)
    return f"{first[0]:{first[1]}}" + "".join(f" {cell:>{width}}" for cell, width in rest)


def version(package: str) -> str:
    """The installed version of a package, or that it is missing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def main() -> None:
    """Parse the command line, measure task by task, print each row as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TASKS)}")
    parser.add_argument("--quick", action="store_true", help="less exact, in a tenth of the time")
    parser.add_argument("--markdown", action="store_true", help="print a table for a README")
    options = parser.parse_args()
    if unknown := set(options.names) - set(TASKS):
        parser.error(f"no such task: {', '.join(sorted(unknown))}")
    versions = ", ".join(f"{name} {version(name)}" for name in ("greenlet", "gevent"))
    print(f"CPython {platform.python_version()}, {versions}, {platform.machine()}\n")
    print(line(HEADINGS, options.markdown))
    if options.markdown:
        print("| --- | --- | --: | --: | --: |")
    failures = []
    usual = [name for name, task in TASKS.items() if not task.slow]
    for task in (TASKS[name] for name in options.names or usual):
        medians, complaints = compared(task, options.quick)
        failures += complaints
        costs = [shown(medians[side], task.unit) if side in medians else "failed" for side in SIDES]
        known = not complaints and medians["ours"] > 0
        ratio = f"{medians['peer'] / medians['ours']:.3g}x" if known else "-"
        print(line((task.title, task.peer, *costs, ratio), options.markdown), flush=True)
    if failures:
        sys.exit("\n" + "\n".join(failures))


if __name__ == "__main__":
    main()
