"""Run one unittest module and print a JSON object: the outcome of each of its tests.

unittest_outcomes.py MODULE

An outcome is [word, text]; the word is ok, skipped, failed or error. Output of the tests goes to
standard error.
"""

import contextlib
import json
import sys
import unittest
from typing import Any


class Outcomes(unittest.TestResult):
    """Keeps a word for every test."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[str, tuple[str, str]] = {}

    def _keep(self, test: unittest.TestCase, word: str, text: str = "") -> None:
        self.of[test.id().removeprefix(MODULE + ".")] = (word, text)

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        sys.stderr.write(f"{test.id()}\n")
        sys.stderr.flush()

    def addSuccess(self, test: unittest.TestCase) -> None:
        self._keep(test, "ok")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self._keep(test, "skipped", reason)

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._keep(test, "ok", "expected failure")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._keep(test, "failed", "unexpected success")

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._keep(test, "failed", self._exc_info_to_string(err, test))

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._keep(test, "error", self._exc_info_to_string(err, test))


MODULE = sys.argv[1]

if __name__ == "__main__":
    outcomes = Outcomes()
    with contextlib.redirect_stdout(sys.stderr):
        unittest.defaultTestLoader.loadTestsFromName(MODULE).run(outcomes)
    print(json.dumps(outcomes.of))
