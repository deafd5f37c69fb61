"""Scripts that run in a process of their own, where a crash is only a failed test."""

import re
import subprocess
import textwrap
from collections.abc import Callable

import pytest

PROLOGUE = """\
from {module} import GreenletExit, error, getcurrent, greenlet

def suspended(run=None):
    "Start a greenlet that waits in its first switch back."
    made = greenlet(run or (lambda: getcurrent().parent.switch()))
    made.switch()
    return made
"""
SECONDS_MAX = 60.0


@pytest.fixture(params=["rgevent.greenlet", "greenlet"], ids=["ours", "peer"])
def module(request: pytest.FixtureRequest) -> str:
    """The module under test, by name."""
    return str(request.param)


@pytest.fixture
def check_script(
    module: str, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> Callable[..., None]:
    """``check_script(source, prints="...", status=0, complains="")`` runs a script and checks it.

    The script finds ``greenlet``, ``getcurrent``, ``error``, ``GreenletExit`` and ``suspended``.
    `prints` is its whole standard output. `complains` is a pattern for its standard error, which
    has to be empty otherwise. `status` is negative for a signal. `start` comes before all imports.
    """

    def check(
        source: str, *, prints: str, status: int = 0, complains: str = "", start: str = ""
    ) -> None:
        parts = (start, PROLOGUE.format(module=module), source)
        text = "\n".join(textwrap.dedent(part) for part in parts)
        done = run_python("-c", text, seconds=SECONDS_MAX)
        report = f"status {done.returncode}\n{done.stdout}\n{done.stderr[-4000:]}"
        assert done.returncode == status, report
        assert done.stdout == prints, report
        if complains:
            assert re.search(complains, done.stderr), report
        else:
            assert done.stderr == "", report

    return check
