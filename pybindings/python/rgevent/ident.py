"""Who is running: the number that stands for a thread."""

from rgevent._rgevent import get_ident, get_native_ident

__all__ = ["get_ident", "get_native_ident"]
