"""Whatever viewers, links and publishers do, in virtual time (`simulation`): every rule of a stream holds."""

from __future__ import annotations

import math
import os
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from simulation import ONLY_VIDEO, PICTURES, VIDEO, Link, Machine, Simulation

from pdum_rfb_widget._core.outputs import Output

STEPS = int(os.environ.get("RFB_STEPS", "2000"))
SEED = int(os.environ.get("RFB_SEED", "1"))
"""The first: every run takes the same steps, and others with another seed."""
STEPS_A_SEED, STEPS_AN_EXAMPLE = 10_000, 30
WIDTH, HEIGHT = 320, 192
LINKS = (
    Link(),
    Link(rate=12.5e6, latency=0.005),
    Link(rate=2.5e6, latency=0.03, jitter=0.02),
    Link(rate=250_000, latency=0.1, jitter=0.05, loss=0.02),
)
MOST_IN_FLIGHT = 20
"""Payloads of one viewer: those that keep it busy, those that a long way holds, and a probe."""
LIES = (
    {"type": "ack", "seq": 10**9},
    {"type": "ack", "seq": -1},
    {"type": "set_viewport", "width": "wide"},
    {"type": "hello", "supported": []},
    {"type": "event", "event": {"type": "pointer_move", "x": 1e400}},
    {},
)


class Whatever(RuleBasedStateMachine):
    """A stream that anything may happen to."""

    @initialize(
        quality=st.sampled_from(["auto", "lossless", "lossy", 60]),
        codec=st.sampled_from(["auto", "h264", "none"]),
        max_inflight=st.sampled_from([None, 1, 3]),
        still_after=st.sampled_from([0.15, 1.0]),
    )
    def serve(self, **options: Any) -> None:
        self.closing = ExitStack()
        self.simulation = self.closing.enter_context(Simulation(**options).running(WIDTH, HEIGHT))
        self.simulation.publish()

    @property
    def viewers(self) -> list[Any]:
        return [viewer for viewer in self.simulation.viewers if not viewer.transport.ended]

    @precondition(lambda self: len(self.viewers) < 6)
    @rule(link=st.sampled_from(LINKS), supported=st.sampled_from([PICTURES, VIDEO, ONLY_VIDEO]), slow=st.booleans())
    def join(self, link: Link, supported: tuple[str, ...], slow: bool) -> None:
        if supported == ONLY_VIDEO and self.simulation.stream.options.codec == "none":
            supported = PICTURES
        self.simulation.join(link, supported, draw=0.5 if slow else 0.005, local=link == Link())

    @rule(
        frames=st.integers(1, 8),
        fps=st.sampled_from([10, 30, 120]),
        rect=st.sampled_from([None, None, (0, 0, 16, 16), (100, 64, 64, 50)]),
    )
    def play(self, frames: int, fps: float, rect: tuple[int, int, int, int] | None) -> None:
        self.simulation.play(frames / fps, fps, rect)

    @rule(seconds=st.sampled_from([0.001, 0.05, 0.3, 2.0]))
    def wait(self, seconds: float) -> None:
        self.simulation.loop.run_for(seconds)

    @rule(size=st.sampled_from([(WIDTH, HEIGHT), (64, 64), (130, 70)]))
    def resize(self, size: tuple[int, int]) -> None:
        self.simulation.resize(*size)

    @precondition(lambda self: self.viewers)
    @rule(data=st.data(), what=st.sampled_from(["leave", "hide", "show", "stall", "go on", "reset", "control", "lie"]))
    def one_does(self, data: st.DataObject, what: str) -> None:
        viewer = data.draw(st.sampled_from(self.viewers))
        if what == "leave":
            viewer.leave()
        elif what in ("hide", "show"):
            viewer.see(what == "show")
        elif what in ("stall", "go on"):
            viewer.stall(what == "stall")
        elif what == "reset":
            viewer.lose_decoder()
        elif what == "control" and viewer.viewer in self.simulation.stream.viewers:
            self.simulation.stream.hand_over(viewer.viewer.id)
        elif what == "lie":
            viewer.honest = False
            viewer.say(data.draw(st.sampled_from(LIES)))

    @precondition(lambda self: self.simulation.stream.options.codec != "h264")
    @rule(fails=st.booleans())
    def video(self, fails: bool) -> None:
        self.simulation.encoder.fails = fails

    @invariant()
    def a_viewers_memory_is_bounded(self) -> None:
        for viewer in self.viewers if hasattr(self, "simulation") else ():
            assert viewer.viewer.session.window.taken <= MOST_IN_FLIGHT

    @invariant()
    def who_controls_is_here(self) -> None:
        if hasattr(self, "simulation"):
            stream = self.simulation.stream
            assert stream.controller in {None, *(viewer.id for viewer in stream.viewers)}

    def teardown(self) -> None:
        if hasattr(self, "simulation"):
            with self.closing:
                self._rest()

    def _rest(self) -> None:
        """Every viewer goes on, and nothing is published any more."""
        for viewer in self.viewers:
            viewer.stall(False)
            viewer.see(True)
        self.simulation.loop.run_for(30)
        newest = self.simulation.stream.newest
        assert newest
        stay = [viewer for viewer in self.viewers if viewer.honest]
        for viewer in stay:
            assert viewer.shows(newest), f"the newest frame, exactly, for {viewer}"
        before = [viewer.transport.nbytes for viewer in stay]
        self.simulation.republish()
        self.simulation.loop.run_for(30)
        assert [viewer.transport.nbytes for viewer in stay] == before, "nothing is sent for the same picture"


