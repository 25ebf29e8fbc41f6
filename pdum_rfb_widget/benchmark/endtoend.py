"""From `publish` to the canvas: the package's view in a real browser, compared with a bare pipeline of the same frames
and with a floor, the simplest view.

The thread that draws a canvas notes at each animation frame which number it shows; ping-pong messages synchronize the
clocks. The floor is the minimum of any such view: a worker draws one rectangle for a message of eight bytes.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from .. import server as hub
from .._testing.extras import extra
from ..display import Display
from ..types import Pixels, StreamOptions
from .bare import BarePipeline, to_bare
from .browser import Browser, Page, chromium
from .cases import CASES, Case, Frames, Kind
from .content import VIDEO_CONTENT, Film
from .harness import Harness
from .publishing import Published, duration, in_thread, publish_numbers
from .rows import Figures, Progress, Row, at_least, at_most, less, median, medians, percentile, ratio
from .video import Tapes, taped

WARM_UP = 1.5
"""Seconds of publishing before measurements start."""
BURST = 15
"""Number of moving frames before a picture comes to rest."""
_AFTERGLOW = 0.5
_BLIND = 2.0
_PATIENCE_MS = 2000

T = TypeVar("T")
Numbers = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Plan:
    """Duration and number of the measurements."""

    cases: str = "abcdehijklmno"
    contents: tuple[str, ...] = ("terrain",)
    video_contents: tuple[str, ...] = (VIDEO_CONTENT,)
    fps: float = 60
    spin: bool = False
    seconds: float = 5
    settles: int = 20
    """Repetitions for the cases about coming to rest."""
    other_settles: int = 3
    runs: int = 1
    starved: bool = False
    """The machine is made slow: only the limits on ratios to the bare pipeline hold."""

    @property
    def todo(self) -> list[tuple[Case, str]]:
        """Cases and their contents, grouped by content, which is rendered beforehand."""
        return [
            (case, content)
            for content in dict.fromkeys((*self.contents, *self.video_contents))
            for case in CASES
            if case.key in self.cases and content in (self.video_contents if case.video else self.contents)
        ]


def measure(progress: Progress, plan: Plan) -> tuple[list[Row], str]:
    """Measure all cases, each in the same run as a bare pipeline of its frames. Returns their rows, medians over the
    runs, and the browser's version."""
    if any(case.video for case, _ in plan.todo):
        extra("av")
    floors: dict[tuple[int, int], list[Numbers]] = {box: [] for box in sorted({case.box for case, _ in plan.todo})}
    found: dict[tuple[str, str], list[Numbers]] = {(case.key, content): [] for case, content in plan.todo}
    bare: dict[Frames, list[Numbers]] = {case.frames(content): [] for case, content in plan.todo}
    progress.add(sum(1 if case.once else plan.runs for case, _ in plan.todo) + plan.runs * len(floors))
    with chromium() as browser, Harness() as harness:
        for run in range(1, plan.runs + 1):
            stage = _Stage(browser, harness, plan, f"run {run} of {plan.runs}: ", progress)
            for box, runs in floors.items():
                runs.append(stage.floor(box))
            for case, content in plan.todo:
                if run > 1 and case.once:
                    continue
                case_stage, bare_runs = stage.publishing_as(case), bare[case.frames(content)]
                if len(bare_runs) < run:
                    bare_runs.append(case_stage.bare(case, content))
                figures = case_stage.measure(case, content)
                found[case.key, content].append(figures | to_bare(figures, bare_runs[-1]))
        version = browser.version
    floor = {box: medians(runs) for box, runs in floors.items()}
    ours = {case: medians(runs) for case, runs in found.items()}
    rows = [Row(_GROUPS["motion"], f"floor {w}x{h}", dict(floor[w, h])) for w, h in floor]
    rows += _bare_rows(plan, {frames: medians(runs) for frames, runs in bare.items()}, ours)
    for case, content in plan.todo:
        rows.append(_row(case, content, ours[case.key, content], floor[case.box]["p50_ms"], starved=plan.starved))
    return rows, version


# Rows -----------------------------------------------------------------------------------------------------------------

_GROUPS: dict[Kind, str] = {
    "motion": "from publish to canvas",
    "video": "from publish to canvas, as video",
    "rest": "from motion to exact",
    "half": "exact beside video",
}


