"""Chooses the quality that a viewer gets, and limits its cost. Pure: every sending and acknowledgement is an input.

- `CostModel` learns what a pixel of a stream costs at each rung: bytes, and time to encode.
- `BandwidthEstimator` measures the bandwidth and latency to one viewer, and keeps its byte budget.
- `Ladder` picks the rung: exact while bandwidth and viewer allow the publish rate, else one of four qualities.

`processor` estimates what a frame costs the viewer, `degradation` decides what to do where no rung fits. All belong to
the hub's thread. Times are seconds, sizes bytes.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field

from ...limits import TokenBucket
from .hysteresis import Hysteresis
from .processor import FORGETS, LARGE, Kind, ViewerProcessor

QUALITIES = (90, 78, 62, 45)
"""JPEG and WebP quality of rungs 1 to 4; rung 0 is exact. Each takes some two thirds of the previous one's bytes."""

QUANTIZERS = (0, 21, 25, 31, 36)
"""H.264's quantization parameter at each rung, near the PSNR of the JPEG there."""

EXACT, COARSEST = 0, len(QUALITIES)

LOCAL_MARGIN = 3.0
"""A local connection is unlimited while it is this many times as fast as needed."""
LOCAL_FAST = 12.5e6
"""Bytes a second from which cutting messages on a local connection gains nothing: 1 MB takes 80 ms there."""
FRAME_LATENCY = 0.1
"""Most seconds of transfer for a frame at limited bandwidth, while a lower rung would take less."""

_SLOWEST_FPS = 10.0
"""Lowest frame rate that a stream is judged by: its frames must not take longer even if it publishes more rarely."""
_BURST = 0.25
"""Seconds of budget that may be saved up."""
_MIN_SAMPLE = 16 * 1024
"""Bytes below which a message says more about latency than about bandwidth."""
_VISIBLE = 0.01
"""Seconds of transfer from which even a small message measures the bandwidth to another machine."""
_RATE_WINDOW = 5.0
"""Seconds for which the best measured rate stands: whatever delays an acknowledgement, bandwidth is that high."""
_BUSY = 0.75
"""The share of the time between frames that an encoder or a viewer may spend on one."""


class CostModel:
    """The cost of a pixel of the stream at each rung, learned from what was encoded; guesses until then."""

    def __init__(self, *, video: bool = False) -> None:
        self._video = video
        self._bytes = [0.5, 0.04, 0.025, 0.013, 0.008] if video else [1.2, 0.30, 0.20, 0.13, 0.09]
        self._seconds = [4e-9] * 5 if video else [5e-9, 2e-9, 2e-9, 2e-9, 2e-9]

    def kind(self, rung: int) -> Kind:
        """Returns what a viewer decodes at *rung*."""
        return "video" if self._video else "exact" if rung == EXACT else "lossy"

    def learn(self, rung: int, pixels: int, nbytes: int, seconds: float) -> None:
        """Learns from a region of this many *pixels* that was encoded at *rung*."""
        # A tile says little about a whole frame: its weight is its share of a quarter megapixel.
        weight = 0.3 * min(1.0, pixels / LARGE)
        for costs, measured in ((self._bytes, nbytes / pixels), (self._seconds, seconds / pixels)):
            before = costs[rung]
            costs[rung] += weight * (measured - before)
            if rung != EXACT:
                # Content that is easy or hard at one quality is so at the others, which may not be in use to learn it.
                for other in set(range(1, COARSEST + 1)) - {rung}:
                    costs[other] *= costs[rung] / before
        for other in range(rung):
            self._seconds[other] *= FORGETS

    def nbytes(self, rung: int, pixels: float) -> float:
        return self._bytes[rung] * pixels

    def seconds(self, rung: int, pixels: float) -> float:
        return self._seconds[rung] * pixels


