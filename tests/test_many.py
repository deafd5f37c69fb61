"""A million greenlets at once, which no copying of stacks has to be done for. Slow."""

from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parent.parent / "benches" / "python" / "suspended.py"
MILLION = 1_000_000
#: What they take, in bytes: memory and page tables (3.11, where stacks are largest), with room.
NEEDED = MILLION * 9 * 1024


def available() -> int:
    """Bytes of memory that could be had."""
    with open("/proc/meminfo") as info:
        fields = dict(line.split(":", 1) for line in info)
    return int(fields["MemAvailable"].split()[0]) * 1024


@pytest.mark.slow
@pytest.mark.skipif(available() < NEEDED, reason="needs 9 GB of free memory")
def test_a_million_suspended_greenlets_are_alive_and_well(run_python):
    done = run_python(PROGRAM, str(MILLION), seconds=280, env={"PYTHONPATH": str(PROGRAM.parent)})
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"{MILLION} suspended greenlets of rgevent.greenlet, all alive" in done.stdout
    assert "all ended" in done.stdout
