"""Events and results: one greenlet says when or what, others wait. Waiting is in the extension."""

from rgevent._rgevent import AsyncResult, Event

__all__ = ["AsyncResult", "Event"]
