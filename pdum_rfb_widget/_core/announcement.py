"""The `config` message to one viewer: it names what follows, and is sent again only where it differs. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

from .._frames.damage import TileMap
from ..protocol import config_message
from ..types import Message
from .client import Client
from .stream_state import StreamState


@dataclass(slots=True)
class Announcement:
    """Announces to one viewer what follows. Owned by the hub's thread."""

    state: StreamState
    client: Client
    hub: dict[str, object]
    """The hub's id and version."""
    channel_bytes: int
    """Most bytes of a message on a channel."""
    codec: str | None = None
    """The codec of the video that follows; None for images."""
    _config: str = ""
    _inputs: object = None
    """The inputs that `_config` was made from."""

    def of(self, tiles: TileMap) -> list[Message]:
        """Returns the config that has to come before a frame of *tiles*; nothing if the last still holds."""
        selection, options = self.client.selection, self.state.options
        inputs = tiles.size, tiles.pixel_ratio, tiles.color, self.codec, selection, options, self.channel_bytes
        if inputs == self._inputs:  # as for most frames: JSON takes longer
            return []
        assert selection
        self._inputs = inputs
        policy = {} if options.resize_policy == "publisher" else {"resize_policy": options.resize_policy}
        config = config_message(
            *(*tiles.size, selection, options.alpha, self.codec, tiles.pixel_ratio, tiles.color),
            self.client.supported,
            self.hub | policy,
            options.clipboard,
            self.channel_bytes,
        )
        if config == self._config:
            return []
        self._config = config
        return [config]
