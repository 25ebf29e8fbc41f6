"""Costs without changes: pictures at rest, pictures of which a region moves, and an idle hub."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .cases import FULL_HD, HD
from .clients import FORMATS, VIDEO_FORMATS, Clients, clients
from .content import Film
from .endtoend import BURST, counter, serve
from .publishing import in_thread, publish_numbers
from .rows import Figures, Progress, Row, at_most, ratio

FPS = 30
STILL_FRAMES = 120
_WARM_UP = 1.0
_AFTERGLOW = 0.3
_STILL = "nothing new, one viewer"
_REGION = f"a region of 1080p at {FPS} fps, one viewer"

BYTES_SHARE = 0.1
CPU_SHARE = 0.25
IDLE_PERCENT = 0.3


def measure_still(progress: Progress, *, content: str, video_content: str | None) -> list[Row]:
    """An unchanged frame published repeatedly, after motion: as pictures, and as video unless its content is None."""
    progress.add(2 if video_content else 1)
    progress.step("a frame that stands still")
    rows = [_still(f"(f) the same 720p frame, {content}", content, FORMATS, {})]
    if video_content:
        progress.step("a frame of video that stands still")
        name = f"(m) the same 720p frame, H.264, {video_content}"
        rows.append(_still(name, video_content, VIDEO_FORMATS, {"codec": "h264"}))
    return rows


def _still(name: str, content: str, formats: Sequence[str], options: dict[str, Any]) -> Row:
    film = Film(content, "full", *HD)
    with serve(HD, **options) as display, clients(display, 1, formats=formats) as viewers:
        moved = in_thread(lambda: publish_numbers(range(BURST), 60, film.frame, display.publish))()
        _wait_for_rest(viewers)
        still = film.frame(max(moved.at))
        before, cpu = counter(display, "bytes_sent"), time.process_time()
        in_thread(lambda: publish_numbers(range(STILL_FRAMES), 60, lambda n: still, display.publish))()
        cpu = time.process_time() - cpu
        time.sleep(_AFTERGLOW)
        sent = counter(display, "bytes_sent") - before
    figures = {"published": STILL_FRAMES, "bytes": sent, "cpu_ms_per_frame": 1000 * cpu / STILL_FRAMES}
    return Row(_STILL, name, dict(figures), "0 bytes", sent == 0)


def measure_region(progress: Progress, *, content: str, seconds: float) -> list[Row]:
    """A moving region of 1080p, compared with the same frames sent whole, and with frames that move as a whole."""
    progress.add(3)
    progress.step("a region that moves")
    region = _run(Film(content, "region", *FULL_HD), seconds, FORMATS)
    progress.step("a region that moves, sent as whole pictures")
    whole = _run(Film(content, "region", *FULL_HD), seconds, ("image/jpeg", "image/png"))
    progress.step("everything moves")
    full = _run(Film(content, "full", *FULL_HD), seconds, FORMATS)
    rows = [
        Row(_REGION, f"200x200 of 1080p move, {content}", region.figures),
        Row(_REGION, f"the same to a viewer without tiles, {content}", whole.figures),
        Row(_REGION, f"all of 1080p moves, {content}", full.figures),
    ]
    for name, other in (("the same as whole pictures", whole), ("all that moves", full)):
        size, work = ratio(region.bytes, other.bytes), ratio(region.cpu_ms, other.cpu_ms)
        held = at_most(size, BYTES_SHARE) and at_most(work, CPU_SHARE)
        wanted = f"bytes ≤ {BYTES_SHARE:g}, processor ≤ {CPU_SHARE:g}"
        rows.append(Row(_REGION, f"(g) region to {name}", {"bytes_share": size, "cpu_share": work}, wanted, held))
    return rows


def measure_idle(progress: Progress, *, content: str, seconds: float) -> list[Row]:
    """Processor use of a hub with one viewer while nothing is published, and the data it sends."""
    progress.add(1)
    progress.step(f"{seconds:g} s of nothing")
    with serve(HD) as display, clients(display, 1) as viewers:
        display.publish(Film(content, "still", *HD).frame(0))
        before = _wait_for_rest(viewers)
        cpu, started = time.process_time(), time.perf_counter()
        time.sleep(seconds)
        share = 100 * (time.process_time() - cpu) / (time.perf_counter() - started)
        payloads = viewers.counts()[0].payloads - before
    figures = {"seconds": seconds, "cpu_percent": share, "payloads": payloads}
    wanted = f"≤ {IDLE_PERCENT:g} % of a core, 0 payloads"
    held = at_most(share, IDLE_PERCENT) and payloads == 0
    return [Row(_STILL, "nothing published", dict(figures), wanted, held)]


# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Costs:
    """Costs per published frame."""

    bytes: float
    cpu_ms: float
    lost_percent: float

    @property
    def figures(self) -> Figures:
        sent = {"bytes_per_frame": round(self.bytes), "cpu_ms_per_frame": self.cpu_ms}
        return {**sent, "lost_percent": self.lost_percent}


def _run(film: Film, seconds: float, formats: Sequence[str]) -> _Costs:
    """Publish to one viewer that accepts *formats*; processor time covers publisher and hub."""
    with serve(FULL_HD, fps=FPS) as display, clients(display, 1, formats=formats) as viewers:
        display.publish(film.frame(0))
        first, last = 1 + round(_WARM_UP * FPS), 1 + round((_WARM_UP + seconds) * FPS)
        in_thread(lambda: publish_numbers(range(1, first), FPS, film.frame, display.publish))()
        before, sent, cpu = viewers.counts()[0], counter(display, "bytes_sent"), time.process_time()
        published = in_thread(lambda: publish_numbers(range(first, last), FPS, film.frame, display.publish))()
        cpu, sent = time.process_time() - cpu, counter(display, "bytes_sent") - sent
        frames = viewers.counts()[0].frames - before.frames
    count = len(published.at)
    return _Costs(sent / count, 1000 * cpu / count, 100 * max(0.0, 1 - frames / count))


def _wait_for_rest(viewers: Clients, patience: float = 10) -> int:
    """Wait until nothing arrives for a second. Returns the number of payloads until then."""
    deadline = time.monotonic() + patience
    payloads = -1
    while (now := viewers.counts()[0].payloads) != payloads or now == 0:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the stream sent {now} payloads and did not come to rest within {patience:g} s")
        payloads = now
        time.sleep(1)
    return payloads
