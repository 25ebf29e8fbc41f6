"""How many processors this process may use, which in a container or a batch job are fewer than the machine has."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def usable_processors() -> int:
    """At least 1: those of the process's affinity, or as many as its control group's CPU quota (Linux, versions 1 and
    2) comes to, rounded up, if they are fewer."""
    if hasattr(os, "process_cpu_count"):  # since Python 3.13, which knows PYTHON_CPU_COUNT too
        allowed = os.process_cpu_count()
    elif hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count()
    return max(1, math.ceil(min(allowed or 1, *_quotas(), math.inf)))


def _quotas() -> Iterator[float]:
    """The quotas of the process's control group and of those that it is in, in processors."""
    groups = ""
    with contextlib.suppress(OSError):
        groups = _OWN_GROUPS.read_text()
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = _MOUNT / "cpu" if controllers else _MOUNT
        # In a container the path may be the host's, of which only the container's own part is mounted: at the root.
        for group in (Path(path), *Path(path).parents):
            with contextlib.suppress(OSError, ValueError):
                yield _quota(mount / group.relative_to("/"), version=1 if controllers else 2)


def _quota(group: Path, version: int) -> float:
    """Raises `OSError` or `ValueError` where the *group* has none."""
    if version == 2:
        quota, period = (group / "cpu.max").read_text().split()
    else:
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    share = float(quota) / float(period)  # "max" is no number, and -1 is no quota
    return share if share > 0 else math.inf