@pytest.mark.parametrize("seeded", range(SEED, SEED + max(1, STEPS // STEPS_A_SEED)))
def test_whatever_happens_every_rule_holds(seeded: int) -> None:
    examples = min(STEPS, STEPS_A_SEED) // STEPS_AN_EXAMPLE
    limits = settings(
        max_examples=examples,
        stateful_step_count=STEPS_AN_EXAMPLE,
        database=None,  # a failure that one machine remembers would be tried there alone
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(seeded)(type("Seeded", (Whatever,), {})), settings=limits)


def test_a_slow_viewer_takes_nothing_from_the_others() -> None:
    with Simulation().running(WIDTH, HEIGHT) as simulation:
        quick = simulation.join(Link(rate=12.5e6, latency=0.005))
        simulation.play(4)
        alone = quick.payloads
        slow = simulation.join(Link(rate=50_000, latency=0.2))
        simulation.play(4)
        assert quick.payloads - alone >= 0.95 * alone
        assert slow.payloads < alone


@pytest.mark.parametrize(
    ("draw_video", "could", "video"), [(0.05, 21.0, True), (0.008, 29.0, True), (0.15, 21.0, False)]
)
def test_a_slow_processor_gets_the_path_that_it_draws_faster_and_a_quick_one_beside_it_loses_nothing(
    draw_video: float, could: float, video: bool
) -> None:
    with Simulation().running() as simulation:
        lan = Link(rate=12.5e6, latency=0.001)
        quick, slow = simulation.join(lan), simulation.join(lan, draw=0.05, draw_video=draw_video)
        simulation.play(10)
        assert len(quick.latencies) >= 0.97 * 300
        assert len(slow.latencies) >= 0.9 * 10 * could
        encoded = [slow.viewer.session in encoder.subscribers for encoder in simulation.stream.core.state.encoders]
        assert any(encoded) == video
        limit = slow.viewer.session.snapshot(simulation.loop.now)["limit"]
        assert not str(limit) or could < 29
        simulation.loop.run_for(2)
        newest = simulation.stream.newest
        assert newest
        assert slow.shows(newest), "exactly"


def test_a_slow_processor_is_named_as_the_limit_and_is_not_taken_for_a_slow_link() -> None:
    with Simulation(codec="none").running() as simulation:
        lan = Link(rate=12.5e6, latency=0.001)
        slow, quick = simulation.join(lan, draw=0.2), simulation.join(Link(), local=True)
        narrow = simulation.join(Link(rate=250_000))
        simulation.play(6)
        limits = [str(viewer.viewer.session.snapshot(0.0)["limit"]) for viewer in (slow, quick, narrow)]
        assert limits[0] == "the viewer's processor: 5 of 30 frames a second"
        assert limits[1:] == ["", "the connection: 2 of 30 frames a second"]
        assert slow.viewer.session.bandwidth.rate > 0.8 * lan.rate
        assert slow.viewer.session.policy.step.fps == 1, "no frame is kept back for the link"


def test_one_core_for_hub_and_page_shows_images_where_video_would_cost_more() -> None:
    slow = Machine(cores=1, lossy_seconds=4e-9, video_seconds=22e-9)
    with Simulation(slow).running() as simulation:
        local = simulation.join(Link(), draw=0.015, draw_video=0.012, local=True)
        simulation.play(10, 60)
        assert len(local.latencies) >= 0.85 * 10 * 1 / (0.92 * 0.019)
        assert not any(encoder.subscribers for encoder in simulation.stream.core.state.encoders)


def test_viewers_of_one_kind_share_every_encoding() -> None:
    encodings = []
    for count in (1, 20):
        with Simulation().running(WIDTH, HEIGHT) as simulation:
            for _ in range(count):
                simulation.join(Link(rate=12.5e6, latency=0.005))
            simulation.play(4)
            encodings.append(simulation.processors.encodings)
    assert encodings[1] <= 1.1 * encodings[0]


@pytest.mark.parametrize("viewers", [0, 3])
def test_a_still_scene_costs_nothing(viewers: int) -> None:
    with Simulation().running(WIDTH, HEIGHT) as simulation:
        for _ in range(viewers):
            simulation.join(Link(rate=2.5e6, latency=0.03))
        simulation.publish()
        simulation.loop.run_for(10)
        before = simulation.processors.encodings, [viewer.transport.nbytes for viewer in simulation.viewers]
        for _ in range(300):
            simulation.republish()
            simulation.loop.run_for(1 / 30)
        assert before == (simulation.processors.encodings, [viewer.transport.nbytes for viewer in simulation.viewers])


def test_viewers_whose_links_images_fill_come_to_share_one_encoder() -> None:
    with Simulation().running() as simulation:
        viewers = [simulation.join(Link(rate=2.5e6, latency=0.01, jitter=0.01)) for _ in range(6)]
        simulation.play(5)
        (encoder,) = simulation.stream.core.state.encoders
        assert encoder.subscribers == {viewer.viewer.session for viewer in viewers}


def test_a_frame_that_a_recording_takes_while_the_hub_polls_reaches_the_viewers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pdum_rfb_widget._hub.readiness._LATE", math.inf)  # on a busy machine the publisher takes it
    with Simulation(max_inflight=1, still_after=None).running(WIDTH, HEIGHT) as simulation:
        stream, viewer = simulation.stream, simulation.join(supported=PICTURES)
        simulation.publish()
        viewer.stall(True)
        simulation.loop.run_for(0.1)
        simulation.republish()  # announced; the next is not, as nobody has room
        simulation.loop.run_for(0.1)
        assert stream.core.state.pending
        assert stream.newest, "taken by another thread"
        poll = stream.core.poll

        def poll_while_one_comes(now: float) -> list[Output]:
            stream.core.poll = poll  # type: ignore[method-assign]
            simulation.publish()
            assert stream.newest, "taken by another thread"
            return poll(now)

        stream.core.poll = poll_while_one_comes  # type: ignore[method-assign]
        stream.set_cursor("wait")
        simulation.loop.run_for(0.1)
        viewer.stall(False)
        simulation.loop.run_for(0.1)
        newest = stream.newest
        assert newest
        assert (newest.version, viewer.payloads) == (2, 2)
