"""Distinguishes errors raised by the application's functions from those that end the task that awaits them."""

from __future__ import annotations

import asyncio
from typing import NoReturn


def thrown_in(error: BaseException) -> bool:
    """True if *error* was thrown into the running task to cancel or close it. Any other error comes from the awaited
    function, `SystemExit` and `KeyboardInterrupt` included, and must not end an event loop that others use."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return isinstance(error, GeneratorExit)


def raise_as_exception(error: BaseException, raiser: str) -> NoReturn:
    """Raise *error*, wrapped in `RuntimeError` unless it is an `Exception`: asyncio lets a `SystemExit` in a task end
    the whole loop."""
    if isinstance(error, Exception):
        raise error
    raise RuntimeError(f"{raiser} raised {error!r}") from error