def _bare_rows(plan: Plan, bare: Mapping[Frames, Numbers], ours: Mapping[tuple[str, str], Numbers]) -> Iterator[Row]:
    """For each table, a row for each kind of frames in it, named after the cases that publish these. It has the
    figures that these cases have too, and its latency."""
    cases: dict[tuple[Kind, str, Frames], list[str]] = {}
    for case, content in plan.todo:
        cases.setdefault((case.kind, content, case.frames(content)), []).append(case.key)
    for (kind, content, frames), keys in cases.items():
        names = {"p50_ms", *ours[keys[0], content]}
        figures: Figures = {name: value for name, value in bare[frames].items() if name in names}
        yield Row(_GROUPS[kind], f"bare pipeline of ({', '.join(keys)}), {content}", figures)


def _row(case: Case, content: str, figures: Numbers, floor_ms: float | None, *, starved: bool) -> Row:
    shown: Figures = {}
    for name, value in figures.items():
        shown[name] = value
        if name == "p50_ms":
            shown["p50_over_floor_ms"] = less(value, floor_ms)
    wanted = list(_wanted_beside_bare(case, figures, starved=starved))
    if not starved:
        wanted += _wanted(case, shown, floor_ms)
    words, held = ", ".join(words for words, _ in wanted), all(held for _, held in wanted)
    return Row(_GROUPS[case.kind], f"({case.key}) {case.title}, {content}", shown, words, held if wanted else None)


def _wanted_beside_bare(case: Case, figures: Numbers, *, starved: bool) -> Iterator[tuple[str, bool]]:
    """The limits of *case* on ratios to the bare pipeline, as `_wanted` has the others."""
    if limit := case.shown_to_bare or (case.starved_to_bare if starved else None):
        yield f"shown ≥ {limit:g} × bare", at_least(figures.get("shown_to_bare"), limit)
    if limit := case.costs_to_bare:
        costs = [figures.get(f"{name}_to_bare") for name in ("p50", "publisher", "browser")]
        yield f"its costs ≤ {limit:g} × bare", all(at_most(cost, limit) for cost in costs)


def _wanted(case: Case, figures: Figures, floor_ms: float | None) -> Iterator[tuple[str, bool]]:
    """Each limit of *case* in words, and whether it is met."""

    def figure(name: str) -> float | None:
        value = figures.get(name)
        return value if isinstance(value, (int, float)) else None

    if (limit := case.shown_per_s) is not None:
        yield f"≥ {limit:g} shown/s", at_least(figure("shown_per_s"), limit)
    if (limit := case.never_shown_percent) is not None:
        yield f"≤ {limit:g} % never", at_most(figure("never_shown_percent"), limit)
    if (limit := case.over_floor_ms) is not None:
        yield f"p50 ≤ floor + {limit:g} ms", at_most(figure("p50_over_floor_ms"), limit)
    if (limit := case.exact_ms) is not None:
        still_after = 1000 * (StreamOptions().still_after or 0)
        most = None if floor_ms is None else still_after + floor_ms + limit
        yield f"exact ≤ {still_after:g} + floor + {limit:g} ms", at_most(figure("exact_ms"), most)
    if (limit := case.jpeg_to_video) is not None:
        yield f"JPEG ≥ {limit:g} × the bytes", at_least(figure("jpeg_to_video"), limit)
    if case.fewest_keyframes:
        yield "a keyframe an encoder", at_most(figure("keyframes"), figure("encoders"))
    if (limit := case.changed_pixels) is not None:
        read = at_least(figure("readings"), 1)
        yield f"{limit:g} pixels of the other half", read and figure("changed_pixels") == limit


# One measurement ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Scene:
    """A film, the page that shows it, and the stream or the bare pipeline between them."""

    film: Film
    page: Page
    offset: float
    """The page's clock minus ours, in seconds."""
    publish: Callable[[Pixels], object]
    counter: Callable[[str], int]
    """Returns the metric of a name, such as ``bytes_sent``."""
    tapes: Tapes


