"""Standing in for the packages that rgevent replaces, for code that imports them by name."""

from __future__ import annotations

import sys
from types import ModuleType

from rgevent import greenlet as _greenlet_module

__all__ = ["install_as_greenlet"]


def install_as_greenlet() -> None:
    """Make `import greenlet` give rgevent.greenlet, to C extensions too.

    Call it before anything imports greenlet; a second call does nothing. Raises RuntimeError when
    the greenlet package is imported already: objects of both would meet.
    """
    from rgevent.compat import greenlet_helpers

    _install({"greenlet": _greenlet_module, "greenlet._greenlet": greenlet_helpers})
    # What `from greenlet import _greenlet` looks for. The module does not declare it, since it is
    # there only under the alias.
    _greenlet_module._greenlet = greenlet_helpers  # type: ignore[attr-defined]


def _install(modules: dict[str, ModuleType]) -> None:
    """Put modules under the names of others, all or none."""
    for name, ours in modules.items():
        present = sys.modules.get(name)
        if present is not None and present is not ours:
            where = getattr(present, "__file__", None) or "built in"
            message = (
                f"{name} is imported already ({where}): call rgevent.compat.install_as_greenlet() "
                "first thing in the program, before anything imports it"
            )
            raise RuntimeError(message)
    sys.modules.update(modules)
