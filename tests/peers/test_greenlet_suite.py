"""greenlet's own tests, from its wheel, run on rgevent under the name of greenlet.

Each module runs in a process of its own, in which `import greenlet` means rgevent.greenlet (see
alias/sitecustomize.py). What cannot pass is listed with its reason, and has to fail.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SECONDS_MAX = 280
INJECTED = "makes greenlet's own switch fail by a switch in its C++ code"
NO_LEAK = (
    "expects to find a leak: greenlet abandons what a thread leaves suspended, rgevent unwinds it"
)
#: Tests that fail here, and why that is right.
EXPECTED_FAILURES = {
    "test_greenlet.TestBrokenGreenlets.test_failed_to_initialstub": INJECTED,
    "test_greenlet.TestBrokenGreenlets.test_failed_to_slp_switch_into_running": INJECTED,
    "test_greenlet.TestBrokenGreenlets.test_failed_to_switch_into_running": INJECTED,
    "test_greenlet.TestGreenlet.test_throw_to_dead_thread_doesnt_crash": (
        "looks at the frame of a greenlet whose thread has ended: it went with the thread's stacks"
    ),
    "test_leaks.TestLeaks.test_issue251_issue252_explicit_reference_not_collectable": NO_LEAK,
    "test_leaks.TestLeaks.test_issue251_issue252_need_to_collect_in_background": NO_LEAK,
    "test_leaks.TestLeaks.test_issue251_issue252_need_to_collect_in_background_cleanup_disabled": (
        NO_LEAK
    ),
}


def suite() -> list[str]:
    """Names of the modules, without importing anything of the peer."""
    spec = importlib.util.find_spec("greenlet")
    assert spec is not None, "the greenlet package is not installed"
    folder = Path(spec.origin or "").parent / "tests"
    return sorted(path.stem for path in folder.glob("test_*.py"))


def outcomes_of(module: str) -> dict[str, tuple[str, str]]:
    """Run one module; its tests and what came of them."""
    path = os.pathsep.join(filter(None, [str(HERE / "alias"), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(HERE / "unittest_outcomes.py"), f"greenlet.tests.{module}"],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stderr[-4000:]}"
    answer = json.loads(done.stdout)
    return {f"{module}.{name}": (word, text) for name, (word, text) in answer.items()}


@pytest.mark.parametrize("module", suite())
def test_module(module: str) -> None:
    outcomes = outcomes_of(module)
    wrong = []
    for name, (word, text) in outcomes.items():
        failed = word in ("failed", "error")
        if failed and name not in EXPECTED_FAILURES:
            wrong.append(f"{name}: {word}\n{text}")
        elif word == "ok" and name in EXPECTED_FAILURES:
            wrong.append(f"{name} passes, but is expected to fail: {EXPECTED_FAILURES[name]}")
    counts = {
        word: sum(each[0] == word for each in outcomes.values()) for word in ("ok", "skipped")
    }
    print(f"{module}: {len(outcomes)} tests, {counts['ok']} ok, {counts['skipped']} skipped")
    assert not wrong, "\n\n".join(wrong)


def test_list_of_expected_failures_names_tests_that_exist() -> None:
    modules = set(suite())
    assert {name.split(".")[0] for name in EXPECTED_FAILURES} <= modules
    assert len(modules) >= 15
