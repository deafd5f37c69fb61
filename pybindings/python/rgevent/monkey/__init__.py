"""Make the standard library cooperative.

    import rgevent.monkey; rgevent.monkey.patch_all()

Call it first of all, before other modules take their own references to what is replaced. What is
not cooperative yet (os, subprocess, signal) is left alone; is_module_patched tells.
"""

from rgevent.monkey.api import (
    MonkeyPatchWarning,
    get_original,
    is_anything_patched,
    is_module_patched,
    is_object_patched,
    patch_item,
    patch_module,
    remove_item,
    saved,
)
from rgevent.monkey.parts import (
    patch_all,
    patch_dns,
    patch_queue,
    patch_select,
    patch_selectors,
    patch_socket,
    patch_ssl,
    patch_time,
)
from rgevent.monkey.threads import patch_thread

__all__ = [
    "MonkeyPatchWarning",
    "get_original",
    "is_anything_patched",
    "is_module_patched",
    "is_object_patched",
    "patch_all",
    "patch_dns",
    "patch_item",
    "patch_module",
    "patch_queue",
    "patch_select",
    "patch_selectors",
    "patch_socket",
    "patch_ssl",
    "patch_thread",
    "patch_time",
    "remove_item",
    "saved",
]
