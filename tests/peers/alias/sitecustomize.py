"""Put on the path of every process of a peer's own test suite: the peer's name means rgevent there.

The tests themselves come from the peer's wheel, which is not loaded otherwise.
"""

import importlib.util

import rgevent.compat

wheel = importlib.util.find_spec("greenlet")
assert wheel is not None
rgevent.compat.install_as_greenlet()

# Only from here on does the name mean rgevent.
import greenlet  # noqa: E402

greenlet.__path__ = wheel.submodule_search_locations
