"""Settings: rgevent.config, and the environment variables they start from."""

from __future__ import annotations

from rgevent import _rgevent

__all__ = ["Config", "config", "stack_info"]


class Config:
    """What can be set while the program runs."""

    __slots__ = ()

    @property
    def stack_size(self) -> int:
        """Bytes of stack of greenlets that start from now on (RGEVENT_STACK_SIZE).

        Memory is taken as it is touched, so a large one costs address space and page tables. Set
        for the calling thread and for threads that begin to use greenlets later. Raises ValueError
        for an absurd size, TypeError for something else than an integer; None is the default.
        """
        return _rgevent.get_stack_size()

    @stack_size.setter
    def stack_size(self, value: int | None) -> None:
        _rgevent.set_stack_size(value)

    def __repr__(self) -> str:
        return f"<rgevent.config stack_size={self.stack_size}>"


config = Config()


def stack_info() -> dict[str, int]:
    """Numbers about the calling thread's stacks.

    slots: stacks there are; of these in_use by started greenlets, pooled for reuse, or abandoned
    with greenlets that could not be ended. Since the thread began: trimmed, how often the deep part
    of a stack was given back to the system; released, stacks given back whole after a burst.
    """
    slots, pooled, abandoned, trimmed, released = _rgevent.stack_counts()
    return {
        "slots": slots,
        "in_use": slots - pooled - abandoned,
        "pooled": pooled,
        "abandoned": abandoned,
        "trimmed": trimmed,
        "released": released,
    }
