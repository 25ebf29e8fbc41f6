"""Whatever is published, skipped, acknowledged, hidden or resized: every viewer ends on the last frame, exactly."""

from __future__ import annotations

import json
from collections import deque
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np
import pytest
from hosts import error_of, wait_for
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model import ModelCanvas, Painter, rgb
from pages import show
from playwright.sync_api import Page
from viewers import RawViewer

import pdum_rfb_widget as rfb
from pdum_rfb_widget._core.policy.delivery import DeliveryPolicy
from pdum_rfb_widget._core.session import Message, ViewerSession
from pdum_rfb_widget._core.shared_encoders import SharedEncoder
from pdum_rfb_widget._core.stream_state import StreamState
from pdum_rfb_widget._encode.jobs import EncodeJob
from pdum_rfb_widget._encode.video import SharedEncoderWorker
from pdum_rfb_widget._frames.chunk import Chunk
from pdum_rfb_widget._frames.damage import as_damage
from pdum_rfb_widget._frames.store import FrameStore
from pdum_rfb_widget.protocol import ProtocolError, unpack_binary_message
from pdum_rfb_widget.types import Encoded, EncoderKey, Selection, StreamOptions

CAPABILITIES = (
    ("image/jpeg", "image/png", "rfb/tiles"),
    ("image/png", "rfb/tiles"),
    ("image/jpeg", "image/png"),
    ("image/jpeg", "rfb/tiles"),
    ("image/jpeg",),
    ("image/png",),
    ("image/jpeg", "image/png", "webcodecs/h264-annexb", "rfb/h264-444", "rfb/h264-rgb", "rfb/tiles"),
    ("image/jpeg", "image/png", "webcodecs/h264-annexb"),
    ("webcodecs/h264-annexb", "rfb/tiles"),
    ("webcodecs/h264-annexb",),
)
VIDEO = "webcodecs/h264-annexb"


BETWEEN = st.sampled_from(["", "publish", "reset"])


