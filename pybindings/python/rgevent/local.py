"""Greenlet-local data: what threading.local is to threads."""

from rgevent._rgevent import local

__all__ = ["local"]
