"""Random programs behave the same on `greenlet` and on `rgevent.greenlet`."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("random_steps.py")
PEER = "greenlet"
OURS = "rgevent.greenlet"
SEEDS = range(1, 6)
STEPS = 20_000
SLOW_SEEDS = range(101, 111)
SLOW_STEPS = 100_000
SECONDS_MAX = 110
LINES_BEFORE = 12
LINES_AFTER = 6


def trace_of(
    module: str, seed: int, steps: int, folder: Path, *options: str
) -> tuple[int, Path, str]:
    """Run the program on one module; give its exit status, its trace and its error output."""
    trace = folder / f"{module}.trace"
    command = [sys.executable, str(PROGRAM), f"--module={module}", f"--seed={seed}", *options]
    with trace.open("w") as out:
        done = subprocess.run(
            [*command, f"--steps={steps}"],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    return done.returncode, trace, done.stderr


def first_difference(left: Path, right: Path) -> str | None:
    """Show where two traces part, with what led there; None when they are equal."""
    before: list[str] = []
    with left.open() as left_lines, right.open() as right_lines:
        pairs = itertools.zip_longest(left_lines, right_lines, fillvalue="(nothing)\n")
        for number, (a, b) in enumerate(pairs, 1):
            if a == b:
                before = [*before[1 - LINES_BEFORE :], f"    {a}"]
                continue
            rest = list(itertools.islice(pairs, LINES_AFTER))
            lines = [f"line {number}\n", *before]
            lines += [f"  < {line}" for line in (a, *(pair[0] for pair in rest))]
            lines += [f"  > {line}" for line in (b, *(pair[1] for pair in rest))]
            return "".join(lines)
    return None


def compare(seed: int, steps: int, folder: Path) -> None:
    """Run both sides and fail with the first differing lines."""
    status, expected, errors = trace_of(PEER, seed, steps, folder)
    assert status == 0, f"{PEER} failed, seed {seed}: status {status}\n{errors}"
    assert expected.stat().st_size > steps, "the program did next to nothing"
    status, got, errors = trace_of(OURS, seed, steps, folder)
    difference = first_difference(expected, got)
    assert difference is None, (
        f"seed {seed}, {steps} steps, < {PEER}, > {OURS} (status {status}): {difference}\n{errors}"
    )
    assert status == 0, f"{OURS} failed, seed {seed}: status {status}\n{errors}"


@pytest.mark.parametrize("seed", SEEDS)
def test_random_programs_leave_equal_traces(seed: int, tmp_path: Path) -> None:
    compare(seed, STEPS, tmp_path)


@pytest.mark.skipif(sys.version_info < (3, 15), reason="the comparison itself collects there")
@pytest.mark.parametrize("seed", SEEDS)
def test_collector_ends_greenlets_that_only_their_frames_knew(seed: int, tmp_path: Path) -> None:
    # The peer crashes in some of these.
    status, trace, errors = trace_of(OURS, seed, STEPS, tmp_path, "--collect")
    assert status == 0, f"seed {seed}: status {status}\n{errors}"
    assert trace.read_text().endswith("finished\n")


@pytest.mark.slow
@pytest.mark.parametrize("seed", SLOW_SEEDS)
def test_long_random_programs_leave_equal_traces(seed: int, tmp_path: Path) -> None:
    compare(seed, SLOW_STEPS, tmp_path)


def test_a_difference_is_found_and_shown(tmp_path: Path) -> None:
    status, first, _ = trace_of(PEER, 1, 500, tmp_path)
    assert status == 0
    second = tmp_path / "second"
    second.write_text(first.read_text().replace("G1", "G2", 1))
    shown = first_difference(first, second)
    assert shown is not None
    assert "  < " in shown
    assert "  > " in shown
    assert first_difference(first, first) is None