class Inline(Executor):
    """A pool that does what it is given at once."""

    def submit(self, work: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        work(*args, **kwargs)
        return Future()


class Whim(DeliveryPolicy):
    """What a viewer is fed, as a test wants it, so that nothing waits for a link to change."""

    wanted: int | None = None

    def encoder(self, area: int, selection: Selection, turnaround: float, now: float) -> EncoderKey | None:
        usual = super().encoder(area, selection, turnaround, now)
        if not selection.video or not self.state.video_works or (usual and usual.rung == 0):
            return usual
        if usual and not selection.pictures:
            return EncoderKey(selection.video, self.wanted or usual.rung)
        return EncoderKey(selection.video, self.wanted) if self.wanted else None


class ModelViewer:
    """A session, the canvas that its messages make, and what is not acknowledged yet."""

    def __init__(self, scene: StreamState, supported: tuple[str, ...], now: float, local: bool) -> None:
        self.session = ViewerSession(scene, lambda hello: None, now, local)
        self.canvas = ModelCanvas()
        self.supported = supported
        self.exact = "image/png" in supported
        self.unacknowledged: deque[int] = deque()
        self.session.policy = self.whim = Whim(scene, self.session.bandwidth, self.session.window.processor)
        self.session.receive(json.dumps({"type": "hello", "supported": supported}), now)

    def take(self, messages: list[Message]) -> None:
        for message in messages:
            if isinstance(message, str):
                self.canvas.config = json.loads(message)
            else:
                header, payload = unpack_binary_message(b"".join(message))
                self.canvas.take(header, payload)
                self.unacknowledged.append(header["seq"])

    def say(self, now: float, **message: Any) -> None:
        self.session.receive(json.dumps(message), now)

    def reset(self, now: float) -> None:
        """The decoder and the canvas are new."""
        self.unacknowledged.clear()
        self.canvas.lose()
        self.say(now, type="decoder_reset")

    def ack(self, now: float) -> None:
        self.say(now, type="ack", seq=self.unacknowledged.popleft(), draw_ms=3)


class Engine(RuleBasedStateMachine):
    """The sans-I/O parts joined as the hub joins them, with a clock that the rules move."""

    @initialize(
        seed=st.integers(0, 2**16),
        quality=st.sampled_from(["auto", "lossless", "lossy", 60]),
        bitrate=st.sampled_from([100_000, 12_000_000]),
        max_inflight=st.sampled_from([None, 1, 2, 3]),
        own_frames=st.booleans(),
        codec=st.sampled_from(["auto", "h264"]),
    )
    def serve(self, seed: int, **options: Any) -> None:
        self.options = StreamOptions(stats_interval=None, **options)
        self.state = StreamState(self.options)
        self.store = FrameStore()
        self.encoders: dict[SharedEncoder, SharedEncoderWorker] = {}
        self.at_work: list[tuple[SharedEncoder, Chunk | None]] = []
        self.too_slow = self.fails = False
        self.painter = Painter(seed)
        self.now = 1.0
        self.viewers = [ModelViewer(self.state, supported, self.now, local=True) for supported in CAPABILITIES[:8:3]]
        self.last: Any = None
        self.publish()

    def publish(self) -> None:
        frame, damage = self.painter.next()
        self.last = frame
        mask = None if damage is None else as_damage(damage, frame.shape[1], frame.shape[0])
        when = round(self.now * 1e6)
        self.store.put(frame, when, copy=self.options.own_frames, damage=mask, still_wanted=lambda: True)
        frame = self.store.hold()
        assert frame
        self.state.published(frame.tiles)
        self.store.release(frame)

    @rule(between=BETWEEN)
    def feed(self, between: str) -> None:
        """Every viewer gets what it wants; *between* planning and sending something happens."""
        for viewer in tuple(self.viewers):
            for _ in range(40):
                if messages := viewer.session.send_chunk(self.now):
                    viewer.take(messages)
                    continue
                frame = self.store.hold()
                assert frame
                try:
                    plan = viewer.session.plan(self.now)
                except ProtocolError:
                    assert viewer.supported[0] == VIDEO, "only who takes nothing but video ends with the encoder"
                    self.store.release(frame)
                    self.viewers.remove(viewer)
                    viewer.session.gone()
                    break
                if plan is None:
                    self.store.release(frame)
                    if self.step_lanes(viewer if between == "reset" else None):
                        continue
                    break
                done: list[Encoded | BaseException] = []
                EncodeJob(frame, plan.region.rects, plan.fidelity, done.append).start(Inline(), 2)
                self.store.release(frame)
                if between == "publish":
                    self.publish()
                elif between == "reset":
                    viewer.reset(self.now)
                between = ""
                (encoded,) = done
                assert isinstance(encoded, Encoded), encoded
                self.state.learn(plan, encoded)
                if not plan.still or viewer.session.still_wanted(plan):
                    viewer.take(viewer.session.send(plan, encoded, self.now))

    def step_lanes(self, resets: ModelViewer | None) -> bool:
        """Lanes that have room take the newest frame; meanwhile the decoder of one viewer may be lost."""
        took = False
        for lane in self.state.encoders:
            frame = self.store.hold()
            assert frame
            if take := self.state.encoders.take(lane, frame.tiles, self.now)[0]:
                took = True
                chunk = self.encoders.setdefault(lane, SharedEncoderWorker(lane.key, 30)).chunk(frame, take)
                self.at_work.append((lane, None if self.fails else chunk))
                if resets:
                    resets.reset(self.now)
            self.store.release(frame)
        if self.too_slow:
            return False
        self.finish()
        return took

    def finish(self) -> None:
        """The encoders are done, the latest first."""
        while self.at_work:
            lane, chunk = self.at_work.pop()
            if chunk is None:
                assert self.state.newest
                self.state.fail_video(self.state.newest.size)
                self.at_work.clear()
                return
            if not chunk.keyframe:
                self.state.learn_video(chunk)
            for member in self.state.encoders.encoded(lane, chunk, self.now):
                member.enqueue(chunk)

    @rule(dawdles=st.booleans(), fails=st.booleans())
    def encoders_are(self, dawdles: bool, fails: bool) -> None:
        self.too_slow, self.fails = dawdles, fails and self.options.codec == "auto"

    @precondition(lambda self: self.viewers)
    @rule(data=st.data(), rung=st.sampled_from([None, 1, 1, 2, 4]))
    def another_lane_suits(self, data: st.DataObject, rung: int | None) -> None:
        data.draw(st.sampled_from(self.viewers)).whim.wanted = rung

    @rule(times=st.integers(1, 4), acks=st.lists(st.integers(0, 4)), between=BETWEEN)
    def play(self, times: int, acks: list[int], between: str) -> None:
        """Frames come, and some viewers acknowledge what they have."""
        for _ in range(times):
            self.now += 0.02
            self.publish()
        for n in acks:
            if n < len(self.viewers) and self.viewers[n].unacknowledged:
                self.viewers[n].ack(self.now)
        self.feed(between)

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.1, 0.2, 3.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: len(self.viewers) < 5)
    @rule(supported=st.sampled_from(CAPABILITIES), local=st.booleans())
    def join(self, supported: tuple[str, ...], local: bool) -> None:
        self.viewers.append(ModelViewer(self.state, supported, self.now, local))

    @precondition(lambda self: self.viewers)
    @rule(data=st.data())
    def one_does(self, data: st.DataObject) -> None:
        viewer = data.draw(st.sampled_from(self.viewers))
        what = data.draw(st.sampled_from(["ack", "ack", "ack", "leave", "hide", "show", "reset", "keyframe", "point"]))
        if what == "ack" and viewer.unacknowledged:
            viewer.ack(self.now)
        elif what == "leave":
            self.viewers.remove(viewer)
            viewer.session.gone()
        elif what in ("hide", "show"):
            viewer.say(self.now, type="event", event={"type": what})
        elif what == "reset":
            viewer.reset(self.now)
        elif what == "keyframe":
            viewer.say(self.now, type="request_keyframe", reason="lost")
        elif what == "point":
            viewer.say(self.now, type="event", event={"type": "pointer_move", "x": 50.0, "y": 9.0})

    @invariant()
    def windows_are_kept(self) -> None:
        for viewer in getattr(self, "viewers", ()):
            assert len(viewer.unacknowledged) <= (self.options.max_inflight or 2) + 1

    def _lane_look(self, lane: SharedEncoder) -> float:
        assert self.state.newest
        take, look = lane.take(self.state.newest, self.now)
        assert take is None, "all that could be taken was"
        return look

    def teardown(self) -> None:
        self._settle()
        for encoder in getattr(self, "encoders", {}).values():
            encoder.close()

    def _settle(self) -> None:
        self.too_slow = self.fails = False
        for viewer in getattr(self, "viewers", ()):
            viewer.say(self.now, type="event", event={"type": "show"})
        for _ in range(400):
            self.feed(between="")
            waiting = [viewer for viewer in self.viewers if viewer.unacknowledged]
            looks = [viewer.session.next_look for viewer in self.viewers]
            looks += [self._lane_look(lane) for lane in self.state.encoders]
            if not waiting and all(look == float("inf") for look in looks):
                break
            for viewer in waiting:
                viewer.ack(self.now)
            self.now = max(self.now + 0.01, min(looks) if not waiting else 0.0)
        for viewer in self.viewers:
            if viewer.exact:
                assert viewer.canvas.error(self.last) == 0, "the last frame, exactly"
            else:
                assert viewer.canvas.error(self.last) <= 255, "the last frame"
            assert not viewer.session.stale