class _Stage:
    """Runs measurements one after another, each with a new page and a new stream."""

    def __init__(self, browser: Browser, harness: Harness, plan: Plan, prefix: str, progress: Progress) -> None:
        self._browser = browser
        self._harness = harness
        self._plan = plan
        self._prefix = prefix
        self._progress = progress

    def publishing_as(self, case: Case) -> _Stage:
        """A stage that publishes as *case* requires."""
        plan = replace(self._plan, fps=case.rate * self._plan.fps, spin=case.spins)
        return _Stage(self._browser, self._harness, plan, self._prefix, self._progress)

    def floor(self, size: tuple[int, int]) -> Numbers:
        """Figures of the floor, the simplest view, at this *size*."""
        self._progress.step(f"{self._prefix}floor {size[0]}x{size[1]}")
        with self._page(size) as (page, offset):
            page.call("bench.openFloor", self._harness.socket("floor"), *size)
            send = self._harness.floor()
            self._publish(self._warm_up, int, send)
            published = self._publish(self._counted, int, send)
            return self._latencies(published, page, offset)

    def bare(self, case: Case, content: str) -> Numbers:
        """Figures of the bare pipeline with the frames of a *case*."""
        self._progress.add(1)
        self._progress.step(f"{self._prefix}bare pipeline of ({case.key}), {content}")
        film = Film(content, case.motion, *case.size)
        with self._page(case.box) as (page, offset):
            page.call("bench.openBare", self._harness.socket("bare"), *case.size, *film.place)
            pipeline = BarePipeline(self._harness.connected("bare"))
            self._publish(self._warm_up, film.frame, pipeline.publish)
            scene = _Scene(film, page, offset, pipeline.publish, pipeline.counter, Tapes())
            return self._moving(scene) | self._unwatched(scene)

    def measure(self, case: Case, content: str) -> Numbers:
        """The figures of a *case*."""
        self._progress.step(f"{self._prefix}({case.key}) {case.title}, {content}")
        film = Film(content, case.motion, *case.size)
        kinds = {"motion": self._motion, "video": self._video, "rest": self._rest, "half": self._half}
        with taped() as tapes, self._page(case.box) as (page, offset), self._stream(case, film, page) as display:
            self._publish(self._warm_up, film.frame, display.publish)
            scene = _Scene(film, page, offset, display.publish, partial(counter, display), tapes)
            return kinds[case.kind](scene)

    # Kinds, each after its warm-up ------------------------------------------------------------------------------------

    def _motion(self, scene: _Scene) -> Numbers:
        """Figures of a view of moving frames, and the time that it then takes to become exact."""
        figures = self._moving(scene) | self._unwatched(scene)
        return figures | {"exact_ms": median(self._settle(scene, self._plan.other_settles, self._blind.stop))}

    def _video(self, scene: _Scene) -> Numbers:
        """The same for video, and its size and quality compared with JPEG."""
        scene.tapes.begin()
        figures = self._moving(scene) | self._unwatched(scene)
        del figures["published"], figures["page_frames_per_s"]
        figures |= scene.tapes.judge(scene.film.frame, scene.film.place)
        figures["jpeg_to_video"] = ratio(figures["jpeg_bytes"], figures["video_bytes"])
        return figures | {"encoders": scene.tapes.encoders, "keyframes": scene.tapes.keyframes}

    def _rest(self, scene: _Scene) -> Numbers:
        """Time after a burst of motion until the canvas is exact."""
        exact = self._settle(scene, self._plan.settles, self._warm_up.stop)
        known = [value for value in exact if value is not None]
        p95 = percentile(known, 0.95) if len(known) == len(exact) else None
        missing = len(exact) - len(known)
        return {"settles": len(exact), "not_within_2_s": missing, "exact_ms": median(exact), "exact_p95_ms": p95}

    def _half(self, scene: _Scene) -> Numbers:
        """Number of pixels in the half at rest that change, at any reading, once all are exact."""
        film, page = scene.film, scene.page
        still = film.frame(self._warm_up.stop)[:, : film.place[0]]
        height, width = still.shape[:2]
        page.call("bench.guard", self._harness.expected(still), 0, 0, width, height)
        figures = self._moving(scene)
        guarded = page.call("bench.guarded")
        return self._unwatched(scene) | {
            **{name: figures[name] for name in ("shown_per_s", "p50_ms", "bytes_per_frame")},
            "readings": guarded["readings"],
            "changed_pixels": guarded["changed"],
        }

    # Its parts --------------------------------------------------------------------------------------------------------

    @property
    def _warm_up(self) -> range:
        return range(1, 1 + round(WARM_UP * self._plan.fps))

    @property
    def _counted(self) -> range:
        first = self._warm_up.stop
        return range(first, first + round(self._plan.seconds * self._plan.fps))

    @property
    def _blind(self) -> range:
        first = self._counted.stop
        return range(first, first + round(min(_BLIND, self._plan.seconds) * self._plan.fps))

    @contextmanager
    def _page(self, size: tuple[int, int]) -> Iterator[tuple[Page, float]]:
        """A new page with a stage of *size*, and its clock minus ours in seconds."""
        with self._browser.page(self._harness.page, size) as page:
            page.wait_for("window.bench")
            page.call("bench.openClock", self._harness.socket("clock"))
            yield page, self._harness.clock_offset()

    @contextmanager
    def _stream(self, case: Case, film: Film, page: Page) -> Iterator[Display]:
        """A stream that *page* shows."""
        with serve(case.size, **case.options) as display:
            display.publish(film.frame(0))
            page.call("bench.openView", display.ws_url, display.server.token, *film.place)
            page.wait_for("document.querySelector('.rfb-has-picture')")
            yield display

    def _publish(self, numbers: range, prepare: Callable[[int], T], send: Callable[[T], object]) -> Published:
        return in_thread(lambda: publish_numbers(numbers, self._plan.fps, prepare, send, spin=self._plan.spin))()

    def _moving(self, scene: _Scene) -> Numbers:
        """Costs of moving frames, and when they are shown."""
        sent, cpu = scene.counter("bytes_sent"), time.process_time()
        published = self._publish(self._counted, scene.film.frame, scene.publish)
        cpu, sent = time.process_time() - cpu, scene.counter("bytes_sent") - sent
        figures = self._latencies(published, scene.page, scene.offset)
        figures["bytes_per_frame"] = sent / len(published.at)
        figures["cpu_ms_per_frame"] = 1000 * cpu / len(published.at)
        return figures

    def _latencies(self, published: Published, page: Page, offset: float) -> Numbers:
        """Times from just before `publish` to the first animation frame with that number.

        A number followed by another within one animation frame was never shown.
        """
        time.sleep(_AFTERGLOW)
        order = {number: place for place, number in enumerate(published.at)}
        start, seconds = min(published.at.values()), duration(self._counted, self._plan.fps)
        waits, frames, before = [], 0, -1
        for number, at_ms in page.call("bench.take"):
            at = at_ms / 1000 - offset
            frames += start <= at < start + seconds
            place = order.get(number, -1)
            if place > before:
                waits.append(1000 * (at - published.at[number]))
                before = place
        shown = len(waits) / (before + 1) if waits else 0.0
        return {
            "published": len(published.at),
            "page_frames_per_s": frames / seconds,
            "shown_per_s": shown * len(published.at) / seconds,
            "never_shown_percent": 100 * (1 - shown),
            "p50_ms": percentile(waits, 0.5),
            "p95_ms": percentile(waits, 0.95),
        }

    def _unwatched(self, scene: _Scene) -> Numbers:
        """Payloads per second that the view draws and acknowledges while nothing reads its canvas, and the processor
        time of this process and of the browser for each."""
        scene.page.call("bench.openEyes", False)
        acked, ours, browsers = scene.counter("frames_acked"), time.process_time(), self._browser.processor_times()
        self._publish(self._blind, scene.film.frame, scene.publish)
        ours = time.process_time() - ours
        browser = sum(spent - browsers.get(id, 0) for id, spent in self._browser.processor_times().items())
        acked = scene.counter("frames_acked") - acked
        return {
            "acked_unwatched_per_s": acked / duration(self._blind, self._plan.fps),
            "publisher_ms_per_shown": ratio(1000 * ours, acked),
            "browser_ms_per_shown": ratio(1000 * browser, acked),
        }

    def _settle(self, scene: _Scene, times: int, first: int) -> list[float | None]:
        """Milliseconds from the last publish of a burst until the canvas is exact, for *times* bursts."""
        exact: list[float | None] = []
        film, page = scene.film, scene.page
        for start in range(first, first + times * BURST, BURST):
            last = start + BURST - 1
            height, width = film.frame(last).shape[:2]
            page.call("bench.expect", self._harness.expected(film.frame(last)), width, height)
            published = self._publish(range(start, start + BURST), film.frame, scene.publish)
            shown = page.call("bench.exact", _PATIENCE_MS)
            at = published.at.get(last)
            exact.append(None if shown is None or at is None else shown - 1000 * (at + scene.offset))
        return exact


def serve(size: tuple[int, int], **options: Any) -> Display:
    """A display on any free port of loopback that sends no statistics."""
    return hub.serve(*size, port=0, stats_interval=None, **options)


def counter(display: Display, name: str) -> int:
    """The metric *name*, such as ``bytes_sent``, from the hub's HTTP API, summed over all viewers."""
    url = f"http://127.0.0.1:{display.port}/streams/{display.name}/metrics"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {display.server.token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return sum(viewer[name] for viewer in json.load(answer))
