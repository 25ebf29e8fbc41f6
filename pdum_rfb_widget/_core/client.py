"""The facts that one viewer has told about itself: its formats, its box, whether it is visible. No I/O, no clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

from ..protocol import CLIPBOARD, Hello, ProtocolError, SetViewport, negotiate
from ..types import EventDict, Selection
from .stream_state import StreamState


@dataclass(slots=True)
class Client:
    """The viewer as it describes itself. Owned by the hub's thread."""

    state: StreamState
    authorize: Callable[[Hello], None]
    """Raises `ProtocolError` to refuse a hello."""
    supported: frozenset[str] = frozenset()
    """Its capabilities."""
    no_video: str = ""
    """Why it takes no video, in its own words."""
    selection: Selection | None = None
    """The formats agreed on; None before its hello."""
    viewport: SetViewport | None = None
    resized_at: float = -math.inf
    """Time at which the viewport last changed."""
    visible: bool = True
    _refused: ProtocolError | None = None

    def open(self, hello: Hello) -> None:
        """Takes its hello. Raises `ProtocolError` for a viewer that may not connect, or takes no format."""
        self.authorize(hello)
        self.supported, self.no_video = frozenset(hello.supported), hello.no_video
        self.selection = negotiate(self.supported, self.state.options, self.state.codecs)

    def negotiate(self) -> None:
        """Agrees on formats again, for new options of the stream. A viewer that takes none keeps the old ones until
        `check_formats`."""
        if self.selection:
            try:
                self.selection = negotiate(self.supported, self.state.options, self.state.codecs)
            except ProtocolError as refused:
                self._refused = refused

    def check_formats(self) -> None:
        """Raises `ProtocolError` for a viewer that takes no format of the stream's new options."""
        if self._refused:
            raise self._refused

    def takes(self, capability: str) -> bool:
        """True if it knows this *capability* beyond the base protocol, and the stream has it."""
        return capability in self.supported and (capability != CLIPBOARD or self.state.options.clipboard)

    def resize(self, viewport: SetViewport, now: float) -> None:
        """Takes its box."""
        if viewport != self.viewport:
            self.viewport, self.resized_at = viewport, now

    def is_withheld(self, event: EventDict) -> bool:
        """True if the application doesn't get this *event*: a paste without `clipboard`; a `resize` that the stream
        itself puts among the events once frames should have that size."""
        options, box = self.state.options, self.viewport
        if event["type"] == "paste":
            return not options.clipboard
        if event["type"] != "resize" or options.resize_policy != "match_client" or box is None:
            return False
        return all(event.get(name) == value for name, value in asdict(box).items())