TestEngine = Engine.TestCase
TestEngine.settings = settings(
    max_examples=120, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("supported", [CAPABILITIES[0], CAPABILITIES[2], CAPABILITIES[6], CAPABILITIES[7]])
def test_over_a_socket_a_viewer_that_dawdles_ends_exact(seed: int, supported: tuple[str, ...]) -> None:
    codec = "h264" if VIDEO in supported else "auto"
    display = rfb.serve(8, 8, port=0, stats_interval=None, still_after=0.03, codec=codec)
    painter, canvas, random = Painter(seed), ModelCanvas(), np.random.default_rng(seed)
    with RawViewer(display, *supported) as viewer:
        canvas.config = viewer.greet()
        for _ in range(60):
            frame, damage = painter.next()
            display.publish(frame, damage=damage)
            if random.random() < 0.5:
                _draw_next(viewer, canvas, timeout=0.002)
        wait_for(lambda: _draw_next(viewer, canvas) or canvas.error(painter.frame) == 0, "the last frame, exactly")


def _draw_next(viewer: RawViewer, canvas: ModelCanvas, timeout: float = 0.2) -> bool:
    """Draw and acknowledge what comes next; False when nothing does."""
    try:
        message = viewer.socket.recv(timeout=timeout)
    except TimeoutError:
        return False
    if isinstance(message, str):
        if (text := json.loads(message))["type"] == "config":
            canvas.config = text
        return True
    header, payload = unpack_binary_message(message)
    canvas.take(header, payload)
    viewer.ack(header["seq"])
    return True


@pytest.mark.parametrize("quality", ["auto", "lossy"])
def test_in_a_browser_the_last_frame_is_there_exactly(page: Page, quality: str) -> None:
    display = rfb.serve(8, 8, port=0, quality=quality)
    canvas = show(page, display)
    for seed in range(3):
        painter = Painter(seed)
        for _ in range(40):
            frame, damage = painter.next()
            display.publish(frame, damage=damage)
        last = rgb(painter.frame)
        wait_for(lambda last=last: error_of(canvas, last) == 0, f"the last frame of seed {seed}")
