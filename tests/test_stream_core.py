"""The core of a stream: what it wants done after which inputs, without threads, sockets or clocks."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest

from pdum_rfb_widget._core.encode_jobs import EncodeImages, EncodeVideo, Job
from pdum_rfb_widget._core.outputs import Advise, Close, Deliver, Output, Send
from pdum_rfb_widget._core.session import ViewerSession
from pdum_rfb_widget._core.stream import StreamCore
from pdum_rfb_widget._core.viewer import TRANSITIONS, Phase, Viewer
from pdum_rfb_widget._encode.jobs import EncodeJob
from pdum_rfb_widget._frames.chunk import Chunk
from pdum_rfb_widget._frames.damage import TileMap
from pdum_rfb_widget._frames.store import Frame
from pdum_rfb_widget.limits import ENCODE_TIMEOUT
from pdum_rfb_widget.types import Encoded, Fidelity, Part, StreamOptions

PICTURES = ("image/jpeg", "image/png", "rfb/tiles")
VIDEO = (*PICTURES, "webcodecs/h264-annexb")
SIZE = 640, 640


class Shell:
    """Carries out what a core wants: what is sent is written at once, jobs end when a test says so."""

    at_once = True
    """What is written is written within the poll that sent it."""

    def __init__(self, **options: Any) -> None:
        self.now = 100.0
        self.core = StreamCore(StreamOptions(**{"stats_interval": None, **options}), SIZE)
        self.jobs: list[Job] = []
        self.rest: list[Output] = []
        self.blocked: set[Viewer] = set()
        """Viewers whose sockets take nothing."""
        self._numbers = itertools.count(1)
        self._version = itertools.count(1)

    def join(self, *supported: str) -> Viewer:
        viewer = Viewer(ViewerSession(self.core.state, lambda hello: None, self.now), next(self._numbers))
        self.core.connected(viewer)
        self.say(viewer, type="hello", supported=supported)
        return viewer

    def say(self, viewer: Viewer, **message: Any) -> None:
        self.core.received(viewer, json.dumps(message), self.now)
        self.settle()

    def ack(self, *viewers: Viewer) -> None:
        for viewer in viewers:
            self.say(viewer, type="ack", seq=viewer.session.window.seq)

    def publish(self, size: tuple[int, int] = SIZE, *, after: float = 0.04) -> None:
        self.now += after
        self.core.published(TileMap.whole(*size, next(self._version), round(self.now * 1e6)))
        self.settle()

    def settle(self) -> None:
        for _ in range(100):
            outputs = self.core.poll(self.now)
            if not outputs:
                return
            for output in outputs:
                self._carry_out(output)
        pytest.fail("the core never has enough")

    def _carry_out(self, output: Output) -> None:
        if isinstance(output, EncodeImages | EncodeVideo):
            self.jobs.append(output)
        elif not isinstance(output, Send):
            self.rest.append(output)
        elif output.viewer not in self.blocked:
            self.core.written(output.viewer, at_once=self.at_once)

    def finish(self, kind: type[EncodeImages] | type[EncodeVideo] | None = None) -> None:
        """All jobs of this *kind* end."""
        ended = [job for job in self.jobs if kind is None or isinstance(job, kind)]
        self.jobs = [job for job in self.jobs if job not in ended]
        for job in ended:
            self.core.encoded(job, outcome_of(job), self.now)
        self.settle()

    def wait(self, seconds: float) -> None:
        """So many *seconds* pass."""
        end = self.now + seconds
        for _ in range(10_000):
            if self.core.wake_at > end:
                self.now = end
                return
            self.now = max(self.now, self.core.wake_at)
            self.settle()
        pytest.fail("it wakes up again and again")

    def said(self, kind: type[Any]) -> list[Any]:
        return [output for output in self.rest if isinstance(output, kind)]


def outcome_of(job: Job) -> Encoded | Chunk:
    if isinstance(job, EncodeVideo):
        request = job.request
        return Chunk(request.tiles, b"x" * 5000, "avc1", "annexb", request.keyframe, job.encoder.key.rung, 5.0)
    exact = job.plan.fidelity.quality is None
    mime = "image/png" if exact else "image/jpeg"
    parts = tuple(Part(rect, mime, b"x" * 5000, exact=exact) for rect in job.plan.region.rects)
    return Encoded(parts, b"".join(part.data for part in parts), 5.0)


@pytest.fixture(params=[True, False], ids=["at once", "later"], autouse=True)
def written(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shell, "at_once", request.param)


def test_neither_the_end_of_a_write_nor_an_acknowledgement_that_changes_nothing_asks_for_a_poll() -> None:
    shell = Shell(still_after=10.0, max_inflight=1)
    viewers = [shell.join(*PICTURES) for _ in range(3)]
    shell.publish()
    shell.finish()
    for viewer in viewers:
        assert not shell.core.due
        text = json.dumps({"type": "ack", "seq": viewer.session.window.seq})
        shell.core.received(viewer, text, shell.now)
    assert (shell.core.due, bool(shell.core.agenda.ready)) == (False, True)
    shell.publish()
    shell.finish()
    shell.publish()
    shell.core.received(viewers[0], json.dumps({"type": "ack", "seq": viewers[0].session.window.seq}), shell.now)
    assert shell.core.due, "it lacks a frame, and has room now"


def test_a_viewer_without_room_takes_no_frame_until_it_acknowledges_or_is_probed() -> None:
    shell = Shell(max_inflight=1, still_after=None)
    viewer = shell.join(*PICTURES)
    assert shell.core.agenda.takes_frames(shell.now)
    shell.publish()
    shell.finish()
    assert not shell.core.agenda.takes_frames(shell.now)
    newest, pending = shell.core.state.newest, TileMap.whole(*SIZE, 0)
    shell.core.published(newest, pending=pending)
    shell.settle()
    assert viewer.session.stale
    assert not shell.core.agenda.takes_frames(shell.now)
    assert shell.core.agenda.takes_frames(shell.core.wake_at), "for a probe, after a while without an acknowledgement"
    shell.ack(viewer)
    assert shell.core.agenda.takes_frames(shell.now)
    assert not shell.jobs, "what is encoded is the newest frame, once it is taken"
    shell.publish()
    assert [job.plan.region.tiles.version for job in shell.jobs] == [2]  # type: ignore[union-attr]


def test_a_viewer_takes_no_frame_while_another_is_encoded_for_it() -> None:
    shell = Shell(still_after=None)
    viewer = shell.join(*PICTURES)
    shell.publish()
    shell.core.published(shell.core.state.newest, pending=TileMap.whole(*SIZE, 0))
    shell.settle()
    assert not shell.core.agenda.takes_frames(shell.now)
    shell.finish()
    assert viewer.session.window.seq == 1
    assert shell.core.agenda.takes_frames(shell.now)


def test_a_viewer_is_greeted_with_the_size_of_a_frame_that_nobody_has_taken() -> None:
    shell = Shell()
    shell.core.published(None, pending=TileMap.whole(70, 50, 0))
    viewer = shell.join(*PICTURES)
    assert viewer.session.announcement.of(TileMap.whole(70, 50, 1)) == [], "the config says so already"


def test_a_viewers_phases_change_by_one_table() -> None:
    shell = Shell()
    viewer = shell.join(*PICTURES)
    phases = [viewer.phase]
    for kind in ("hide", "show"):
        shell.say(viewer, type="event", event={"type": kind})
        phases.append(viewer.phase)
    shell.say(viewer, type="ack", seq=99)
    phases.append(viewer.phase)
    shell.say(viewer, type="event", event={"type": "key_down", "key": "x"})
    shell.core.left(viewer, shell.now)
    phases.append(viewer.phase)
    assert phases == [Phase.ACTIVE, Phase.HIDDEN, Phase.ACTIVE, Phase.DRAINING, Phase.CLOSED]
    assert [(close.viewer, close.code) for close in shell.said(Close)] == [(viewer, 4400)]
    assert "key_down" not in [deliver.said["type"] for deliver in shell.said(Deliver)], "what it still says is ignored"
    with pytest.raises(KeyError):
        viewer.becomes("shown")
    assert {before for before, _ in TRANSITIONS} == set(Phase) - {Phase.CLOSED}


@pytest.mark.parametrize("blocked", [False, True])
def test_one_that_takes_nothing_more_keeps_the_last_frame_from_the_others_for_a_moment_only(blocked: bool) -> None:
    shell = Shell(codec="h264")
    one, other = shell.join(*VIDEO), shell.join(*VIDEO)
    for number in range(30):
        shell.publish()
        shell.finish()
        if number < 27:
            shell.ack(one, other)
        elif blocked:
            shell.blocked.add(other)
    assert one.session.stale, "both windows are full"
    shell.ack(one)
    shell.wait(0.5)
    shell.finish()
    assert not one.session.stale


def test_video_that_hangs_leaves_images_to_everybody() -> None:
    shell = Shell(codec="h264")
    viewer = shell.join(*VIDEO)
    for size in (SIZE, (320, 320)):
        shell.publish(size)
        assert any(isinstance(job, EncodeVideo) for job in shell.jobs)
        for _ in range(round(2 * ENCODE_TIMEOUT) + 2):
            shell.wait(0.5)
            shell.finish(EncodeImages)
            shell.ack(viewer)
    assert shell.core.jobs.hanging == 2
    assert (viewer.session.stale, shell.join(*PICTURES).phase) == (False, Phase.ACTIVE)


def test_who_was_advised_to_publish_less_is_told_when_it_need_not_any_more() -> None:
    shell = Shell(adaptive=True)
    viewer = shell.join(*PICTURES)
    shell.publish()
    shell.core.control.advised = 0.5
    shell.core.configure(shell.core.state.options.but({"bitrate": 10_000_000}), shell.now)
    shell.publish()
    assert (viewer.session.policy.step.scale, [advise.scale for advise in shell.said(Advise)]) == (1.0, [1.0])


def test_while_pieces_wait_for_the_viewer_nothing_is_looked_at_again() -> None:
    shell = Shell(quality=80, bitrate=8_000_000)
    viewer = shell.join("image/jpeg", "image/png", "rfb/channels")
    viewer.session.bandwidth.latency, viewer.session.bandwidth.last_rate = 0.05, 1e6
    shell.publish()
    shell.finish()
    viewer.session.outbox.show([(b"header", bytes(10_000_000))])
    shell.ack(viewer)
    assert viewer.session.outbox.shows
    assert not viewer.writing
    shell.wait(1)  # which fails if it wakes up again and again


def test_a_region_is_encoded_by_the_threads_that_there_are() -> None:
    outcomes: list[Any] = []
    work: list[Any] = []

    class One:
        """A pool that gets no second thread."""

        def submit(self, function: Any) -> None:
            if work:
                raise RuntimeError("can't start new thread")
            work.append(function)

    frame = Frame(np.zeros((640, 640, 3), np.uint8), TileMap.whole(640, 640, 1), owned=True, number=1)
    pool: Any = One()
    EncodeJob(frame, ((0, 0, 640, 640),), Fidelity("image/jpeg", 80, True), outcomes.append).start(pool, 4)
    work[0]()
    assert [len(encoded.parts) > 1 for encoded in outcomes] == [True]
