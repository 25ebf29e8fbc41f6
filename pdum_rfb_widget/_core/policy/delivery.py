"""The delivery policy of one viewer: images or video, the quality and the rate, by bandwidth and cost of the content.

No I/O, no clock. Owned by the hub's thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..._frames.damage import TileMap
from ...types import EncoderKey, Fidelity, Selection
from ..framebuffer import ClientFramebuffer, whole
from ..stream_state import EncodePlan, StreamState, exact_fidelity, nearest_rung
from .bandwidth import COARSEST, EXACT, FRAME_LATENCY, QUALITIES, BandwidthEstimator, CostModel, Ladder, fits
from .degradation import Backoff, CodecSelector, Degradation, Step
from .processor import VideoWorth, ViewerProcessor

_SLOWEST_FPS = 10.0
"""Lowest frame rate to judge by: no frame should take long in transit."""
_KEEPS_UP = 1.1
"""The share of the time between frames, at most, that a frame may take while nothing counts as a limit."""
_EXACT_WASTE = 4
"""Unchanged tiles that may be sent to save a rectangle, whose own cost is about theirs."""


@dataclass(slots=True)
class DeliveryPolicy:
    """The choices for one viewer."""

    state: StreamState
    bandwidth: BandwidthEstimator
    processor: ViewerProcessor
    _pixels: float = 0.0
    """Mean number of pixels that change in a frame."""
    _sends: tuple[CostModel, int, float] | None = None
    """The costs, the rung and the pixels of the frames that are sent; None before the first."""
    _pictures: Ladder = field(default_factory=Ladder)
    _video: Ladder = field(default_factory=lambda: Ladder(careful=True))
    _codec_selector: CodecSelector = field(default_factory=CodecSelector)
    _video_worth: VideoWorth = field(default_factory=VideoWorth)
    _backoff: Backoff = field(default_factory=Backoff)
    _degradation: Degradation = field(default_factory=Degradation)

    # Input ------------------------------------------------------------------------------------------------------------

    def weigh(self, pixels: int) -> None:
        """Records that this many *pixels* changed in a frame that is sent."""
        self._pixels = pixels if self._pixels == 0 else 0.8 * self._pixels + 0.2 * pixels

    def evicted(self, encoder: EncoderKey, now: float) -> None:
        """Records that the viewer was too slow for the other subscribers of *encoder*."""
        self._backoff.evicted(encoder.rung, now)

    # Output -----------------------------------------------------------------------------------------------------------

    @property
    def step(self) -> Step:
        """The current step of degradation."""
        return self._degradation.step

    @property
    def limit(self) -> str:
        """What keeps the viewer from getting every frame, in words; empty while nothing does."""
        if not self._sends:
            return ""
        fps, seconds = self.state.publish_rate.fps, self._seconds(*self._sends)
        if seconds * fps <= _KEEPS_UP:
            return ""
        link, drawing, encoding = self._needs(*self._sends)
        names = {"the viewer's processor": drawing, "the hub's encoders": encoding, "the connection": link}
        return f"{max(names, key=names.__getitem__)}: {1 / seconds:.0f} of {fps:.0f} frames a second"

    def encoder(self, area: int, selection: Selection, turnaround: float, now: float) -> EncoderKey | None:
        """Returns the shared encoder for frames of *area* pixels, None for images. Call it once a frame; the viewer
        takes a frame every *turnaround* seconds."""
        encoder = self._wanted_encoder(area, selection, turnaround, now) if self.state.video_works else None
        if encoder:
            self._sends = self.state.video_costs, encoder.rung, area
            fps = min(self.state.publish_rate.fps, self.processor.fps("video", area))
            self.bandwidth.need(fps * self.state.video_costs.nbytes(encoder.rung, area))
        self._degrade(area, encoder, now)
        return encoder

    def plan(self, framebuffer: ClientFramebuffer, newest: TileMap, selection: Selection, now: float) -> EncodePlan:
        """Returns what to encode of the *newest* frame as images, for a viewer with this *framebuffer*."""
        region = framebuffer.behind(newest) if selection.tiles else whole(newest)
        pixels = region.pixels
        self.weigh(pixels)
        rung = self._rung(pixels, selection, now)
        quality = self.state.options.quality
        at = nearest_rung(quality) if rung is None and isinstance(quality, int) else rung or EXACT
        self._sends = self.state.costs, at, self._pixels
        if rung == EXACT and len(region.rects) > 1:
            # Fewer rectangles cost less than a few tiles; lossy ones would turn exact tiles lossy.
            region = framebuffer.behind(newest, _EXACT_WASTE)
        return EncodePlan(region, self._fidelity(selection, rung), rung, still=False)

    def _rung(self, pixels: int, selection: Selection, now: float) -> int | None:
        """Returns the rung for images of a frame of which *pixels* changed; None for a quality outside the ladder."""
        quality, costs, bandwidth = self.state.options.quality, self.state.costs, self.bandwidth
        if selection.lossy is None or isinstance(quality, int):
            # With settings made by hand a local connection only has to be clearly faster than `bitrate`, however large
            # the
            # images are: they are meant to be so, and the window alone keeps them from piling up.
            bandwidth.need(self.state.options.bitrate / 8)
            return EXACT if selection.lossy is None else None
        best = EXACT if quality == "auto" and selection.exact else EXACT + 1
        fps = self.state.publish_rate.fps
        rung = max(best, self._pictures.judge(self._pixels, costs, bandwidth, self.processor, fps, now))
        drawn = min(fps, self.processor.fps(costs.kind(rung), self._pixels))
        bandwidth.need(drawn * costs.nbytes(rung, self._pixels))
        most = bandwidth.budget * FRAME_LATENCY
        while rung < COARSEST and costs.nbytes(rung, pixels) > most:
            rung += 1
        return rung

    def _fidelity(self, selection: Selection, rung: int | None) -> Fidelity:
        """Returns how images of this *rung* are encoded."""
        quality = self.state.options.quality
        if rung == EXACT:
            return exact_fidelity(selection, self.state.options)
        assert selection.lossy
        if rung is None:
            assert isinstance(quality, int)
            return Fidelity(selection.lossy, quality, selection.tiles)
        return Fidelity(selection.lossy, QUALITIES[rung - 1], selection.tiles, or_exact=selection.exact)

    def _wanted_encoder(self, area: int, selection: Selection, turnaround: float, now: float) -> EncoderKey | None:
        if not selection.video:
            return None
        options, fps = self.state.options, self.state.publish_rate.fps
        backoff = self._backoff.judge(turnaround, fps, now)
        if options.quality == "lossless" and selection.pictures:
            return None if backoff else EncoderKey(selection.video, EXACT)
        if self._video.rung is None and self.bandwidth.local:
            self._video.rung = EXACT + 1  # most local connections are fast, and climbing there would cost keyframes
        # Frames beyond what the window lets through in a second need not fit.
        fps = min(fps, max(_SLOWEST_FPS, 1 / turnaround)) if turnaround else fps
        rung = max(EXACT + 1, self._video.judge(area, self.state.video_costs, self.bandwidth, self.processor, fps, now))
        if isinstance(options.quality, int):
            rung = nearest_rung(options.quality)
        rung = max(rung, backoff)
        if not selection.pictures:
            return EncoderKey(selection.video, min(rung, COARSEST))
        if rung > COARSEST or (options.codec == "auto" and not self._video_is_better(area, rung, now)):
            return None
        return EncoderKey(selection.video, rung)

    def _video_is_better(self, area: int, rung: int, now: float) -> bool:
        costs, fps = self.state.costs, self.state.publish_rate.fps
        pictures = self._pictures.judge(self._pixels, costs, self.bandwidth, self.processor, fps, now)
        fit = fits(min(pictures, 1), self._pixels, costs, self.bandwidth, self.processor, fps, 1.4)
        gain = self._seconds(costs, pictures, self._pixels) / self._seconds(self.state.video_costs, rung, area)
        worth = self._video_worth.judge(gain, now)
        return self._codec_selector.judge(self._pixels / area, pictures, rung, fit, now, worth=worth)

    def _needs(self, costs: CostModel, rung: int, pixels: float) -> tuple[float, float, float]:
        """Returns the seconds that a frame takes the link, the viewer's processor, and the hub's encoders."""
        drawing = self.processor.seconds(costs.kind(rung), pixels)
        return costs.nbytes(rung, pixels) / self.bandwidth.flow, drawing, costs.seconds(rung, pixels)

    def _seconds(self, costs: CostModel, rung: int, pixels: float) -> float:
        """Returns the seconds from one frame to the next that link, viewer, encoders and publisher allow."""
        link, drawing, encoding = self._needs(costs, rung, pixels)
        return max(link, self.processor.busy(drawing, encoding), 1 / self.state.publish_rate.fps)

    def _degrade(self, area: int, encoder: EncoderKey | None, now: float) -> None:
        adaptive, bandwidth = self.state.options.adaptive, self.bandwidth
        costs = self.state.video_costs if encoder else self.state.costs
        share = 1.0 if encoder else self._pixels / area
        full = max(self.state.size[0] * self.state.size[1], area) if adaptive else area

        def enough(step: Step, margin: float) -> bool:
            pixels, fps = share * full * step.scale**2, self.state.publish_rate.fps * step.fps * margin
            # A slow viewer is limited by its own acknowledgements; only its publisher can do more for it.
            drawn = self.processor.fps(costs.kind(COARSEST), pixels)
            draws = not adaptive or fps <= drawn
            return draws and bandwidth.allows(min(fps, drawn) * costs.nbytes(COARSEST, pixels))

        self._degradation.judge(enough, now, with_size=adaptive)
