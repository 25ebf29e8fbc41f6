"""Records what a real browser makes of a stream, for test_adaptive: python tests/record_traces.py [NAME...]

Each trace is the list of calls that the rungs and budgets of one viewer were told of, in order. That of `one-core` has
those that choose between images and video, of a hub and a page that share one core with a busy loop.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hosts import chromium
from pages import show
from playwright.sync_api import Browser
from relay import SlowLink

import pdum_rfb_widget as rfb
from pdum_rfb_widget._core.policy.bandwidth import BandwidthEstimator, CostModel, Ladder, PublishRate
from pdum_rfb_widget._core.policy.processor import ViewerProcessor
from pdum_rfb_widget.benchmark.content import Film
from pdum_rfb_widget.benchmark.starved import starved

TRACES = Path(__file__).parent / "traces"
RUNGS, PATHS = ("learn", "acknowledged", "sent", "drew", "need", "judge"), ("learn", "learn_video", "drew", "published")
"""The calls that choose rungs and budgets, and those that choose between images and video."""


@dataclass(frozen=True)
class Scene:
    kept: tuple[str, ...] = RUNGS
    rate: float = 1e12
    """Bytes a second of the link."""
    height: int = 720
    fps: int = 30
    seconds: int = 6
    machine: Callable[[], AbstractContextManager[object]] = nullcontext


SCENES = {
    "loopback": Scene(),
    "tunnel-20-mbit": Scene(rate=2.5e6),
    "tunnel-2-mbit": Scene(rate=2.5e5),
    "one-core": Scene(PATHS, height=1080, fps=60, seconds=4, machine=starved),
}


def main() -> None:
    calls: list[list[Any]] = []
    for owner, name in (
        (CostModel, "learn"),
        (BandwidthEstimator, "acknowledged"),
        (BandwidthEstimator, "sent"),
        (ViewerProcessor, "drew"),
        (PublishRate, "published"),
        (BandwidthEstimator, "need"),
        (Ladder, "judge"),
    ):
        setattr(owner, name, _recorded(getattr(owner, name), name, calls))
    TRACES.mkdir(exist_ok=True)
    for name in sys.argv[1:] or SCENES:
        with SCENES[name].machine(), chromium() as browser:
            start = record(SCENES[name], browser, calls)
        lines = [json.dumps([_short(value, start) for value in call]) for call in calls if call[0] in SCENES[name].kept]
        (TRACES / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        print(name, len(lines), "calls, rung", next(call[1] for call in reversed(calls) if call[0] == "judge"))


def record(scene: Scene, browser: Browser, calls: list[list[Any]]) -> float:
    """Fills *calls* with those of one scene; returns when it began."""
    width = scene.height * 16 // 9
    film = Film("terrain", "full", width, scene.height)
    with (
        rfb.serve(width, scene.height, port=0, stats_interval=None, still_after=None) as display,
        SlowLink(display.port, scene.rate) as link,
    ):
        page = browser.new_page()
        show(page, display, url=f"ws://127.0.0.1:{link.port}/{display.name}")
        calls.clear()
        start = time.monotonic()
        for number in range(scene.fps * scene.seconds):
            time.sleep(max(0.0, start + number / scene.fps - time.monotonic()))
            display.publish(film.frame(number))
        page.close()
    return start


def _recorded(method: Callable[..., Any], name: str, calls: list[list[Any]]) -> Callable[..., Any]:
    def call(self: Any, *args: Any) -> Any:
        answer = method(self, *args)
        plain = [arg for arg in args if isinstance(arg, (int, float, str, type(None)))]
        video = isinstance(self, CostModel) and self.kind(0) == "video"
        calls.append([name, answer, *plain] if name == "judge" else [name + video * "_video", *plain])
        return answer

    return call


def _short(value: Any, start: float) -> Any:
    """Times as seconds since the *start*; all but times are less than what the clock shows."""
    if isinstance(value, float):
        return round(float(np.float64(value - start if value > 0.9 * start else value)), 9)
    return value


if __name__ == "__main__":
    main()
