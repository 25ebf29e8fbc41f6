"""What every group of measurements answers with, and how figures become one figure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Figure: TypeAlias = float | int | str | None
"""Infinity where a picture is exact, None where nothing was measured."""

Figures: TypeAlias = dict[str, Figure]
"""By name, the unit last: ``p50_ms``, ``bytes_per_frame``."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    group: str
    name: str
    figures: Figures
    wanted: str = ""
    """What the figures have to be, in words; empty where they only inform."""
    ok: bool | None = None
    """Whether they are; None where nothing is wanted."""


class Progress(Protocol):
    """Tells the user how far it is, at its calls and never between them: a thread of its own would be measured too."""

    def add(self, steps: int) -> None:
        """So many steps more are to come."""

    def step(self, what: str) -> None:
        """The step *what* begins; the one before is done."""


class Silence:
    """A `Progress` that tells nobody."""

    def add(self, steps: int) -> None:
        pass

    def step(self, what: str) -> None:
        pass


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value below which *share* (0 to 1) of *values* lie, between the two nearest; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    if ordered[low] == ordered[high]:
        return ordered[low]  # two infinities have no difference
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def median(values: Iterable[Figure]) -> float | None:
    """The middle of *values*; one that could not be measured (None) counts as infinitely bad. None if that is it."""
    middle = statistics.median([math.inf if value is None else float(value) for value in values])
    return None if math.isinf(middle) else middle


def medians(runs: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Of each figure the median over the *runs*, which all have the same figures."""
    return {name: median(run[name] for run in runs) for name in runs[0]}


def ratio(a: float | None, b: float | None) -> float | None:
    """*a* / *b*, None where one of them is missing or *b* is 0."""
    return None if a is None or not b else a / b


def less(a: float | None, b: float | None) -> float | None:
    """*a* - *b*, None where one of them is missing."""
    return None if a is None or b is None else a - b


def at_least(value: float | None, limit: float) -> bool:
    return value is not None and value >= limit


def at_most(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value <= limit + 1e-9  # 3 of 300 are 1 %
