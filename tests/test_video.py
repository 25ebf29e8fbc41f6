"""Video over real sockets, with the real encoder: what base viewers and ours are sent, and what it costs the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hosts import wait_for
from inside import core_of
from model import ModelCanvas
from viewers import RawViewer, closed, grey
from websockets.exceptions import ConnectionClosed

import pdum_rfb_widget as rfb
from pdum_rfb_widget._core.policy.degradation import Degradation
from pdum_rfb_widget._core.session import ViewerSession
from pdum_rfb_widget._encode.video import SharedEncoderWorker
from pdum_rfb_widget.encoders import base
from pdum_rfb_widget.encoders.base import register_video_encoder
from pdum_rfb_widget.encoders.h264_cpu import H264CpuEncoder
from pdum_rfb_widget.protocol import unpack_binary_message
from pdum_rfb_widget.types import Pixels, registered_encoders

OURS = ("image/jpeg", "image/png", "webcodecs/h264-annexb", "rfb/tiles")
BASE = ("image/jpeg", "image/png", "webcodecs/h264-annexb")
VIDEO_ONLY = ("webcodecs/h264-annexb",)


def scene(number: int, width: int = 320, height: int = 192) -> Pixels:
    """A smooth picture, other everywhere for each *number*."""
    y, x = np.mgrid[:height, :width]
    planes = [128 + 100 * np.sin((x * a + y * b + 9 * number) / 40) for a, b in ((1, 2), (2, -1), (-1, 1))]
    return np.stack(planes, axis=-1).astype(np.uint8)


class Watcher:
    """A raw viewer on a thread of its own, which draws what comes on a model canvas and acknowledges it."""

    def __init__(self, display: rfb.Display, *supported: str, draw: bool = True) -> None:
        self.canvas = ModelCanvas()
        self.headers: list[dict[str, Any]] = []
        self.acks = True
        self._draws = draw
        self._viewer = RawViewer(display, *supported)
        self.canvas.config = self._viewer.greet()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def say(self, **message: Any) -> None:
        self._viewer.say(**message)

    def close(self) -> None:
        self._viewer.__exit__()
        self._thread.join(60)
        if self.error:
            raise self.error

    @property
    def kinds(self) -> list[str]:
        return ["still" if header.get("still") else header["type"] for header in self.headers]

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return [header for header in self.headers if header["type"] == "video_chunk"]

    @property
    def keyframes(self) -> int:
        return sum(chunk["keyframe"] for chunk in self.chunks)

    def _watch(self) -> None:
        try:
            for message in self._viewer.socket:
                if isinstance(message, str):
                    if (text := json.loads(message))["type"] == "config":
                        self.canvas.config = text
                    continue
                header, payload = unpack_binary_message(message)
                if self._draws:
                    self.canvas.take(header, payload)
                self.headers.append(header)
                if self.acks:
                    self._viewer.ack(header["seq"])
        except ConnectionClosed:
            pass  # left with an acknowledgement still to say
        except AssertionError as error:
            self.error = error


@contextmanager
def watching(display: rfb.Display, *supported: str, count: int = 1, draw: bool = True) -> Iterator[list[Watcher]]:
    with ExitStack() as stack:
        watchers = [Watcher(display, *supported, draw=draw) for _ in range(count)]
        for watcher in watchers:
            stack.callback(watcher.close)
        yield watchers


def play(display: rfb.Display, frames: int, *, start: int = 0, fps: float = 120, **size: int) -> Pixels:
    """Publish moving pictures at a steady rate; the last."""
    picture = scene(start, **size)
    began = time.monotonic()
    for number in range(frames):
        picture = scene(start + number, **size)
        display.publish(picture)
        time.sleep(max(0.0, began + (number + 1) / fps - time.monotonic()))
    return picture


def play_until(display: rfb.Display, condition: Callable[[], object]) -> int:
    """Publish moving pictures until *condition* holds; the number of the next."""
    frames = 0

    def played() -> object:
        nonlocal frames
        play(display, 1, start=frames)
        frames += 1
        return condition()

    wait_for(played, "what motion leads to")
    return frames


def exact(watcher: Watcher, picture: Pixels) -> Callable[[], bool]:
    return lambda: watcher.error is not None or watcher.canvas.error(picture) == 0


def near(watcher: Watcher, picture: Pixels) -> Callable[[], bool]:
    return lambda: watcher.error is not None or watcher.canvas.error(picture) < 30


def fine(watcher: Watcher, picture: Pixels) -> Callable[[], bool]:
    return lambda: watcher.error is not None or watcher.canvas.error(picture) < 10


def test_motion_is_video_and_rest_is_exact() -> None:
    display = rfb.serve(320, 192, port=0, codec="h264", quality=75, fps=240)
    with watching(display, *OURS) as (watcher,):
        last = play(display, 40)
        wait_for(exact(watcher, last), "the last frame, exactly")
        assert watcher.kinds[0] == "video_chunk"
        assert set(watcher.kinds) == {"video_chunk", "still"}
        assert watcher.keyframes == 1
        last = play(display, 20, start=100)
        wait_for(exact(watcher, last), "the last frame, exactly")
        assert watcher.keyframes == 1, "after a short rest the chain goes on"


def test_what_rests_exactly_stays_so_while_the_rest_moves() -> None:
    display = rfb.serve(320, 192, port=0, codec="h264", fps=240)
    rests = scene(7)[:, :128]
    with watching(display, *OURS) as (watcher,):
        display.publish(np.hstack([rests, scene(0)[:, 128:]]))
        wait_for(lambda: "still" in watcher.kinds, "a still")
        wait_for(lambda: watcher.canvas.pixels.shape == (192, 320, 3), "a picture")
        wait_for(lambda: (watcher.canvas.pixels[:, :128] == rests).all(), "the half that rests")
        changes = 0
        for number in range(60):
            display.publish(np.hstack([rests, scene(number)[:, 128:]]))
            wait_for(lambda n=number: len(watcher.chunks) > n, "the next frame")
            changes += bool((watcher.canvas.pixels[:, :128] != rests).any())
        assert changes == 0
        assert all(x >= 128 for chunk in watcher.chunks[1:] for x, _, _, _ in chunk["rects"])


def test_a_base_viewer_gets_what_its_config_names() -> None:
    display = rfb.serve(320, 192, port=0, codec="h264", quality=75, fps=240)
    with watching(display, *BASE) as (watcher,):
        wait_for(exact(watcher, play(display, 30)), "the last frame, exactly")
        chunk = watcher.chunks[0]
        assert chunk.keys().isdisjoint({"rects", "after"}), "it knows nothing of them"
        wait_for(near(watcher, play(display, 30, start=50)), "motion again")
        assert watcher.keyframes == 2, "it may have built another decoder after the picture"


def test_a_viewer_of_nothing_but_video_is_fed_from_the_first_frame_to_the_last() -> None:
    display = rfb.serve(320, 192, port=0)
    display.publish(scene(0))
    with watching(display, *VIDEO_ONLY) as (watcher,):
        wait_for(near(watcher, scene(0)), "the frame that was there")
        wait_for(near(watcher, play(display, 30)), "the last frame")
        assert {header["type"] for header in watcher.headers} == {"video_chunk"}


@pytest.mark.parametrize("message", [{"type": "request_keyframe", "reason": "lost"}, {"type": "decoder_reset"}])
@pytest.mark.parametrize("supported", [OURS, BASE, VIDEO_ONLY])
def test_who_lost_its_decoder_is_right_again_though_nothing_moves(
    supported: tuple[str, ...], message: dict[str, str]
) -> None:
    display = rfb.serve(320, 192, port=0, codec="h264", still_after=None)
    with watching(display, *supported) as (watcher,):
        last = play(display, 10)
        wait_for(near(watcher, last), "the last frame")
        watcher.canvas.lose()
        watcher.say(**message)
        wait_for(near(watcher, last), "the same again")


@pytest.mark.parametrize("supported", [OURS, BASE])
def test_sizes_change_in_the_middle_and_may_be_odd(supported: tuple[str, ...]) -> None:
    display = rfb.serve(320, 192, port=0, codec="h264", still_after=0.05)
    with watching(display, *supported) as (watcher,):
        for width, height in ((320, 192), (321, 193), (64, 65), (1, 1), (2, 3), (320, 192)):
            last = play(display, 5, width=width, height=height)
            wait_for(exact(watcher, last), f"{width}x{height}, exactly")


def test_equal_viewers_share_one_encoding_of_each_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    encode = SharedEncoderWorker.chunk
    monkeypatch.setattr(
        SharedEncoderWorker, "chunk", lambda self, frame, take: calls.append(1) or encode(self, frame, take)
    )
    display = rfb.serve(320, 192, port=0, codec="h264", quality=75, fps=240, still_after=None)
    display.publish(scene(0))
    with watching(display, *OURS, count=4, draw=False) as watchers:
        wait_for(lambda: all(watcher.headers for watcher in watchers), "the first frame")
        play(display, 100, start=1)
        wait_for(seen_by_all(watchers, display), "the last frame")
        assert len(calls) < 200, "one for each viewer would be 400"


def seen_by_all(watchers: list[Watcher], display: rfb.Display) -> Callable[[], bool]:
    def seen() -> bool:
        newest = core_of(display).state.newest
        assert newest
        return all(watcher.headers[-1]["timestamp_us"] == newest.timestamp_us for watcher in watchers)

    return seen


def test_one_that_stops_reading_costs_the_others_no_frame() -> None:
    display = rfb.serve(320, 192, port=0, codec="h264", fps=240, still_after=None)
    with watching(display, *OURS, count=4, draw=False) as watchers:
        dead, *healthy = watchers
        start = play_until(display, lambda: all(watcher.chunks for watcher in watchers))
        dead.acks = False
        had = len(dead.headers)
        for number in range(start, start + 60):
            play(display, 1, start=number)
            wait_for(seen_by_all(healthy, display), f"frame {number}")
        assert len(dead.headers) - had < 60
        dead.acks = True
        dead.say(type="ack", seq=dead.headers[-1]["seq"], decode_queue_size=0, displayed=True)
        wait_for(seen_by_all([dead], display), "it may come back")


def test_a_publisher_is_advised_of_a_size_that_its_slowest_viewer_keeps_up_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Degradation, "SUFFERING", 0.02)
    monkeypatch.setattr(Degradation, "PATIENCE", (0.05, 0.05))
    display = rfb.serve(640, 480, port=0, adaptive=True, stats_interval=None, still_after=None)
    hints: list[rfb.DownscaleHint] = []
    picture = scene(0, 640, 480)

    def advised(scale: float, draw_ms: float) -> None:
        frames = 0
        while not hints or hints[-1].scale != scale:
            display.publish(np.roll(picture, frames, axis=0))
            header, _ = viewer.see(ack=False)
            frames += 1
            viewer.say(type="ack", seq=header["seq"], decode_queue_size=0, displayed=True, draw_ms=draw_ms)
            hints.extend(event for event in display.poll_events() if isinstance(event, rfb.DownscaleHint))
            assert frames < 2000

    with RawViewer(display, "image/jpeg", "image/png", "rfb/tiles") as viewer:
        viewer.greet()
        advised(0.5, draw_ms=900)
        assert [(hint.width, hint.height) for hint in hints] == [(480, 360), (320, 240)]
        advised(1.0, draw_ms=0.1)


@pytest.mark.slow
def test_nothing_is_left_of_viewers_that_come_and_go() -> None:
    display = rfb.serve(64, 48, port=0, codec="h264", still_after=None)
    display.publish(scene(0, 64, 48))
    kinds = []
    for number in range(500):
        with RawViewer(display, *OURS) as viewer:
            viewer.greet()
            display.publish(grey(number % 250, 64, 48))
            kinds.append(viewer.see()[0]["type"])
    assert kinds.count("video_chunk") > 100
    wait_for(lambda: not display.client_count and not display.status()["encoders"], "nobody left")
    wait_for(lambda: not any("rfb-video" in thread.name for thread in threading.enumerate()), "no thread left")


def test_an_encoder_that_fails_leaves_pictures_and_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def fail(**settings: Any) -> Any:
        raise RuntimeError("no encoder today")

    register_video_encoder("h264_cpu", fail)
    try:
        display = rfb.serve(320, 192, port=0, codec="h264")
        with watching(display, *OURS) as (watcher,), RawViewer(display, *VIDEO_ONLY) as poor:
            poor.greet()
            wait_for(exact(watcher, play(display, 10)), "the last frame, exactly")
            assert "video_chunk" not in watcher.kinds
            assert closed(poor)[0] == 4406
        assert [record.levelname for record in caplog.records if "no encoder today" in str(record.exc_info)] == [
            "ERROR"
        ]
    finally:
        registered_encoders.clear()


def test_where_the_thread_of_video_can_not_begin_pictures_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin, refused = threading.Thread.start, threading.Event()

    def start(thread: threading.Thread) -> None:
        if "rfb-video" in thread.name and not refused.is_set():
            refused.set()
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    display = rfb.serve(320, 192, port=0, codec="h264")
    with watching(display, *OURS) as (watcher,):
        wait_for(exact(watcher, play(display, 10)), "the last frame, exactly")
        assert refused.is_set()
        assert "video was given up for pictures: RuntimeError: can't start" in display.status()["recent_errors"][0]


@pytest.mark.parametrize("more", [(), ("rfb/tiles",)])
def test_a_viewer_of_nothing_but_video_gets_a_fine_keyframe_at_rest_and_goes_on(more: tuple[str, ...]) -> None:
    display = rfb.serve(320, 192, port=0, codec="h264", quality=30)
    with watching(display, *VIDEO_ONLY, *more) as (watcher,):
        for start in (0, 100):
            last = play(display, 20, start=start)
            wait_for(fine(watcher, last), "a picture that is 9 off at most, and in motion was 39")
            wait_for(lambda: watcher.kinds[-1] == "still", "a still")
        for number, header in enumerate(watcher.headers):
            if header.get("still") or watcher.kinds[number - 1] == "still":
                assert header["keyframe"]


def test_at_rest_a_viewer_of_nothing_but_video_is_sent_one_still_and_others_none_of_it() -> None:
    display = rfb.serve(320, 192, port=0, codec="h264")
    with watching(display, *VIDEO_ONLY) as (poor,), watching(display, *OURS) as (rich,):
        last = play(display, 20)
        wait_for(fine(poor, last), "a still")
        wait_for(exact(rich, last), "the last frame, exactly")
        had = len(poor.headers), len(rich.headers)
        with pytest.raises(TimeoutError):
            wait_for(lambda: (len(poor.headers), len(rich.headers)) != had, "anything more", seconds=0.5)
        assert not [chunk for chunk in rich.chunks if chunk.get("still")]


@pytest.mark.parametrize("options", [{"still_after": None}, {}])
def test_no_still_of_video_where_none_is_wanted_or_the_encoder_offers_none(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plain:
        """An encoder that keeps to `EncoderBackend`."""

        def __init__(self, *, pipeline_depth: int, **settings: Any) -> None:
            backend = H264CpuEncoder(**settings)
            self.encode, self.flush, self.close = backend.encode, backend.flush, backend.close

    if not options:
        monkeypatch.setitem(registered_encoders, "h264_cpu", Plain)
    display = rfb.serve(320, 192, port=0, codec="h264", **options)
    with watching(display, *VIDEO_ONLY) as (watcher,):
        wait_for(near(watcher, play(display, 20)), "the last frame")
        with pytest.raises(TimeoutError):
            wait_for(lambda: "still" in watcher.kinds, "a still", seconds=0.5)


@pytest.fixture
def registry() -> Iterator[None]:
    """What a test registers is forgotten with it."""
    with patch.dict(registered_encoders), patch.dict(base.codec_of):
        yield


def wrapped(how: Callable[[H264CpuEncoder, list[Any]], list[Any]], made: list[Any] | None = None) -> Callable[..., Any]:
    """A factory of encoders whose payloads go through *how*; each is put into *made*."""

    class Wrapped:
        def __init__(self, *, pipeline_depth: int, **settings: Any) -> None:
            assert pipeline_depth == 0
            self._backend = H264CpuEncoder(**settings)
            self.flush, self.close = self._backend.flush, self._backend.close
            if made is not None:
                made.append(self)

        def encode(self, frame: Any, *, force_keyframe: bool = False) -> list[Any]:
            return how(self._backend, self._backend.encode(frame, force_keyframe=force_keyframe))

    return Wrapped


@pytest.mark.usefixtures("registry")
def test_a_stream_asks_for_a_registered_encoder_by_its_name() -> None:
    made: list[Any] = []
    register_video_encoder("mine", wrapped(lambda backend, payloads: payloads, made))
    display = rfb.serve(320, 192, port=0, codec="mine")
    with watching(display, *OURS) as (watcher,):
        wait_for(exact(watcher, play(display, 10)), "the last frame, exactly")
        assert watcher.chunks
        assert made
        before = len(made)
        display.configure(codec="h264")
        wait_for(exact(watcher, play(display, 10, start=100)), "the last frame, exactly")
        assert watcher.chunks[-1]["codec"].startswith("avc1")
        assert len(made) == before, "it is another's stream now"
    with pytest.raises(ValueError, match="codec is one of auto, h264, vp9, av1, none, or the name of an encoder"):
        rfb.serve(320, 192, port=0, codec="yours")
    with pytest.raises(ValueError, match="'auto' is no name for an encoder"):
        register_video_encoder("auto", H264CpuEncoder)
    with pytest.raises(ValueError, match="codec is one of h264, vp9, av1, not 'hevc'"):
        register_video_encoder("mine", H264CpuEncoder, codec="hevc")  # type: ignore[arg-type]


@pytest.mark.usefixtures("registry")
def test_what_a_registered_encoder_gives_is_what_viewers_are_asked_for() -> None:
    register_video_encoder("mine", H264CpuEncoder, codec="av1")
    assert base.codecs_for("mine") == ("av1", "h264")
    assert (base.encoder_for("av1", "mine"), base.encoder_for("h264", "mine")) == ("mine", "h264_cpu")
    register_video_encoder("vp9", H264CpuEncoder)
    assert base.codecs_for("vp9") == ("vp9", "h264")


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("how", ["keyframes", "parts", "held back"])
def test_an_encoder_may_give_keyframes_unasked_parts_or_nothing_before_it_is_flushed(how: str) -> None:
    def restarts(backend: H264CpuEncoder, payloads: list[Any]) -> list[Any]:
        backend.flush()  # the next is a keyframe
        return payloads

    def cut(backend: H264CpuEncoder, payloads: list[Any]) -> list[Any]:
        (whole,) = payloads
        return [replace(whole, payload=whole.payload[:9]), replace(whole, payload=whole.payload[9:], keyframe=False)]

    class HoldsBack:
        def __init__(self, *, pipeline_depth: int, **settings: Any) -> None:
            self._backend, self._held = H264CpuEncoder(**settings), []
            self.close = self._backend.close

        def encode(self, frame: Any, *, force_keyframe: bool = False) -> list[Any]:
            given, self._held = self._held, self._backend.encode(frame, force_keyframe=force_keyframe)
            return given

        def flush(self) -> list[Any]:
            given, self._held = self._held, []
            return given + self._backend.flush()

    factory = {"keyframes": wrapped(restarts), "parts": wrapped(cut), "held back": HoldsBack}[how]
    register_video_encoder("mine", factory)
    display = rfb.serve(320, 192, port=0, codec="mine")
    with watching(display, *VIDEO_ONLY) as (watcher,):
        for start in (0, 100):
            wait_for(near(watcher, play(display, 10, start=start)), "the last frame")
        assert watcher.kinds.count("video_chunk") > 2
        assert all(chunk["keyframe"] for chunk in watcher.chunks) == (how != "parts")
    assert display.status()["recent_errors"] == []


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda backend, payloads: [], "gave nothing for a frame, nor when it was flushed"),
        (lambda backend, payloads: [*payloads, replace(payloads[0], timestamp_us=1)], "gave 2 frames for one"),
        (lambda backend, payloads: [replace(payloads[0], codec=None)], "names no codec"),
        (lambda backend, payloads: [replace(payloads[0], keyframe=False)], "gave no keyframe"),
    ],
)
def test_what_an_encoder_did_wrong_is_said_and_pictures_serve(how: Any, words: str) -> None:
    register_video_encoder("mine", wrapped(how))
    display = rfb.serve(320, 192, port=0, codec="mine")
    with watching(display, *OURS) as (watcher,):
        wait_for(exact(watcher, play(display, 3)), "the last frame, exactly")
        wait_for(lambda: any(words in trouble for trouble in display.status()["recent_errors"]), "the cause")


def test_pyav_that_is_installed_while_the_process_runs_serves_the_next_display(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(base, "find_spec", lambda name: None)
        display = rfb.serve(320, 192, port=0)
        assert core_of(display).state.codecs == ()
    assert core_of(display).state.codecs == ()
    assert core_of(rfb.serve(320, 192, port=0, name=display.name)).state.codecs == ("h264",)


def test_without_pyav_a_registered_encoder_serves() -> None:
    code = """
