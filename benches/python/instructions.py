"""Count the instructions of hot operations, which do not depend on the load of the machine.

instructions.py [NAME ...] needs valgrind. Each operation runs under callgrind twice, with different
numbers of repetitions; the difference is what one more costs, here and in the interpreter.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FEW, MANY = 2_000, 12_000
SECONDS_MAX = 300
PREPARE = """
import sys
from itertools import repeat
from {module} import getcurrent, greenlet
back = getcurrent().switch
times = repeat(None, int(sys.argv[1]))
def nothing(): pass
def partner(*ignored):
    while True: back()
def answering(value):
    while True: value = back(value)
"""
OPERATIONS = {
    "loop": "for _ in times: pass",
    "switch": "there = greenlet(partner).switch\nfor _ in times: there()",
    "switch-value": "there = greenlet(answering).switch\nfor _ in times: there(1)",
    "create": "for _ in times: greenlet(nothing).switch()",
    "kill": "for _ in times: greenlet(back).switch()",
}
#: Of one operation, how many switches it makes.
SWITCHES = {"switch": 2, "switch-value": 2}
MODULES = ("greenlet", "rgevent.greenlet")


def instructions(code: str, repetitions: int) -> int:
    """All instructions of a process that runs the code."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind.out"
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
        done = subprocess.run(
            [*valgrind, sys.executable, "-c", code, str(repetitions)],
            env={"PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        raise SystemExit(f"callgrind failed:\n{done.stderr[-2000:]}")
    return int(found[1])


def per_operation(name: str, module: str) -> float:
    """Instructions of one more repetition, or of one switch."""
    code = PREPARE.format(module=module) + OPERATIONS[name]
    few, many = (instructions(code, repetitions) for repetitions in (FEW, MANY))
    return (many - few) / (MANY - FEW) / SWITCHES.get(name, 1)


def main() -> None:
    """Print a table, a row for each operation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(OPERATIONS)}")
    names = parser.parse_args().names or list(OPERATIONS)
    if unknown := set(names) - set(OPERATIONS):
        parser.error(f"no such operation: {', '.join(sorted(unknown))}")
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed")
    print(f"{'instructions':16}" + "".join(f"{module:>20}" for module in MODULES))
    for name in names:
        costs = [per_operation(name, module) for module in MODULES]
        print(f"{name:16}" + "".join(f"{cost:20.0f}" for cost in costs), flush=True)


if __name__ == "__main__":
    main()
