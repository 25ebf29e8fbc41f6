"""The rows that every group of measurements returns, and functions that combine figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Figure: TypeAlias = float | int | str | None
"""Infinity if a picture is exact, None if nothing was measured."""

Figures: TypeAlias = dict[str, Figure]
"""Figures by name, which ends with the unit: ``p50_ms``, ``bytes_per_frame``."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    group: str
    name: str
    figures: Figures
    wanted: str = ""
    """The limits on the figures, in words; empty if there are none."""
    ok: bool | None = None
    """True if the limits are met; None if there are none."""


class Progress(Protocol):
    """Shows progress, only when called: a thread of its own would be measured too."""

    def add(self, steps: int) -> None:
        """Announce *steps* more steps."""

    def step(self, what: str) -> None:
        """Start the step *what*; the previous one is done."""


class Silence:
    """A `Progress` that shows nothing."""

    def add(self, steps: int) -> None:
        pass

    def step(self, what: str) -> None:
        pass


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value below which *share* (0 to 1) of *values* lie, interpolated between the two nearest; None if there are
    no values."""
    if not values:
        return None
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    if ordered[low] == ordered[high]:
        return ordered[low]  # the difference of two infinities is undefined
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def median(values: Iterable[Figure]) -> float | None:
    """The median of *values*; None, for a failed measurement, counts as infinitely bad. None if the median is one."""
    middle = statistics.median([math.inf if value is None else float(value) for value in values])
    return None if math.isinf(middle) else middle


def medians(runs: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The median of each figure over the *runs*, which all have the same figures."""
    return {name: median(run[name] for run in runs) for name in runs[0]}


def ratio(a: float | None, b: float | None) -> float | None:
    """*a* / *b*; None if either is missing or *b* is 0."""
    return None if a is None or not b else a / b


def less(a: float | None, b: float | None) -> float | None:
    """*a* - *b*; None if either is missing."""
    return None if a is None or b is None else a - b


def at_least(value: float | None, limit: float) -> bool:
    return value is not None and value >= limit


def at_most(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value <= limit + 1e-9  # 3 of 300 are 1 %