import sys
sys.modules["av"] = None
import numpy as np, pdum_rfb_widget as rfb
from pdum_rfb_widget.testing import FakeEncoder
from viewers import RawViewer, grey
rfb.register_video_encoder("mine", FakeEncoder)
display = rfb.serve(64, 48, port=0, codec="mine")
with RawViewer(display, "webcodecs/h264-annexb") as viewer:
    viewer.greet()
    for value in range(40):
        display.publish(grey(value))
        header, payload = viewer.see()
        assert header["type"] == "video_chunk", header
    print(header["codec"], payload.decode())
"""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout.startswith("avc1.42c01f "), done.stderr


def test_lossless_video_is_exact_in_motion() -> None:
    display = rfb.serve(320, 192, port=0, codec="h264", quality="lossless")
    with watching(display, *OURS, "rfb/h264-444", "rfb/h264-rgb") as (watcher,):
        for number in range(10):
            display.publish(scene(number))
            wait_for(exact(watcher, scene(number)), f"frame {number}")
        assert set(watcher.kinds) == {"video_chunk"}


def test_few_coloured_pictures_go_with_full_chroma_where_the_viewer_decodes_it() -> None:
    display = rfb.serve(320, 192, port=0, codec="h264", still_after=None)
    picture = np.full((192, 320, 3), 255, np.uint8)
    picture[::7, :, 0] = 0
    with watching(display, *OURS, "rfb/h264-444") as (watcher,):
        display.publish(picture)
        wait_for(near(watcher, picture), "its colours")
        assert watcher.canvas.config["codec"].startswith("avc1.f4")


def test_without_pyav_pictures_serve_and_asking_for_video_names_the_extra() -> None:
    code = """
