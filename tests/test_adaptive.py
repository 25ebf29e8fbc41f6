"""Rungs and budgets, by lists of what was sent and acknowledged."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pdum_rfb_widget._core.policy.bandwidth import COARSEST, EXACT, BandwidthEstimator, CostModel, Ladder, PublishRate
from pdum_rfb_widget._core.policy.delivery import DeliveryPolicy
from pdum_rfb_widget._core.policy.processor import Kind, ViewerProcessor
from pdum_rfb_widget._core.stream_state import StreamState
from pdum_rfb_widget.protocol import negotiate
from pdum_rfb_widget.types import StreamOptions

MB = 1e6
HD, FULL_HD = 1280 * 720, 1920 * 1080


def measured(rate: float, *, local: bool = True, bitrate: int = 12_000_000) -> BandwidthEstimator:
    """A link on which a message just went at *rate* bytes a second."""
    link = BandwidthEstimator(local, bitrate, latency=0.001)
    link.acknowledged(100_000, 0.001 + 100_000 / rate, 0.0)
    return link


# Rate and budget ------------------------------------------------------------------------------------------------------


def test_the_rate_is_that_of_the_way_without_latency() -> None:
    link = BandwidthEstimator(local=True, bitrate=12_000_000, latency=0.05)
    link.acknowledged(1_000_000, 0.05 + 0.1, 0.0)
    assert link.rate == pytest.approx(10 * MB)


def test_small_messages_say_nothing_about_the_rate() -> None:
    link = BandwidthEstimator(local=True, bitrate=12_000_000)
    link.acknowledged(1000, 1.0, 0.0)
    assert link.rate == 0


def test_the_best_rate_stands_for_five_seconds() -> None:
    link = measured(50 * MB)
    for step in range(1, 60):
        link.acknowledged(100_000, 0.101, step / 10)
        assert link.rate == pytest.approx(50 * MB if step <= 50 else 1 * MB)


def test_a_local_link_three_times_as_fast_as_needed_is_unlimited() -> None:
    link = measured(30 * MB)
    link.need(10 * MB)
    assert math.isinf(link.budget)
    link.need(14 * MB)
    assert math.isinf(link.budget), "it has to get clearly worse"
    link.need(15 * MB)
    assert link.budget == 1.5 * MB
    link.need(10.1 * MB)
    assert link.budget == 1.5 * MB
    link.need(9.9 * MB)
    assert math.isinf(link.budget)


@pytest.mark.parametrize(("rate", "budget"), [(100 * MB, 1.5 * MB), (2 * MB, 1 * MB)])
def test_another_page_gets_the_bitrate_and_half_of_what_was_measured(rate: float, budget: float) -> None:
    link = measured(rate, local=False)
    link.need(1000)
    assert link.budget == pytest.approx(budget)


def test_before_anything_was_measured_the_bitrate_holds_on_a_local_link_too() -> None:
    link = BandwidthEstimator(local=True, bitrate=8_000_000)
    link.need(1000)
    assert link.budget == 1 * MB


@pytest.mark.parametrize(("local", "wait"), [(True, 0.0), (False, 1.25 - 0.03)])
def test_what_was_sent_before_the_link_was_measured_is_judged_again_when_it_is(local: bool, wait: float) -> None:
    link = BandwidthEstimator(local, bitrate=8_000_000, latency=0.001)
    link.need(1 * MB)
    link.sent(1_500_000, 0.0)  # the budget holds a quarter of a second's before
    assert link.next_send(0.01) == pytest.approx(1.25)
    link.acknowledged(1_500_000, 0.03, 0.03)
    assert link.next_send(0.03) == pytest.approx(0.03 + wait)


def test_a_frame_waits_until_the_budget_is_not_overdrawn_and_a_still_until_it_fits() -> None:
    link = BandwidthEstimator(local=False, bitrate=8_000_000)
    assert link.next_send(10.0) == 10.0
    link.sent(1_250_000, 10.0)
    assert link.next_send(10.0) == pytest.approx(11.0)
    assert link.next_send(11.0, 100_000) == pytest.approx(11.1)
    assert link.next_send(11.5) == 11.5
    assert link.next_send(11.5, 9e9) == 11.5, "a still is never larger than what can be saved up"


# Rungs ----------------------------------------------------------------------------------------------------------------


def quick() -> ViewerProcessor:
    return ViewerProcessor(shared=True)


def climb(ladder: Ladder, link: BandwidthEstimator, viewer: ViewerProcessor, seconds: float, start: float = 0.0) -> int:
    costs = CostModel()
    rung = EXACT
    for step in range(int(seconds * 60)):
        link.acknowledged(100_000, 0.001 + 100_000 / link.rate, start + step / 60)
        viewer.drew("lossy", HD, 0.0)
        rung = ladder.judge(HD, costs, link, viewer, 60, start + step / 60)
    return rung


def test_a_fast_local_link_is_exact_from_the_first_frame() -> None:
    assert Ladder().judge(HD, CostModel(), measured(400 * MB), quick(), 60, 0.0) == EXACT


def test_a_slow_link_is_coarse_from_the_first_frame() -> None:
    assert Ladder().judge(HD, CostModel(), measured(1 * MB, local=False), quick(), 60, 0.0) == COARSEST


def test_what_changes_little_is_exact_on_a_slow_link() -> None:
    assert Ladder().judge(4096, CostModel(), measured(10 * MB, local=False), quick(), 30, 0.0) == EXACT


def test_a_slow_viewer_takes_it_down_and_a_quick_one_up_again() -> None:
    link, ladder = measured(400 * MB), Ladder()
    slow = ViewerProcessor(shared=True, pixel_seconds={"exact": 30e-9, "lossy": 3e-9})  # 28 and 3 ms for a frame
    assert climb(ladder, link, quick(), 1) == EXACT
    assert climb(ladder, link, slow, 0.2, 1) == EXACT, "not at once"
    assert climb(ladder, link, slow, 1, 1.2) == 1
    assert climb(ladder, link, quick(), 0.4, 2.2) == 1, "not at once"
    assert climb(ladder, link, quick(), 1, 2.6) == EXACT


def test_a_slow_encoder_takes_it_down() -> None:
    costs, ladder, link = CostModel(), Ladder(), measured(400 * MB)
    for _ in range(30):
        costs.learn(EXACT, HD, 300_000, 0.02)
    assert ladder.judge(HD, costs, link, quick(), 60, 0.0) == 1
    assert ladder.judge(HD, costs, link, quick(), 60, 1.0) == 1
    assert Ladder().judge(HD, costs, link, quick(), 20, 0.0) == EXACT, "there is time for it at 20 a second"


def test_what_was_slow_once_is_tried_again_after_a_while() -> None:
    link, ladder = measured(400 * MB), Ladder()
    viewer = ViewerProcessor(shared=True, pixel_seconds={"exact": 30e-9, "lossy": 3e-9})
    assert climb(ladder, link, viewer, 1) == 1
    assert climb(ladder, link, viewer, 30, 1) == EXACT


def test_a_rung_that_failed_soon_is_tried_again_later_and_later() -> None:
    link, ladder, changes, rung = measured(400 * MB), Ladder(), [], EXACT
    for step in range(60 * 120):
        now = step / 60
        # Exact pictures draw slowly, which shows only while they are sent.
        viewer = ViewerProcessor(shared=True, pixel_seconds={"exact": 30e-9} if rung == EXACT else {})
        link.acknowledged(100_000, 0.001 + 100_000 / (400 * MB), now)
        judged = ladder.judge(HD, CostModel(), link, viewer, 60, now)
        if judged != rung:
            changes.append(now)
        rung = judged
    gaps = [round(b - a, 3) for a, b in pairwise(changes)][::2]
    assert gaps == sorted(gaps)
    assert gaps[-1] > 15
    assert len(changes) < 25


# Pace -----------------------------------------------------------------------------------------------------------------


def test_the_rate_is_learned_and_a_pause_says_nothing() -> None:
    pace, now = PublishRate(), 0.0
    for version in range(1, 60):
        now += 1 / 60
        pace.published(version, now)
    assert pace.fps == pytest.approx(60, rel=0.01)
    pace.published(60, now + 100)
    assert pace.fps == pytest.approx(60, rel=0.01)
    for version in range(62, 120, 2):
        now += 1 / 20
        pace.published(version, now)
    assert pace.fps == pytest.approx(40, rel=0.05), "versions that were skipped count"


def test_versions_come_to_rest_after_their_time() -> None:
    pace = PublishRate(still_after=0.5)
    for version, at in ((1, 1.0), (3, 1.25), (4, 1.5)):
        pace.published(version, at)
    assert [pace.rests_at(version) for version in (1, 2, 3, 4)] == [1.5, 1.75, 1.75, 2.0]
    assert [pace.at_rest(now) for now in (1.5, 1.74, 1.75, 2.0, 9.0)] == [1, 1, 3, 4, 4]
    assert PublishRate(None).rests_at(1) == math.inf


# The viewer's processor -----------------------------------------------------------------------------------------------


def drawn(viewer: ViewerProcessor, kind: Kind, seconds: float, times: int = 30) -> ViewerProcessor:
    """*viewer*, after so many frames of 720p that took so many *seconds*."""
    for _ in range(times):
        viewer.drew(kind, HD, seconds)
    return viewer


def test_a_frame_costs_what_the_viewer_took_for_those_before_each_path_by_itself() -> None:
    viewer = drawn(drawn(ViewerProcessor(), "lossy", 0.02), "video", 0.05)
    assert viewer.seconds("video", 2 * HD) == pytest.approx(0.1, rel=0.01)
    assert viewer.seconds("lossy", HD) == pytest.approx(0.02, rel=0.02), "as slow as before"


def test_a_processor_that_gets_slower_does_so_for_the_path_that_is_not_in_use() -> None:
    viewer = drawn(drawn(ViewerProcessor(), "lossy", 0.02), "video", 0.05)
    drawn(viewer, "video", 0.1)
    assert viewer.seconds("lossy", HD) == pytest.approx(0.04, rel=0.05)


def test_what_viewers_make_up_leaves_their_costs_numbers() -> None:
    viewer = ViewerProcessor()
    for seconds in (1e300, 0.0, 1e300, 1e-300) * 50:
        drawn(drawn(viewer, "lossy", seconds), "video", 1e300 - seconds)
    assert all(math.isfinite(cost) for cost in viewer.pixel_seconds.values())


def test_what_was_never_drawn_is_cheap_enough_to_be_tried() -> None:
    viewer = drawn(ViewerProcessor(), "lossy", 0.02)
    assert viewer.seconds("video", HD) < viewer.seconds("lossy", HD) == viewer.seconds("exact", HD)
    assert ViewerProcessor().seconds("video", HD) == 0


def test_encoding_and_drawing_take_turns_on_one_machine_and_overlap_on_two() -> None:
    assert ViewerProcessor(shared=True).busy(0.02, 0.03) == pytest.approx(0.05)
    assert ViewerProcessor(shared=False).busy(0.02, 0.03) == pytest.approx(0.03)


# Recorded traces ------------------------------------------------------------------------------------------------------


def trace(name: str) -> Iterator[list[Any]]:
    for line in (Path(__file__).parent / "traces" / f"{name}.jsonl").read_text().splitlines():
        yield json.loads(line)


class Replay:
    """What a real browser was sent and said (tests/record_traces.py), told to a new link and a new ladder."""

    def __init__(self, name: str, *, local: bool = True) -> None:
        self.bandwidth, self.ladder, self.costs = BandwidthEstimator(local, bitrate=12_000_000), Ladder(), CostModel()
        self.processor = ViewerProcessor(shared=local)
        self.rungs: list[int] = []
        self.budgets: list[float] = []
        self.nbytes, self.seconds = 0, 0.0
        for kind, *args in trace(name):
            getattr(self, f"_{kind}")(*args)

    def _learn(self, *args: Any) -> None:
        self.costs.learn(*args)

    def _sent(self, nbytes: int, now: float) -> None:
        self.bandwidth.sent(nbytes, now)
        self.nbytes += nbytes
        self.seconds = now

    def _acknowledged(self, *args: Any) -> None:
        self.bandwidth.acknowledged(*args)

    def _drew(self, *args: Any) -> None:
        self.processor.drew(*args)

    def _need(self, rate: float) -> None:
        self.bandwidth.need(rate)
        self.budgets.append(self.bandwidth.budget)

    def _judge(self, _answer: int, pixels: float, fps: float, now: float) -> None:
        self.rungs.append(self.ladder.judge(pixels, self.costs, self.bandwidth, self.processor, fps, now))


def test_trace_of_loopback_is_unlimited_within_a_second_and_climbs_without_flicker() -> None:
    replay = Replay("loopback")
    assert all(math.isinf(budget) for budget in replay.budgets[30:])
    assert replay.rungs[-1] <= 1
    assert sum(a != b for a, b in pairwise(replay.rungs)) <= 6


def test_trace_of_loopback_seen_by_a_page_of_elsewhere_keeps_to_the_bitrate() -> None:
    assert max(Replay("loopback", local=False).budgets) <= 1.5 * MB


class Paths:
    """What such a trace says about images and video, told to a new policy."""

    def __init__(self, name: str) -> None:
        self.state = StreamState(StreamOptions(still_after=None))
        self.link, self.viewer = measured(400 * MB), ViewerProcessor(shared=True)
        self.policy = DeliveryPolicy(self.state, self.link, self.viewer)
        self.choices: list[tuple[float, bool]] = []
        """Times, and True for video."""
        selection = negotiate(("image/jpeg", "image/png", "rfb/tiles", "webcodecs/h264-annexb"), self.state.options)
        self.policy.weigh(FULL_HD)
        for kind, *args in trace(name):
            if kind == "published":
                self.state.publish_rate.published(*args)
                now = args[1]
                self.link.acknowledged(100_000, 0.001 + 100_000 / (400 * MB), now)
                self.choices.append((now, self.policy.encoder(FULL_HD, selection, 0.0, now) is not None))
            elif kind == "drew":
                self.viewer.drew(*args)
            else:
                (self.state.video_costs if kind == "learn_video" else self.state.costs).learn(*args)


def test_trace_of_one_core_tries_video_once_and_gives_it_up_within_a_second_for_images() -> None:
    choices = Paths("one-core").choices
    changes = [now for (_, before), (now, after) in pairwise(choices) if before != after]
    assert len(changes) == 2, "video is tried, and given up"
    assert changes[1] - changes[0] < 1.2
    assert not choices[-1][1]


@pytest.mark.parametrize(("name", "rate"), [("tunnel-20-mbit", 2.5 * MB), ("tunnel-2-mbit", 0.25 * MB)])
def test_trace_of_a_tunnel_is_measured_and_no_more_than_half_filled(name: str, rate: float) -> None:
    replay = Replay(name)
    assert replay.bandwidth.rate == pytest.approx(rate, rel=0.35)
    assert replay.bandwidth.budget <= 0.7 * rate
    assert replay.nbytes / replay.seconds <= 0.75 * rate, "the first frame went before anything was measured"
    assert replay.rungs[-1] == COARSEST


# Costs ----------------------------------------------------------------------------------------------------------------


def test_what_is_easy_at_one_quality_is_so_at_the_others() -> None:
    costs = CostModel()
    for _ in range(60):
        costs.learn(COARSEST, HD, HD // 100, 0.002)
    assert costs.nbytes(1, HD) == pytest.approx(0.033 * HD, rel=0.1)
    assert costs.nbytes(EXACT, HD) == pytest.approx(1.2 * HD), "which only an exact picture tells"


def test_a_bad_moment_is_forgotten_though_messages_got_small() -> None:
    link = measured(0.01 * MB, local=False)
    for step in range(10):
        link.acknowledged(1000, 0.01, 1 + step)
    link.need(1000)
    assert link.budget > 0.04 * MB


def test_small_regions_say_little_about_large_ones() -> None:
    viewer = ViewerProcessor()
    for _ in range(300):
        viewer.drew("exact", 4096, 0.0015)
    assert viewer.fps("exact", FULL_HD) > 20