class PublishRate:
    """The rate at which the stream publishes, and the versions that are at rest."""

    def __init__(self, still_after: float | None = None) -> None:
        self.still_after = still_after
        self._interval = 1 / 30
        self._times: deque[tuple[int, float]] = deque([(0, -math.inf)])

    def published(self, version: int, at: float) -> None:
        """Records that the frame *version* was published *at* this time; versions before it may be missing."""
        last, last_at = self._times[-1]
        if version <= last:
            return
        interval = (at - last_at) / (version - last)
        # A pause between two bursts says nothing about the rate of either.
        if 0 < interval < 1 / _SLOWEST_FPS:
            self._interval += 0.2 * (interval - self._interval)
        self._times.append((version, at))
        # The last version that is at rest stays, so that `at_rest` can return it.
        while len(self._times) > 1 and self._times[1][1] + (self.still_after or 0.0) <= at:
            self._times.popleft()

    @property
    def fps(self) -> float:
        return max(_SLOWEST_FPS, 1 / self._interval)

    def at_rest(self, now: float) -> int:
        """Returns the newest version that is at least `still_after` seconds old; -1 where nothing settles."""
        if self.still_after is None:
            return -1
        return next((version for version, at in reversed(self._times) if at + self.still_after <= now), -1)

    def rests_at(self, version: int) -> float:
        """Returns when *version* comes to rest if nothing changes before; infinity where nothing settles."""
        if self.still_after is None:
            return math.inf
        at = bisect_left(self._times, (version, -math.inf))
        return (self._times[at][1] if at < len(self._times) else -math.inf) + self.still_after


@dataclass(slots=True)
class BandwidthEstimator:
    """The bandwidth and latency to one viewer, and the budget of what may be sent."""

    local: bool
    """True if the page's host is this machine."""
    bitrate: int
    """Most bits a second where the connection is not unlimited."""
    latency: float = math.inf
    """Seconds for a round trip without payload: the least that was measured."""
    last_rate: float = 0.0
    """The latest nonzero `rate`: a pause makes no connection faster."""
    _rates: deque[tuple[float, float]] = field(default_factory=deque)
    """Times and rates of measurements; the best, which is also the oldest, first."""
    _needed: float = math.inf
    _limited: float = field(init=False)
    """Bytes a second that may be sent where the connection is not unlimited."""
    _bucket: TokenBucket = field(init=False)

    def __post_init__(self) -> None:
        self._limited = self.bitrate / 8
        self._bucket = TokenBucket(self._limited, _BURST * self._limited, -math.inf)

    @property
    def rate(self) -> float:
        """Bytes a second, the best of the last seconds; 0 while nothing was measured."""
        return self._rates[0][1] if self._rates else 0.0

    @property
    def budget(self) -> float:
        """Bytes a second that may be sent; infinite on a local connection that is fast enough."""
        return self._bucket.rate

    @property
    def narrow(self) -> float:
        """Bytes a second at which large messages delay others; infinite on a local connection, unless it was measured
        to be slow, as a forwarded port may be."""
        if self.local and not 0 < self.last_rate < LOCAL_FAST:
            return math.inf
        return self.last_rate or self._limited

    def need(self, rate: float) -> None:
        """Records that the stream needs *rate* bytes a second for this viewer."""
        if rate != self._needed:
            self._needed = rate
            self._judge()

    def allow(self, bitrate: int) -> None:
        """Sends at most *bitrate* bits a second from now on."""
        self.bitrate = bitrate
        self._judge()

    def _judge(self) -> None:
        """Decides how much may be sent, and if it is unlimited: with each need and with each measurement, or what was
        sent before the first measurement would have to be paid for at a guessed rate. Not for each payload: with many
        viewers `next_send` is called far more often."""
        self._limited = min(self.bitrate / 8, self.rate / 2) if self._rates else self.bitrate / 8
        margin = LOCAL_MARGIN * (0.7 if math.isinf(self.budget) else 1.0)  # clearly worse, to be limited again
        unlimited = self.local and self.rate >= margin * self._needed
        self._bucket.rate = math.inf if unlimited else self._limited
        self._bucket.burst = _BURST * self._bucket.rate

    @property
    def flow(self) -> float:
        """Bytes a second at which frames pass: the budget, or what was measured where that is unlimited."""
        return min(self.budget, self.last_rate or math.inf)

    def allows(self, rate: float) -> bool:
        """True if the budget is enough for a stream of *rate* bytes a second."""
        return rate <= self._limited or (self.local and self.rate >= LOCAL_MARGIN * rate)

    # Input ------------------------------------------------------------------------------------------------------------

    def sent(self, nbytes: int, now: float) -> None:
        self._bucket.spend(nbytes, now)

    def acknowledged(self, nbytes: int, way: float, now: float) -> None:
        """Learns from a message that was on its *way*, there and back, for so many seconds: without those for which
        the viewer says that it had the message."""
        # A ping that met a busy viewer overstates the latency: count at least an eighth of the time as transfer.
        seconds = max(way - self.latency, way / 8, 1e-4) if math.isfinite(self.latency) else max(way, 1e-4)
        rate = nbytes / seconds
        seen = not self.local and way - self.latency > _VISIBLE
        if nbytes >= _MIN_SAMPLE or seen or 0 < self.rate < rate:
            # Only a rate that no later one beats can be the best of a window.
            while self._rates and self._rates[-1][1] <= rate:
                self._rates.pop()
            self._rates.append((now, rate))
        # Even the last one expires: after a bad moment messages may be too small to show that it is over.
        while self._rates and self._rates[0][0] < now - _RATE_WINDOW:
            self._rates.popleft()
        self.last_rate = self.rate or self.last_rate
        self._judge()

    # Output -----------------------------------------------------------------------------------------------------------

    def next_send(self, now: float, nbytes: float = 0.0) -> float:
        """Returns when the budget has room: for a frame once not overdrawn, for a still once it holds *nbytes*."""
        return self._bucket.fits_at(nbytes, now)