import sys
sys.modules["av"] = None
import numpy as np, pdum_rfb_widget as rfb
display = rfb.serve(64, 48, port=0)
display.publish(np.zeros((48, 64, 3), np.uint8))
try:
    rfb.serve(64, 48, port=0, codec="h264")
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert "pip install 'pdum-rfb-widget[h264]'" in done.stdout, done.stderr


def test_on_a_fast_local_link_video_keeps_to_no_bit_rate() -> None:
    random = np.random.default_rng(3)
    display = rfb.serve(320, 192, port=0, codec="h264", bitrate=1_000_000, still_after=None)
    with watching(display, *OURS, draw=False) as watchers:
        for _ in range(60):
            display.publish(random.integers(0, 256, (192, 320, 3), np.uint8))
            display.wait_ready(0.1)
        wait_for(seen_by_all(watchers, display), "the last frame")
        assert len(watchers[0].chunks) > 30, "of 50 KB each: within the bit rate it were two or three a second"


@pytest.mark.parametrize("options", [{"codec": "none"}, {"codec": "h264", "alpha": True}])
def test_a_cell_that_runs_again_without_video_closes_only_who_takes_nothing_else(options: dict[str, Any]) -> None:
    display = rfb.serve(320, 192, port=0, codec="h264", name="again")
    with watching(display, *BASE) as (watcher,), RawViewer(display, *VIDEO_ONLY) as poor:
        poor.greet()
        play(display, 10)
        wait_for(lambda: watcher.chunks, "video")
        again = rfb.serve(320, 192, name="again", **options)
        wait_for(exact(watcher, play(again, 5, start=50)), "the last frame, exactly")
        assert closed(poor)[0] == 4406


