"""The number of processors this process may use: in a container or a batch job, fewer than the machine has."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def usable_processors() -> int:
    """The number of processors this process may use, at least 1: those of its affinity, limited by the CPU quota of its
    control group (Linux, versions 1 and 2), rounded up."""
    if hasattr(os, "process_cpu_count"):  # since Python 3.13, which knows PYTHON_CPU_COUNT too
        allowed = os.process_cpu_count()
    elif hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count()
    return max(1, math.ceil(min(allowed or 1, *_quotas(), math.inf)))


def _quotas() -> Iterator[float]:
    """The quotas of the process's control group and the groups above it, in processors."""
    groups = ""
    with contextlib.suppress(OSError):
        groups = OWN_CGROUPS.read_text()
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = CGROUPS / "cpu" if controllers else CGROUPS
        # In a container the path may be the host's, with only the container's own part mounted, at the root.
        for group in (Path(path), *Path(path).parents):
            with contextlib.suppress(OSError, ValueError):
                yield _quota(mount / group.relative_to("/"), version=1 if controllers else 2)


def _quota(group: Path, version: int) -> float:
    """The quota of *group* in processors. Raises `OSError` or `ValueError` if it has none."""
    if version == 2:
        quota, period = (group / "cpu.max").read_text().split()
    else:
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    share = float(quota) / float(period)  # "max" is no number, and -1 is no quota
    return share if share > 0 else math.inf