@dataclass(slots=True)
class Ladder:
    """One viewer's rung, with hysteresis: down when frames can't keep up, up after they could have for a while."""

    PATIENCE = (0.5, 16.0)
    """Least and most seconds that a better rung must have fitted before it is tried: a rung costs little to try."""
    FAILING = 0.25
    """Seconds for which a rung may not fit before the next is taken."""

    careful: bool = False
    """True to climb one rung at a time: each costs a keyframe, and the cost of the new rung is a guess."""
    rung: int | None = None
    """0 is exact, 1 to 4 index `QUALITIES`; None before the first frame."""
    _hysteresis: Hysteresis = field(default_factory=lambda: Hysteresis(*Ladder.PATIENCE, Ladder.FAILING))

    def judge(
        self,
        pixels: float,
        costs: CostModel,
        bandwidth: BandwidthEstimator,
        processor: ViewerProcessor,
        fps: float,
        now: float,
    ) -> int:
        """Returns the rung for frames of which *pixels* change at *fps*."""

        def keeps_up(rung: int, margin: float) -> bool:
            return fits(rung, pixels, costs, bandwidth, processor, fps, margin)

        best = next((rung for rung in range(COARSEST) if keeps_up(rung, 1.0)), COARSEST)
        if self.rung is None:
            self.rung = best
        if best > self.rung:
            if self._hysteresis.moves("worse", now):
                self.rung = best
            return self.rung
        better = [rung for rung in range(self.rung) if keeps_up(rung, 1.4)]
        if self._hysteresis.moves("better" if better else None, now):
            self.rung = better[-1 if self.careful else 0]
        return self.rung


def fits(
    rung: int,
    pixels: float,
    costs: CostModel,
    bandwidth: BandwidthEstimator,
    processor: ViewerProcessor,
    fps: float,
    margin: float,
) -> bool:
    """True if frames of this many *pixels* at *rung* keep up with *fps*, in bandwidth, viewer and encoder."""
    if not bandwidth.allows(margin * fps * costs.nbytes(rung, pixels)):
        return False
    if costs.kind(rung) == "video":
        return True  # a coarser rung is hardly quicker to encode or to draw
    busy = processor.busy(processor.seconds(costs.kind(rung), pixels), costs.seconds(rung, pixels))
    return busy <= _BUSY / (fps * margin)
