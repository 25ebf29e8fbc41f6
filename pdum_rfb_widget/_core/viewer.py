"""One viewer as its stream's core sees it: its phase of life, its rights, and what its user holds down. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ..auth import Principal
from .held_input import Held
from .session import ViewerSession


class Phase(Enum):
    """A viewer's phase of life."""

    OPENING = "opening"
    """Its hello has not come, or not been accepted."""
    ACTIVE = "active"
    """It gets every frame that it has room for."""
    HIDDEN = "hidden"
    """Its page shows the stream nowhere: it gets messages and no frames."""
    DRAINING = "draining"
    """It has to be closed, and gets nothing more; what it still says is ignored."""
    CLOSED = "closed"
    """Its connection has ended."""


TRANSITIONS: dict[tuple[Phase, str], Phase] = {
    (Phase.OPENING, "admitted"): Phase.ACTIVE,
    (Phase.ACTIVE, "hidden"): Phase.HIDDEN,
    (Phase.HIDDEN, "shown"): Phase.ACTIVE,
    (Phase.OPENING, "refused"): Phase.DRAINING,
    (Phase.ACTIVE, "refused"): Phase.DRAINING,
    (Phase.HIDDEN, "refused"): Phase.DRAINING,
    (Phase.OPENING, "left"): Phase.CLOSED,
    (Phase.ACTIVE, "left"): Phase.CLOSED,
    (Phase.HIDDEN, "left"): Phase.CLOSED,
    (Phase.DRAINING, "left"): Phase.CLOSED,
}
"""Every change of phase: the phase before, what happened, and the phase after. Nothing else changes it."""


@dataclass(slots=True, eq=False)
class Viewer:
    """One viewer of a stream. Owned by the hub's thread."""

    session: ViewerSession
    number: int
    """Increases with every viewer of the process."""
    phase: Phase = Phase.OPENING
    open: bool = field(default=False, init=False)
    """True while it may be sent something."""
    principal: Principal = None
    view_only: bool = False
    token: str | None = None
    """The token that admitted it; None if an authenticator did."""
    refused_events: int = 0
    """Number of events withheld from the application, as the viewer is view-only or not in control."""
    held: Held = field(default_factory=Held)
    """The buttons and keys that are down, according to the events sent to the application."""
    writing: bool = False
    """True while the connection has a message that is not written."""
    idle: bool = False
    """True if neither an acknowledgement nor the end of `writing` gives it something to send."""

    @property
    def id(self) -> str:
        return f"viewer-{self.number}"

    def becomes(self, what: str) -> None:
        """Changes the phase, as `TRANSITIONS` has it."""
        self.phase = TRANSITIONS[self.phase, what]
        self.open = self.phase in (Phase.ACTIVE, Phase.HIDDEN)
