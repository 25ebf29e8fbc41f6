"""What the viewers of one stream share: its newest frame, its pace and costs, and how a part of it is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from .adaptive import COARSEST, EXACT, QUALITIES, Costs, Pace
from .damage import TileMap
from .picture import Region
from .types import Encoded, Fidelity, StreamOptions


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be encoded for a viewer next."""

    region: Region
    fidelity: Fidelity
    rung: int | None
    """Of the ladder; None for a quality that isn't on it."""
    still: bool
    """Nothing new, but exact."""


@dataclass(slots=True)
class Scene:
    """What the viewers of a stream know in common. Owned by the hub's thread."""

    options: StreamOptions
    newest: TileMap | None = None
    costs: Costs = field(default_factory=Costs)
    pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self.pace = Pace(self.options.still_after)

    def published(self, newest: TileMap) -> None:
        """This frame is now the newest."""
        self.newest = newest
        self.pace.published(newest.version, newest.timestamp_us / 1e6)

    def learn(self, plan: Plan, encoded: Encoded) -> None:
        """What was planned for some viewer was *encoded*."""
        pixels, nbytes, seconds = plan.region.pixels, len(encoded.payload), encoded.encode_ms / 1000
        rung = plan.rung if plan.rung is not None else _nearest_rung(plan.fidelity.quality or 0)
        self.costs.learn(rung, pixels, nbytes, seconds)
        if rung != EXACT and all(part.exact for part in encoded.parts):
            self.costs.learn(EXACT, pixels, nbytes, seconds)

    def restart(self, options: StreamOptions) -> None:
        """The stream has new options and no frame."""
        self.options, self.newest, self.pace = options, None, Pace(options.still_after)


def _nearest_rung(quality: int) -> int:
    return min(range(COARSEST), key=lambda n: abs(QUALITIES[n] - quality)) + 1
