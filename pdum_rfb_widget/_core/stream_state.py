"""The state that the viewers of one stream share: its newest frame, publish rate and costs, and encode plans."""

from __future__ import annotations

from dataclasses import dataclass, field

from .._frames.chunk import Chunk
from .._frames.damage import TileMap
from ..encoders.base import codecs_for, pyav_installed
from ..protocol import PackedHeaders
from ..types import Encoded, Fidelity, Selection, StreamOptions, VideoCodec
from .framebuffer import Region, Regions
from .policy.bandwidth import COARSEST, EXACT, QUALITIES, CostModel, PublishRate
from .shared_encoders import SharedEncoders

_VIDEO_RATES = (60.0, 120.0, 240.0)
"""Frame rates that video is made for, few of them: a decoder need not be told another each time a stream's varies."""
_FASTER = 1.1
"""Factor by which frames must outpace the rate that video is made for before it changes, which costs a keyframe."""
_LASTING = 20
"""Frames in a row that must come so fast before it changes: a burst is no rate."""


@dataclass(frozen=True, slots=True)
class EncodePlan:
    """The next thing to encode for a viewer."""

    region: Region
    fidelity: Fidelity
    rung: int | None
    """Rung of the ladder; None for a quality that isn't on it."""
    still: bool
    """True for a lossless refresh: nothing new, but exact."""


@dataclass(slots=True)
class StreamState:
    """The state that all viewers of a stream share. Owned by the hub's thread."""

    options: StreamOptions
    size: tuple[int, int] = (0, 0)
    """Width and height that the publisher means to publish, in pixels."""
    newest: TileMap | None = None
    pending: TileMap | None = None
    """The map of a newer frame that nobody has taken yet: what changed in it is unknown."""
    costs: CostModel = field(default_factory=CostModel)
    video_costs: CostModel = field(default_factory=lambda: CostModel(video=True))
    encoders: SharedEncoders = field(default_factory=SharedEncoders)
    regions: Regions = field(default_factory=Regions)
    headers: PackedHeaders = field(default_factory=PackedHeaders)
    _failed: tuple[int, int] | None = None
    """The size at which video failed."""
    _fastest: float = _VIDEO_RATES[0]
    _faster: int = 0
    """Frames in a row that outpaced `_fastest`."""
    publish_rate: PublishRate = field(init=False)

    def __post_init__(self) -> None:
        self.publish_rate = PublishRate(self.options.still_after)

    def published(self, newest: TileMap) -> None:
        """Makes this frame the newest."""
        self.newest = newest
        self.publish_rate.published(newest.version, newest.timestamp_us / 1e6)
        self._faster = self._faster + 1 if self.publish_rate.fps > _FASTER * self._fastest else 0
        if self._faster >= _LASTING:
            self._fastest = next((rate for rate in _VIDEO_RATES if rate >= self.publish_rate.fps), _VIDEO_RATES[-1])

    def learn(self, plan: EncodePlan, encoded: Encoded) -> None:
        """Learns the costs of a *plan* that was *encoded*."""
        pixels, nbytes, seconds = plan.region.pixels, len(encoded.payload), encoded.encode_ms / 1000
        rung = plan.rung if plan.rung is not None else nearest_rung(plan.fidelity.quality or 0)
        self.costs.learn(rung, pixels, nbytes, seconds)
        if rung != EXACT and all(part.exact for part in encoded.parts):
            self.costs.learn(EXACT, pixels, nbytes, seconds)

    def learn_video(self, chunk: Chunk) -> None:
        """Learns the cost of a video frame. Not for requested keyframes: those are larger, and rare."""
        pixels = chunk.tiles.width * chunk.tiles.height
        self.video_costs.learn(chunk.rung, pixels, len(chunk.payload), chunk.encode_ms / 1000)

    @property
    def format(self) -> TileMap | None:
        """A map with the size, pixel ratio and colour of the newest frame, pending or not."""
        return self.pending or self.newest

    @property
    def codecs(self) -> tuple[VideoCodec, ...]:
        """The codecs of the video that may be sent, the preferred first; empty where nothing encodes any."""
        return codecs_for(self.options.codec)

    @property
    def video_fps(self) -> float:
        """The frame rate to promise decoders: that at which frames come, even where more than `fps` do."""
        return max(self._fastest, self.options.fps)

    @property
    def video_works(self) -> bool:
        """True while viewers may join shared encoders."""
        return bool(self.codecs) and (self.newest is None or self.newest.size != self._failed)

    def fail_video(self, size: tuple[int, int]) -> None:
        """Records that no encoder can take frames of this *size*: images serve until another size is published."""
        self._failed = size
        self.encoders.clear()

    def restart(self, size: tuple[int, int], options: StreamOptions) -> None:
        """Resets the state for new options, without a frame."""
        self.size, self.options, self.newest, self.publish_rate = size, options, None, PublishRate(options.still_after)
        self.pending = None
        self._failed, self._fastest, self._faster = None, _VIDEO_RATES[0], 0
        pyav_installed.cache_clear()  # a notebook may have installed it since: looked for once a display, not a frame


def exact_fidelity(selection: Selection, options: StreamOptions) -> Fidelity:
    """Returns the fidelity that refines an image exactly, or keeps it exact."""
    assert selection.exact
    return Fidelity(selection.exact, None, selection.tiles, alpha=options.alpha)


def nearest_rung(quality: int) -> int:
    """Returns the rung whose images are nearest to this *quality*."""
    return min(range(COARSEST), key=lambda n: abs(QUALITIES[n] - quality)) + 1
