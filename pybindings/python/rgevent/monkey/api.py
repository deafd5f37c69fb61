"""Replacing attributes of modules, and remembering what they were."""

from __future__ import annotations

import importlib
import sys
import warnings
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: saved[module name][attribute] is what was there first.
saved: dict[str, dict[str, Any]] = {}

_MISSING = object()


class MonkeyPatchWarning(RuntimeWarning):
    """Something cannot be made cooperative any more; the text says what, and what to do."""


def warn(message: str) -> None:
    """Issue a MonkeyPatchWarning for the line, outside this package, that asked for the patch."""
    level = 1
    frame = sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] == "rgevent":
        frame = frame.f_back
        level += 1
    warnings.warn(message, MonkeyPatchWarning, stacklevel=level)


def patch_item(module: ModuleType, name: str, value: object) -> None:
    """Set module.name, and remember what it was."""
    before = getattr(module, name, _MISSING)
    if before is value:
        return
    if before is not _MISSING:
        saved.setdefault(module.__name__, {}).setdefault(name, before)
    setattr(module, name, value)


def patch_attribute(owner: type, name: str, value: object) -> None:
    """Set an attribute of a class, which counts as patched.

    What it was is saved as "Class.name".
    """
    known = saved.setdefault(owner.__module__, {})
    known.setdefault(owner.__name__, owner)
    known.setdefault(f"{owner.__name__}.{name}", vars(owner).get(name))
    setattr(owner, name, value)


def remove_item(module: ModuleType, name: str) -> None:
    """Delete module.name, if it is there, and remember what it was."""
    before = getattr(module, name, _MISSING)
    if before is not _MISSING:
        saved.setdefault(module.__name__, {}).setdefault(name, before)
        delattr(module, name)


def patch_module(target: ModuleType, source: ModuleType, items: list[str] | None = None) -> bool:
    """Copy names from our module to the standard one: `items`, or what it says it implements."""
    names: list[str] = source.__implements__ if items is None else items
    for name in names:
        patch_item(target, name, getattr(source, name))
    return True


def get_original(module_name: str, names: str | list[str]) -> Any:
    """What an attribute was before patching: one object for a name, a list for a list."""
    if isinstance(names, str):
        return _original(module_name, names)
    return [_original(module_name, name) for name in names]


def _original(module_name: str, name: str) -> Any:
    found = saved.get(module_name, {}).get(name, _MISSING)
    if found is not _MISSING:
        return found
    return getattr(importlib.import_module(module_name), name)


def is_module_patched(module_name: str) -> bool:
    """Whether anything of a module was replaced."""
    return module_name in saved


def is_object_patched(module_name: str, name: str) -> bool:
    """Whether an attribute of a module was replaced."""
    return name in saved.get(module_name, {})


def is_anything_patched() -> bool:
    """Whether anything at all was replaced."""
    return bool(saved)
