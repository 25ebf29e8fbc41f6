"""A slow machine: this process and those that it starts, all on one core beside a busy loop."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"
"""The program of the busy loop, which also ends if this process is killed."""


def can_starve() -> bool:
    """True if this system lets a process choose the cores of its threads: Linux does."""
    return hasattr(os, "sched_setaffinity") and Path("/proc/self/task").is_dir()


@contextmanager
def starved() -> Iterator[int]:
    """Pin all threads of this process to one core, where a busy loop runs too; yields its number.

    Threads and processes started inside the block inherit that. Afterwards every thread may run where it could before,
    and threads started inside, where the one that entered could. Only where `can_starve`.
    """
    core, usual = min(os.sched_getaffinity(0)), os.sched_getaffinity(0)
    before = _pin({thread: {core} for thread in _threads()})
    try:
        with subprocess.Popen([sys.executable, "-c", _BUSY]) as busy:
            try:
                yield core
            finally:
                busy.kill()
    finally:
        _pin({thread: before.get(thread, usual) for thread in _threads()})


def _pin(cores: dict[int, set[int]]) -> dict[int, set[int]]:
    """Pin each thread, by its number in the system, to its *cores*. Returns their cores before. Skips ended threads."""
    before = {}
    for thread, allowed in cores.items():
        with suppress(ProcessLookupError):
            before[thread] = os.sched_getaffinity(thread)
            os.sched_setaffinity(thread, allowed)
    return before


def _threads() -> list[int]:
    """The numbers of this process's threads, including those of libraries."""
    return [int(task.name) for task in Path("/proc/self/task").iterdir()]
