"""Many viewers of one stream: what each costs, and whether a bad one harms the others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from .clients import Clients, Count, clients
from .content import Film
from .endtoend import HD, serve
from .publishing import Published, ThreadClocks, in_thread, publish_numbers
from .rows import Figures, Progress, Row, at_most, less, ratio

FPS = 30
_WARM_UP = 1.0
_AFTERGLOW = 0.3
_GROUP = f"viewers of 720p in motion at {FPS} fps, lossy"
_JUDGED = "what one more viewer costs, and a bad one"

ENCODE_RATIO = 1.1
HUB_MS = 0.3
LOST_PERCENT = 5.0


@dataclass(frozen=True, slots=True)
class _Costs:
    """Of one run; milliseconds of processor time for each published frame."""

    encode_ms: float
    hub_ms: float
    publish_ms: float
    lost_percent: list[float]
    """By viewer: published frames of which it got nothing."""

    @property
    def figures(self) -> Figures:
        costs = {"encode_ms_per_frame": self.encode_ms, "hub_ms_per_frame": self.hub_ms}
        return {**costs, "publish_ms_per_frame": self.publish_ms, "worst_lost_percent": max(self.lost_percent)}


def measure(progress: Progress, *, viewers: Sequence[int], content: str, seconds: float) -> list[Row]:
    """A row for each number of *viewers*, one for what the most of them cost, and those with one bad viewer."""
    progress.add(len(viewers) + 2)
    film = Film(content, "full", *HD)
    rows, costs = [], {}
    for count in sorted(set(viewers)):
        progress.step(_viewers(count))
        costs[count] = _run(film, count, seconds)
        rows.append(Row(_GROUP, _viewers(count), costs[count].figures))
    if len(costs) > 1:
        rows += _growth(min(costs), max(costs), costs)
    progress.step("one viewer of eight stopped")
    rows.append(_with_one_bad("the other seven, one of eight stopped", film, 8, seconds, stopped=True))
    progress.step("one viewer of four at half the rate")
    rows.append(_with_one_bad("the other three, one of four at half rate", film, 4, seconds, most_per_s=FPS / 2))
    return rows


def _viewers(count: int) -> str:
    return f"{count} viewer{'s' * (count > 1)}"


def _growth(few: int, many: int, costs: dict[int, _Costs]) -> list[Row]:
    grown = ratio(costs[many].encode_ms, costs[few].encode_ms)
    hub_ms = less(costs[many].hub_ms, costs[few].hub_ms)
    each = None if hub_ms is None else hub_ms / (many - few)
    steps = f"from {few} to {_viewers(many)}"
    times, cost = f"≤ {ENCODE_RATIO:g} times", f"≤ {HUB_MS:g} ms a viewer more"
    hub_figures: Figures = {"hub_ms_per_frame_and_viewer": each}
    return [
        Row(_JUDGED, f"encoding {steps}", {"times": grown}, times, at_most(grown, ENCODE_RATIO)),
        Row(_JUDGED, f"hub {steps}", hub_figures, cost, at_most(each, HUB_MS)),
    ]


def _with_one_bad(name: str, film: Film, count: int, seconds: float, **behaviour: Any) -> Row:
    lost = max(_run(film, count, seconds, **behaviour).lost_percent[:-1])
    wanted = f"each loses ≤ {LOST_PERCENT:g} %"
    return Row(_JUDGED, name, {"worst_lost_percent": lost}, wanted, at_most(lost, LOST_PERCENT))


def _run(film: Film, count: int, seconds: float, **behaviour: Any) -> _Costs:
    with ExitStack() as stack:
        # Never exact: that would cost encoding in the pauses in which frames are counted.
        display = stack.enter_context(serve(HD, quality="lossy", fps=FPS, still_after=None))
        display.publish(film.frame(0))
        viewers = stack.enter_context(clients(display, count, **behaviour))

        def publish(first: int, duration: float) -> Published:
            numbers = range(first, first + round(duration * FPS))
            return in_thread(lambda: publish_numbers(numbers, FPS, film.frame, display.publish))()

        last = max(publish(1, _WARM_UP).at)
        before, clocks = _counts(viewers), ThreadClocks()
        published = publish(last + 1, seconds)
        encode, hub = clocks.seconds("rfb-encoder"), clocks.seconds("rfb-hub")
        after = _counts(viewers)
    frames = len(published.at)
    lost = [100 * max(0.0, 1 - (b.frames - a.frames) / frames) for a, b in zip(before, after, strict=True)]
    return _Costs(1000 * encode / frames, 1000 * hub / frames, 1000 * published.cpu / frames, lost)


def _counts(viewers: Clients) -> list[Count]:
    time.sleep(_AFTERGLOW)
    return viewers.counts()
