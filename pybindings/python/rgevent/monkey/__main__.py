"""Run a program patched from its first line on: python -m rgevent.monkey [options] script args...

Options:
    --no-NAME    leave a part of patch_all out
    --NAME       patch only the parts named so
    --module     what follows is the name of a module, as with python -m
    --verbose    print what was patched
"""

from __future__ import annotations

import os
import runpy
import sys
from inspect import signature

from rgevent.monkey import patch_all, saved

_PARTS = frozenset(
    name for name, parameter in signature(patch_all).parameters.items() if parameter.default is True
)


def _fail(message: str) -> None:
    sys.stderr.write(f"rgevent.monkey: {message}\n{__doc__}")
    raise SystemExit(2)


def main(arguments: list[str]) -> None:
    """Patch, then run the program as __main__ with its own arguments."""
    only: set[str] = set()
    without: set[str] = set()
    module = verbose = False
    while arguments and arguments[0].startswith("-"):
        option = arguments.pop(0).removeprefix("--")
        if option == "module":
            module = True
        elif option == "verbose":
            verbose = True
        elif option in _PARTS:
            only.add(option)
        elif option.removeprefix("no-") in _PARTS:
            without.add(option.removeprefix("no-"))
        else:
            _fail(f"unknown option {option!r}")
    if not arguments:
        _fail("no program was named")
    patch_all(**{part: part in (only or _PARTS) and part not in without for part in _PARTS})
    if verbose:
        for name, items in saved.items():
            sys.stderr.write(f"patched {name}: {', '.join(items)}\n")
    program = arguments[0]
    sys.argv[:] = arguments
    if module:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
        return
    # As for python itself: modules beside the script come first.
    if os.path.isfile(program):
        sys.path[0] = os.path.dirname(os.path.abspath(program))
    runpy.run_path(program, run_name="__main__")


main(sys.argv[1:])
