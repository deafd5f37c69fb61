"""What can go wrong in the hub."""

from rgevent._rgevent import (
    BlockingSwitchOutError,
    ConcurrentObjectUseError,
    InvalidSwitchError,
    LoopExit,
)

__all__ = [
    "BlockingSwitchOutError",
    "ConcurrentObjectUseError",
    "InvalidSwitchError",
    "LoopExit",
]
