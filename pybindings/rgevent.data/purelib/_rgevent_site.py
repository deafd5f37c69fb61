"""Lets ``gunicorn -k rgevent`` find its worker.

gunicorn looks a worker's short name up in ``gunicorn.workers.SUPPORTED_WORKERS`` and nowhere else
that another package could reach. ``rgevent_gunicorn.pth`` imports this module whenever Python
starts; it arms a finder that waits for that one module and adds our name to the table.

It runs in every Python of the environment, so it imports only ``sys``, costs microseconds and
never raises. RGEVENT_NO_SITE=1 in the environment switches it off.
"""

import sys

MODULE = "gunicorn.workers"


class WorkersLoader:
    """Loads the module as its own loader would, then adds the name."""

    def __init__(self, loader, finder):
        self._loader = loader
        self._finder = finder

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        self._loader.exec_module(module)
        try:
            module.SUPPORTED_WORKERS.setdefault("rgevent", "rgevent.gunicorn.Worker")
            sys.meta_path.remove(self._finder)
        except Exception:  # a gunicorn without the table, or a finder already removed
            pass


class WorkersFinder:
    """Answers for `MODULE` only, with whatever the other finders say.

    It stays armed until the module has been executed: looking the spec up is not importing it.
    """

    def find_spec(self, name, path=None, target=None):
        if name != MODULE:
            return None
        try:
            for finder in sys.meta_path:
                if finder is self:
                    continue
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    if hasattr(spec.loader, "exec_module"):
                        spec.loader = WorkersLoader(spec.loader, self)
                    return spec
        except Exception:
            pass  # the import system asks the other finders itself
        return None


def arm():
    """Put the finder first, unless it is switched off or the module is already there."""
    # `os` is not ours to import; the interpreter's start has usually done so.
    environ = getattr(sys.modules.get("os"), "environ", {})
    if environ.get("RGEVENT_NO_SITE") not in (None, "", "0") or MODULE in sys.modules:
        return
    sys.meta_path.insert(0, WorkersFinder())


try:
    arm()
except Exception:
    pass
