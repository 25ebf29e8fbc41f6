"""Errors that the application's own functions raise: told apart from what ends the task that awaits them."""

from __future__ import annotations

import asyncio
from typing import NoReturn


def thrown_in(error: BaseException) -> bool:
    """*error* was thrown into the running task, to cancel or to close it: the function that it awaited did not raise
    it. Everything else is that function's, `SystemExit` and `KeyboardInterrupt` too, and must not end a loop that
    others live in."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return isinstance(error, GeneratorExit)


def raise_as_exception(error: BaseException, raiser: str) -> NoReturn:
    """Raise *error* as a task or a future may hold it: asyncio lets a `SystemExit` in a task end the whole loop."""
    if isinstance(error, Exception):
        raise error
    raise RuntimeError(f"{raiser} raised {error!r}") from error
