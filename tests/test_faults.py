"""What breaks inside: encoders, publishers, loops, processes, ports. The other streams go on, and the cause is said."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from conftest import Skip
from hosts import wait_for
from inside import core_of, hub_of, publication_of
from test_serve import run_script
from viewers import RawViewer, closed, grey, in_thread, unacknowledged, value_of

import pdum_rfb_widget as rfb
from pdum_rfb_widget._encode import jobs
from pdum_rfb_widget._hosts import discovery, hub_proxy
from pdum_rfb_widget._hub.admission import ConnectionRequest
from pdum_rfb_widget.encoders.video import VideoEncoder
from pdum_rfb_widget.transport import TransportClosed

Goes = Callable[[], None]


@pytest.fixture
def other_goes_on(display: rfb.Display) -> Iterator[Goes]:
    """Asks whether another stream of the hub still shows every frame; it is asked at the end, too."""
    other = display.server.add_stream("other", 64, 48)
    with RawViewer(other) as viewer:
        viewer.greet()

        def goes_on() -> None:
            for value in (40, 80, 160):
                other.publish(grey(value))
                assert abs(value_of(viewer.see()[1]) - value) <= 2
            wait_for(lambda: unacknowledged(other) == [0], "the hub to hear the last acknowledgement")

        goes_on()
        yield goes_on
        goes_on()


def sabotage(monkeypatch: pytest.MonkeyPatch, instead: Callable[[], object]) -> None:
    """Run *instead* where a picture of 77 pixels is to be encoded; what it raises, the encoder raises."""
    encode = jobs.encode_image

    def broken(pixels: Any, fidelity: Any) -> Any:
        if pixels.shape[1] == 77:
            instead()
        return encode(pixels, fidelity)

    monkeypatch.setattr(jobs, "encode_image", broken)


# Encoders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("no room"), SystemExit("no room")])
def test_an_encoder_that_raises_fails_its_stream_alone_and_the_cause_is_said(
    display: rfb.Display,
    other_goes_on: Goes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
) -> None:
    def fails() -> None:
        raise error

    sabotage(monkeypatch, fails)
    with RawViewer(display) as viewer:
        viewer.greet()
        display.publish(grey(1, width=77))
        assert closed(viewer) == (1011, "the hub failed; its log says why")
        other_goes_on()
    assert "no room" in caplog.text
    wait_for(
        lambda: any("no room" in trouble for trouble in display.status()["recent_errors"]), "the cause in the status"
    )
    display.publish(grey(90))
    with RawViewer(display) as viewer:
        viewer.greet()
        assert abs(value_of(viewer.see()[1]) - 90) <= 2


def test_an_event_that_can_not_be_delivered_costs_no_viewer_its_messages(
    display: rfb.Display, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(event: Any) -> None:
        raise RuntimeError("can't start new thread")

    with RawViewer(display) as one, RawViewer(display) as other:
        one.greet()
        other.greet()
        monkeypatch.setattr(publication_of(display), "put_event", fails)
        one.say(type="event", event={"type": "key_down", "key": "x"})
        wait_for(lambda: display.status()["recent_errors"], "the error in the status")
        for value in (40, 80):
            display.publish(grey(value))
            assert [abs(value_of(viewer.see()[1]) - value) <= 2 for viewer in (one, other)] == [True, True]
    assert "can't start new thread" in caplog.text


def test_an_encoder_that_hangs_holds_up_no_other_stream_and_is_given_up(
    display: rfb.Display,
    skip: Skip,
    other_goes_on: Goes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("pdum_rfb_widget._encode.pool.HUNG_AFTER", 0.2)
    monkeypatch.setattr("pdum_rfb_widget._encode.executor.HUNG_AFTER", 0.2)
    begun, release = threading.Semaphore(0), threading.Event()
    sabotage(monkeypatch, lambda: (begun.release(), release.wait(60)))
    threads = hub_of(display).threads
    try:
        for turn in range(3):
            with RawViewer(display, "image/jpeg", "image/png") as one, RawViewer(display, "image/webp") as two:
                one.greet()
                two.greet()
                for step in range(threads + 1):
                    display.publish(grey(step, width=77))
                if turn == 0:
                    assert begun.acquire(timeout=60)
                    assert begun.acquire(timeout=60)
                other_goes_on()
                skip(31)
                assert {closed(one)[0], closed(two)[0]} == {1011}
        assert "has not returned for 30 s" in caplog.text
        assert any("has not returned" in trouble for trouble in display.status()["recent_errors"])
        assert display.status()["encoders_hanging"] == 2, "no more were begun"
    finally:
        release.set()
    wait_for(lambda: display.status()["encoders_hanging"] == 0, "the encoders to return")
    with RawViewer(display) as viewer:
        viewer.greet()
        assert viewer.see()[0]["width"] == 77


@pytest.mark.parametrize("hangs", [True, False])
def test_a_video_encoder_that_hangs_or_fails_leaves_it_to_pictures(
    display: rfb.Display, skip: Skip, other_goes_on: Goes, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    begun, release = threading.Event(), threading.Event()

    def broken(self: Any, frame: Any, *, force_keyframe: bool = False) -> Any:
        begun.set()
        if hangs:
            release.wait(60)
        raise MemoryError("no room for video")

    monkeypatch.setattr(VideoEncoder, "encode", broken)
    display.configure(codec="h264", still_after=None)
    try:
        with RawViewer(display, "image/jpeg", "image/png", "rfb/tiles", "webcodecs/h264-annexb") as viewer:
            viewer.greet()
            display.publish(grey(10))
            assert begun.wait(60)
            other_goes_on()
            if hangs:
                skip(31)
            assert viewer.see()[0]["type"] == "tiles"
            for value in (50, 150):
                display.publish(grey(value))
                assert viewer.see()[0]["type"] == "tiles"
        assert any("given up for pictures" in trouble for trouble in display.status()["recent_errors"])
    finally:
        release.set()


# Publishers and the user's loop ---------------------------------------------------------------------------------------


def test_a_publishing_thread_that_dies_leaves_its_picture_and_the_next_goes_on(
    display: rfb.Display, other_goes_on: Goes, monkeypatch: pytest.MonkeyPatch
) -> None:
    died: list[BaseException] = []

    def no_room(*args: object) -> None:
        raise MemoryError("in the middle of publish")

    def publish() -> None:
        display.publish(grey(70))
        with monkeypatch.context() as patch:
            patch.setattr("pdum_rfb_widget._frames.store.np.copyto", no_room)
            try:
                display.publish(grey(71))
            except MemoryError as error:
                died.append(error)

    with RawViewer(display) as viewer:
        viewer.greet()
        thread = threading.Thread(target=publish)
        thread.start()
        assert abs(value_of(viewer.see()[1]) - 70) <= 2
        thread.join()
        assert died
        other_goes_on()
        with RawViewer(display) as late:
            late.greet()
            assert abs(value_of(late.see()[1]) - 70) <= 2, "the picture stays"
        display.publish(grey(72))
        assert abs(value_of(viewer.see()[1]) - 72) <= 2


def test_a_loop_of_the_user_that_was_closed_takes_nothing_with_it(
    other_goes_on: Goes, display: rfb.Display, caplog: pytest.LogCaptureFixture
) -> None:
    came: list[str] = []
    made: list[rfb.Display] = []

    async def serve() -> None:
        made.append(await rfb.serve(64, 48, name="looped", port=0))
        made[0].on("key_down")(lambda event: came.append(event.event["key"]))

    in_thread(serve)
    (looped,) = made
    with RawViewer(looped) as viewer:
        viewer.greet()
        looped.publish(grey(30))
        assert abs(value_of(viewer.see()[1]) - 30) <= 2
        viewer.say(type="event", event={"type": "key_down", "key": "a"})
        wait_for(lambda: came == ["a"], "the callback, on a thread")
        other_goes_on()
    assert any("loop" in trouble for trouble in looped.status()["recent_errors"])


# Processes ----------------------------------------------------------------------------------------------------------


def test_a_fork_leaves_the_parents_streams_sockets_and_files_alone() -> None:
    out = run_script("""
        import json, os, sys, warnings, numpy as np, pdum_rfb_widget as rfb
        from websockets.sync.client import connect
        warnings.simplefilter("ignore")  # newer Pythons warn of any fork beside a thread
        display = rfb.serve(8, 8, port=0)
        child = os.fork()
        if child == 0:
            try:
                display.publish(np.zeros((8, 8), np.uint8))
            except RuntimeError:
                pass
            display.close()
            display.server.close()
            sys.exit()  # with all that atexit does
        status = os.waitpid(child, 0)[1]
        with connect(display.ws_url) as ws:
            ws.send(json.dumps({"type": "hello", "supported": ["image/png"], "token": display.server.token}))
            ws.recv(timeout=60)
            display.publish(np.ones((5, 5), np.uint8))
            while '"width":5' not in str(ws.recv(timeout=60))[:300]:
                pass
        print(status, display.status()["unix_socket"])
    """)
    assert out == "0 True"


def test_a_process_ends_quietly_with_viewers_publishers_callbacks_and_a_recording_under_way() -> None:
    out = run_script("""
        import json, threading, time, numpy as np, pdum_rfb_widget as rfb
        from websockets.sync.client import connect
        display = rfb.serve(64, 48, port=0, codec="h264", event_log="/dev/null", record_events=True)
        display.on("key_down", thread=True)(lambda event: time.sleep(60))
        sockets = []
        for supported in (["image/png"], ["webcodecs/h264-annexb", "image/png", "rfb/tiles"]):
            sockets.append(connect(display.ws_url).__enter__())
            sockets[-1].send(json.dumps({"type": "hello", "supported": supported, "token": display.server.token}))
            sockets[-1].recv()
            sockets[-1].send('{"type":"event","event":{"type":"key_down","key":"a"}}')
        def publish():
            for step in range(10**9):
                try:
                    display.publish(np.full((48, 64, 3), step % 256, np.uint8))
                except RuntimeError:
                    return
        threading.Thread(target=publish, daemon=True).start()
        sockets[1].recv()
        print("end", flush=True)
    """)
    assert out == "end"


# The machine ----------------------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_said_and_the_streams_there_are_go_on(
    display: rfb.Display, other_goes_on: Goes
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match=r"can't listen on 127\.0\.0\.1"):
            display.server.listen(port=taken.getsockname()[1])
        with pytest.raises(OSError, match=r"can't listen on 127\.0\.0\.1"):
            rfb.serve(8, 8, name="late", port=taken.getsockname()[1])
        other_goes_on()
    assert display.server.streams == ("default", "other")


def test_a_unix_socket_that_was_removed_is_said_by_the_route_and_hurts_nobody_else(
    display: rfb.Display, other_goes_on: Goes, caplog: pytest.LogCaptureFixture
) -> None:
    assert display.status()["unix_socket"]
    os.unlink(hub_of(display).listeners.socket_path)
    assert not display.status()["unix_socket"]

    async def ask() -> None:
        found = discovery.find(display.server.hub_id)
        assert found
        with pytest.raises(hub_proxy.Refusal, match="502 the hub takes no connection: No such file"):
            await hub_proxy.connect(found)

    in_thread(ask)
    other_goes_on()
    display.close()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("jump", [86_400, -86_400])
def test_a_clock_that_is_set_while_viewers_look_changes_nothing(
    display: rfb.Display, other_goes_on: Goes, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    true_time = time.time
    with RawViewer(display) as viewer:
        viewer.greet()
        for step in range(6):
            monkeypatch.setattr(time, "time", lambda: true_time() + (jump if step % 2 else 0))  # noqa: B023
            display.publish(grey(20 * step))
            assert abs(value_of(viewer.see()[1]) - 20 * step) <= 2
            other_goes_on()


# Again and again ------------------------------------------------------------------------------------------------------


class Inside:
    """A transport without a network: a viewer that says hello, takes what comes, and goes."""

    latency = 0.0

    def __init__(self, token: str) -> None:
        self._said = [json.dumps({"type": "hello", "supported": ["image/png"], "token": token})]
        self._gone = asyncio.Event()

    async def receive(self) -> str:
        if self._said:
            return self._said.pop()
        await self._gone.wait()
        raise TransportClosed

    async def send(self, message: Any) -> None:
        if not isinstance(message, str):
            self._gone.set()

    async def close(self, code: int, reason: str) -> None:
        self._gone.set()


def come_and_go(display: rfb.Display, times: int) -> None:
    """*times* viewers, eight at once, each of whom sees a picture."""
    visit = ConnectionRequest("/default", {}, ("127.0.0.1", 1))
    for _ in range(times // 8):
        for visiting in [hub_of(display).begin(Inside(display.server.token), visit) for _ in range(8)]:
            visiting.result(120)


@pytest.mark.slow
def test_thousands_of_viewers_that_come_and_go_leave_nothing(display: rfb.Display) -> None:
    server = display.server
    display.publish(np.zeros((8, 8, 3), np.uint8))
    come_and_go(display, 400)
    tracemalloc.start()
    try:
        gc.collect()
        before, tasks, threads = tracemalloc.get_traced_memory()[0], all_tasks(server), threading.active_count()
        come_and_go(display, 4000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
        print(f"{grown / 1e3:.0f} KB grown")
        assert grown < 180_000, "the smallest object of each is 192 KB, beside 100 that any number leaves"
    finally:
        tracemalloc.stop()
    assert (all_tasks(server), threading.active_count()) == (tasks, threads)
    assert (display.client_count, display.status()["pending"], len(core_of(display).jobs)) == (0, 0, 1)


def all_tasks(server: rfb.Server) -> int:
    return hub_of(server).on_hub(lambda now: len(asyncio.all_tasks()))


@pytest.mark.slow
def test_hundreds_of_hubs_and_displays_that_open_and_close_leave_no_thread_socket_or_file() -> None:
    def cycle() -> None:
        display = rfb.serve(8, 8, port=0)
        display.publish(grey(1))
        second = display.server.add_stream("second", 8, 8)
        second.close()
        display.server.close()

    cycle()
    gc.collect()
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    folder = discovery.own_folder()
    left = len(list(folder.iterdir()))
    for _ in range(200):
        cycle()
    gc.collect()
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) <= files
    assert len(list(folder.iterdir())) == left
