"""The one rule for leaving a state and for coming back to it. No clock: every call gets the time in seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Direction: TypeAlias = Literal["better", "worse"]

SOON = 4.0
"""Seconds within which a better state that has to be left has failed, however short the patience was."""


@dataclass(slots=True)
class Hysteresis:
    """Decides when to move to a better or to a worse state. Owned by the hub's thread.

    A better state must have been possible for `patience` seconds without a break. It has failed if it has to be left
    within twice that time, or within `SOON`: then patience is doubled, else halved. A worse state must have been needed
    for `endures` seconds.
    """

    least: float
    """Least patience in seconds, which is also the first."""
    most: float
    """Most patience in seconds."""
    endures: float = 0.0
    """Seconds for which the present state may not fit before a worse one is taken."""
    patience: float = field(init=False)
    """Seconds for which a better state must be possible before it is tried."""
    _wanted: Direction | None = None
    _since: float = 0.0
    _improved_at: float = -math.inf

    def __post_init__(self) -> None:
        self.patience = self.least

    def moves(self, wanted: Direction | None, now: float) -> bool:
        """Returns True if it is time to move in the *wanted* direction, and counts that as done. Call it for every
        judgement; *wanted* is None where the present state is right."""
        if wanted != self._wanted:
            self._wanted, self._since = wanted, now
        if wanted is None or now - self._since < (self.patience if wanted == "better" else self.endures):
            return False
        self._wanted = None
        if wanted == "better":
            self.improved(now)
        else:
            self.worsened(now)
        return True

    def improved(self, now: float) -> None:
        """Records a move to a better state."""
        self._improved_at = now

    def worsened(self, now: float) -> None:
        """Records a move to a worse state."""
        failed = now - self._improved_at < max(SOON, 2 * self.patience)
        self.patience = min(2 * self.patience, self.most) if failed else max(self.patience / 2, self.least)
