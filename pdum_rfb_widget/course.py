"""How one viewer is fed: pictures or video, how good, how many. Follows from its link, and from what the scene costs.

No I/O, no clock. Owned by the hub's thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .adaptive import COARSEST, EXACT, FRAME_LATENCY, QUALITIES, Ladder, Link, fits
from .scene import Scene, exact_fidelity, nearest_rung
from .steering import Medium, Relief, Setback, Step
from .types import Fidelity, LaneKey, Selection

_SLOWEST_FPS = 10.0
"""Fewer frames a second than these are judged as if they were so many: none shall take long on its way."""


@dataclass(slots=True)
class Course:
    """The choices for one viewer."""

    scene: Scene
    link: Link
    _pixels: float = 0.0
    """That change in a frame, in the mean."""
    _pictures: Ladder = field(default_factory=Ladder)
    _video: Ladder = field(default_factory=lambda: Ladder(careful=True))
    _medium: Medium = field(default_factory=Medium)
    _setback: Setback = field(default_factory=Setback)
    _relief: Relief = field(default_factory=Relief)

    # Told of what happens ---------------------------------------------------------------------------------------------

    def weigh(self, pixels: int) -> None:
        """So many *pixels* changed in a frame that is sent."""
        self._pixels = pixels if self._pixels == 0 else 0.8 * self._pixels + 0.2 * pixels

    def held_up(self, lane: LaneKey, now: float) -> None:
        """The viewer was too slow for the others of *lane*."""
        self._setback.fell(lane.rung, now)

    # What follows -----------------------------------------------------------------------------------------------------

    @property
    def step(self) -> Step:
        """What is given up for the viewer."""
        return self._relief.step

    def lane(self, area: int, selection: Selection, turnaround: float, now: float) -> LaneKey | None:
        """Which lane is to feed it frames of *area* pixels, None for pictures: to be asked once a frame. It takes one
        every *turnaround* seconds."""
        lane = self._lane(area, selection, turnaround, now) if self.scene.video_works else None
        if lane:
            fps = min(self.scene.pace.fps, self.link.draws("video", area))
            self.link.need(fps * self.scene.video_costs.nbytes(lane.rung, area))
        self._relieve(area, lane, now)
        return lane

    def rung(self, pixels: int, selection: Selection, now: float) -> int | None:
        """The rung for pictures of a frame of which so many *pixels* changed; None for a quality that isn't on it."""
        quality, costs, link = self.scene.options.quality, self.scene.costs, self.link
        if selection.lossy is None or isinstance(quality, int):
            # What was set by hand asks of a local link to be clearly faster than `bitrate`, whatever the pictures take:
            # they are to be so, and the window alone keeps them from piling up.
            link.need(self.scene.options.bitrate / 8)
            return EXACT if selection.lossy is None else None
        best = EXACT if quality == "auto" and selection.exact else EXACT + 1
        fps = self.scene.pace.fps
        rung = max(best, self._pictures.judge(self._pixels, costs, link, fps, now))
        link.need(min(fps, link.draws(costs.kind(rung), self._pixels)) * costs.nbytes(rung, self._pixels))
        most = link.budget * FRAME_LATENCY
        while rung < COARSEST and costs.nbytes(rung, pixels) > most:
            rung += 1
        return rung

    def fidelity(self, selection: Selection, rung: int | None) -> Fidelity:
        """How pictures of this *rung* are encoded."""
        quality = self.scene.options.quality
        if rung == EXACT:
            return exact_fidelity(selection, self.scene.options)
        assert selection.lossy
        if rung is None:
            assert isinstance(quality, int)
            return Fidelity(selection.lossy, quality, selection.tiles)
        return Fidelity(selection.lossy, QUALITIES[rung - 1], selection.tiles, or_exact=selection.exact)

    def _lane(self, area: int, selection: Selection, turnaround: float, now: float) -> LaneKey | None:
        if not selection.video:
            return None
        options, fps = self.scene.options, self.scene.pace.fps
        setback = self._setback.judge(turnaround, fps, now)
        if options.quality == "lossless" and selection.pictures:
            return None if setback else LaneKey(selection.video, EXACT)
        if self._video.rung is None and self.link.local:
            self._video.rung = EXACT + 1  # most such links are fast, and to climb there would cost keyframes
        # More than the window lets through in a second need not fit.
        fps = min(fps, max(_SLOWEST_FPS, 1 / turnaround)) if turnaround else fps
        rung = max(EXACT + 1, self._video.judge(area, self.scene.video_costs, self.link, fps, now))
        if isinstance(options.quality, int):
            rung = nearest_rung(options.quality)
        rung = max(rung, setback)
        if not selection.pictures:
            return LaneKey(selection.video, min(rung, COARSEST))
        if rung > COARSEST or (options.codec == "auto" and not self._video_is_better(area, rung, now)):
            return None
        return LaneKey(selection.video, rung)

    def _video_is_better(self, area: int, rung: int, now: float) -> bool:
        costs, fps = self.scene.costs, self.scene.pace.fps
        pictures = self._pictures.judge(self._pixels, costs, self.link, fps, now)
        fit = fits(min(pictures, 1), self._pixels, costs, self.link, fps, 1.4)
        return self._medium.judge(self._pixels / area, pictures, rung, fit, now)

    def _relieve(self, area: int, lane: LaneKey | None, now: float) -> None:
        adaptive, link = self.scene.options.adaptive, self.link
        costs = self.scene.video_costs if lane else self.scene.costs
        share = 1.0 if lane else self._pixels / area
        full = max(self.scene.size[0] * self.scene.size[1], area) if adaptive else area

        def enough(step: Step, margin: float) -> bool:
            pixels, fps = share * full * step.scale**2, self.scene.pace.fps * step.fps * margin
            # A viewer that is slow is paced by its own acknowledgements; only its publisher can do more for it.
            draws = not adaptive or fps <= link.draws(costs.kind(COARSEST), pixels)
            return draws and link.allows(fps * costs.nbytes(COARSEST, pixels))

        self._relief.judge(enough, now, with_size=adaptive)
