"""The viewers of a stream, the one that controls it, and the size that they request. No I/O, no clock."""

from __future__ import annotations

from dataclasses import asdict

from ..protocol import Said
from ..types import EventDict, StreamOptions
from .outputs import Advise, Deliver, Output
from .sizing import Sizing
from .viewer import Viewer


class InputControl:
    """The input of one stream's viewers. What it delivers is added to *outputs*. Owned by the hub's thread."""

    def __init__(self, options: StreamOptions, outputs: list[Output]) -> None:
        self.viewers: set[Viewer] = set()
        """The viewers that were admitted."""
        self.controller: str | None = None
        """Id of the only viewer whose input is accepted; None accepts every viewer's."""
        self.sizing = Sizing(options)
        self.advised = 1.0
        """The scale of the last advice."""
        self._outputs = outputs

    def accepts(self, viewer: Viewer) -> bool:
        """True if input from *viewer* reaches the application."""
        return not viewer.view_only and self.controller in (None, viewer.id)

    def deliver(self, viewer: Viewer, told: EventDict | Said) -> None:
        """Delivers what *viewer* has *told*, if its input is accepted."""
        if not self.accepts(viewer):
            viewer.refused_events += 1
            return
        if not isinstance(told, Said):
            viewer.held.note(told)
        self._outputs.append(Deliver(viewer.id, viewer.principal, told))

    def release(self, viewer: Viewer) -> None:
        """Delivers release events for what *viewer*'s user holds down: its own no longer reach the application."""
        self._outputs += [Deliver(viewer.id, viewer.principal, event, made=True) for event in viewer.held.release()]

    def release_all(self) -> None:
        """Delivers release events for all that users hold down: the next events are for another publisher."""
        for viewer in self.viewers:
            self.release(viewer)

    def hand_over(self, controller: str | None, now: float) -> None:
        """Accepts input from the viewer *controller* only, or from all with None; releases what other viewers hold.

        Raises `ValueError` for a viewer that isn't connected or is view-only.
        """
        able = [viewer.id for viewer in self._able]
        if controller is not None and controller not in able:
            raise ValueError(f"who controls is one of {', '.join(able) or 'nobody yet'}, or None, not {controller!r}")
        self.controller = controller
        for viewer in self.viewers:
            if not self.accepts(viewer):
                self.release(viewer)
        self.update_size(now)

    def forget(self, viewer: Viewer, now: float) -> None:
        """Removes *viewer*, and releases what it holds. If it controls, the one that came first does next."""
        self.viewers.discard(viewer)
        self.release(viewer)
        if self.controller == viewer.id:
            able = self._able
            self.controller = able[0].id if able else None
        self.update_size(now)

    def configure(self, options: StreamOptions, now: float) -> None:
        """Adopts the stream's new *options*, with another target for the size."""
        self.sizing = Sizing(options)
        self.update_size(now)

    def update_size(self, now: float) -> None:
        """Call it when a viewer was resized, shown or hidden."""
        self.sizing.update({viewer.id: viewer.session for viewer in self.viewers if self.accepts(viewer)}, now)
        self.settle_size(now)

    def settle_size(self, now: float) -> None:
        """Adopts the size that viewers request once it is due, and delivers it as an event, for applications that
        render only on events: the viewer's own came before the target changed."""
        if not self.sizing.settle(now):
            return
        assert self.sizing.asker
        name, box = self.sizing.asker
        principal = next((viewer.principal for viewer in self.viewers if viewer.id == name), None)
        self._outputs.append(Deliver(name, principal, {"type": "resize", **asdict(box)}, made=True))

    def advise(self) -> None:
        """Advises the publisher of the size that the slowest viewer can keep up with, if it has changed."""
        scale = min((viewer.session.policy.step.scale for viewer in self.viewers), default=1.0)
        if scale != self.advised:
            self.advised = scale
            self._outputs.append(Advise(scale))

    @property
    def _able(self) -> list[Viewer]:
        """The viewers that may control, in the order of their arrival."""
        return sorted((viewer for viewer in self.viewers if not viewer.view_only), key=lambda viewer: viewer.number)