def test_the_hub_rests_while_an_encoder_works_or_a_viewer_dawdles(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    plan = ViewerSession.plan
    monkeypatch.setattr(ViewerSession, "plan", lambda self, now: calls.append(1) or plan(self, now))
    display = rfb.serve(320, 192, port=0, codec="h264", still_after=None, stats_interval=None)
    with RawViewer(display, *OURS) as viewer:
        viewer.greet()
        for number in range(20):
            display.publish(scene(number))
            assert viewer.see()[0]["type"] == "video_chunk"
        for number in range(5):  # of which the window takes two
            display.publish(scene(100 + number))
        viewer.see(ack=False)
        header, _ = viewer.see(ack=False)
        assert len(calls) < 30 * 6
        viewer.ack(header["seq"])
        viewer.see()


def test_a_script_that_ends_with_a_viewer_of_video_says_nothing() -> None:
    code = """
import sys, threading
sys.path.insert(0, "tests")
import numpy as np, pdum_rfb_widget as rfb
from viewers import RawViewer
display = rfb.serve(64, 48, port=0, codec="h264")
viewer = RawViewer(display, "webcodecs/h264-annexb", "image/png", "rfb/tiles")
viewer.greet()
for number in range(5):
    display.publish(np.full((48, 64, 3), 40 * number, np.uint8))
    viewer.see()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")


MACROBLOCKS_A_SECOND = {30: 40_500, 31: 108_000, 32: 216_000, 40: 245_760, 42: 522_240, 50: 589_824, 51: 983_040}
"""That a level of H.264 promises to be enough for, by its number in codec strings. Source: ITU-T H.264, table A-1."""


@pytest.mark.parametrize(("rate", "keyframes"), [(50, 1), (100, 2), (200, 2)])
def test_the_level_promises_the_rate_that_frames_come_at_and_costs_no_more_keyframes_than_it_must(
    rate: int, keyframes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1_000_000, 100_000_000, 1_000_000 // rate))
    monkeypatch.setattr("pdum_rfb_widget._hub.stream.now_us", lambda: next(clock))
    display = rfb.serve(1280, 720, port=0, codec="h264", quality=75, fps=10, still_after=None)
    with RawViewer(display, *VIDEO_ONLY) as viewer:
        viewer.greet()
        headers = []
        for number in range(40):
            display.publish(grey(100 + number, 1280, 720))
            headers.append(viewer.see()[0])
    level = int(headers[-1]["codec"][-2:], 16)
    assert MACROBLOCKS_A_SECOND[level] >= 80 * 45 * rate
    assert sum(header["keyframe"] for header in headers) == keyframes
