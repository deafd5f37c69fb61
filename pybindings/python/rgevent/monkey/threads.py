"""Patching threads: the names, and the locks and threads that exist already."""

from __future__ import annotations

import sys
from types import ModuleType

from rgevent.monkey.api import is_object_patched, patch_item, warn
from rgevent.monkey.tables import THREAD_NAMES, THREADING_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["patch_thread"]


def patch_thread(
    threading: bool = True,
    _threading_local: bool = True,
    Event: bool = True,  # noqa: N803
    logging: bool = True,
) -> None:
    """Make threads greenlets, and locks and thread-local data those of greenlets.

    threading, logging: whether to patch these modules beside _thread. threading.Event needs no
    replacement, being made of locks. Issues MonkeyPatchWarning when threads run already.
    """
    if is_object_patched("_thread", "start_new_thread"):
        return
    import _thread
    import threading as stdlib

    from rgevent import threading as ours

    _warn_of_running_threads(stdlib)
    _patch_names(_thread, THREAD_NAMES, ours)
    if threading:
        _patch_names(stdlib, THREADING_NAMES, ours)
        _renew_threading(stdlib, ours)
    if _threading_local and (pure := sys.modules.get("_threading_local")) is not None:
        patch_item(pure, "local", ours.local)
    if logging and (module := sys.modules.get("logging")) is not None:
        _renew_logging(module, ours)
    if (functools := sys.modules.get("functools")) is not None and hasattr(functools, "RLock"):
        patch_item(functools, "RLock", ours.RLock)
    if (futures := sys.modules.get("concurrent.futures.thread")) is not None:
        patch_item(futures, "_global_shutdown_lock", ours.Lock())
    _renew_import_locks(ours)


def _patch_names(target: ModuleType, names: dict[str, str], source: ModuleType) -> None:
    for name, our_name in names.items():
        if getattr(target, name, None) is not None:
            patch_item(target, name, getattr(source, our_name))


def _warn_of_running_threads(threading: Any) -> None:
    here = threading.get_ident()
    others = [repr(thread.name) for thread in threading.enumerate() if thread.ident != here]
    if not others:
        return
    warn(
        f"patching while other threads run: {', '.join(others)}. They stay native threads: joining "
        "them, or waiting for a lock made so far that they hold, blocks all greenlets. Call "
        "patch_all() before anything starts a thread"
    )


def _renew_threading(threading: Any, ours: Any) -> None:
    """Replace what the module keeps itself: its locks, and how the main thread is waited for."""
    patch_item(threading, "_active_limbo_lock", ours.RLock())
    if hasattr(threading, "_shutdown_locks_lock"):
        patch_item(threading, "_shutdown_locks_lock", ours.Lock())
    if hasattr(threading, "_thread_local_info"):
        patch_item(threading, "_thread_local_info", ours.local())
    main = threading.main_thread()
    if (native := getattr(main, "_tstate_lock", None)) is not None:
        main._tstate_lock = ours.Sentinel()
        main._tstate_lock.acquire()
        threading._shutdown_locks.discard(native)
        threading._shutdown_locks.add(main._tstate_lock)
    for attribute in ("_handle", "_os_thread_handle"):
        if hasattr(main, attribute):
            setattr(main, attribute, ours.make_handle(main.ident))
    if not hasattr(threading, "_thread_shutdown"):
        return
    native_shutdown = threading._thread_shutdown

    def shutdown() -> None:
        """Wait for the non-daemon threads of both kinds."""
        ours.join_foreground()
        native_shutdown()

    patch_item(threading, "_thread_shutdown", shutdown)


def _renew_logging(logging: Any, ours: Any) -> None:
    """Give existing locks of logging, which nobody holds now, cooperative successors."""
    patch_item(logging, "_lock", ours.RLock())
    for reference in tuple(logging._handlerList):
        handler = reference()
        if handler is not None and handler.lock is not None:
            handler.createLock()


def _renew_import_locks(ours: Any) -> None:
    """Let greenlets wait for modules that are being imported while the patch is made."""
    import _frozen_importlib

    module_locks: dict[str, Any] = _frozen_importlib._module_locks  # type: ignore[attr-defined]
    for reference in tuple(module_locks.values()):
        held = reference()
        for name in ("lock", "wakeup"):
            native = getattr(held, name, None)
            if native is None:
                continue
            new = ours.RLock() if "RLock" in type(native).__name__ else ours.Lock()
            if name == "wakeup" and native.locked():
                new.acquire()
            setattr(held, name, new)
