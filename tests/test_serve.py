"""serve: awaited or not, again and again, names and ports; and the display's life in threads and loops."""

from __future__ import annotations

import asyncio
import copy
import io
import json
import math
import pickle
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hosts import wait_for
from inside import core_of, publication_of, stream_of
from PIL import Image
from traitlets import TraitError
from viewers import RawViewer, in_thread, value_of

import pdum_rfb_widget as rfb
from pdum_rfb_widget._frames.damage import Mask, tiles_that_differ
from pdum_rfb_widget._hosts import notebook_context
from pdum_rfb_widget._hub import listeners
from pdum_rfb_widget.types import Pixels

FRAME = np.zeros((8, 8, 3), np.uint8)


def run_script(code: str) -> str:
    """What a script of its own prints; it must end by itself and quietly."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def test_serve_twice_uses_one_hub_and_one_port() -> None:
    first, second = rfb.serve(8, 8, port=0), rfb.serve(8, 8, port=0)
    assert first.server is second.server
    assert first.port == second.port
    assert (first.name, second.name) == ("default", "default-2")
    assert rfb.serve(8, 8, port=first.port).port == first.port


def test_another_port_adds_a_listener_to_the_same_hub() -> None:
    first = rfb.serve(8, 8, port=0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        other = probe.getsockname()[1]
    second = rfb.serve(8, 8, name="second", port=other)
    assert second.server is first.server
    assert (second.port, first.port) == (other, first.port)
    assert other != first.port
    second.publish(FRAME)
    with RawViewer(second) as viewer:
        viewer.greet()
        viewer.see()


def test_a_port_that_another_process_has_is_said_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"can't listen on 127.0.0.1:{port}: another process .* port=0"):
            rfb.serve(8, 8, port=port)


@pytest.mark.parametrize("host", ["host.invalid", "192.0.2.1"])
def test_a_host_that_is_not_this_machine_is_said_so(host: str) -> None:
    with pytest.raises(OSError, match=rf"can't listen on {host}:0: .*an address of this machine: 127.0.0.1"):
        rfb.serve(8, 8, host=host, port=0)


def test_ipv6_addresses_stand_in_brackets() -> None:
    display = rfb.serve(8, 8, host="::1", port=0)
    assert display.ws_url == f"ws://[::1]:{display.port}/default"
    with RawViewer(display) as viewer:
        viewer.greet()


def test_a_wildcard_listener_serves_its_port_for_every_address() -> None:
    wide = rfb.serve(8, 8, name="wide", host="0.0.0.0", port=0)
    assert wide.ws_url == f"ws://127.0.0.1:{wide.port}/wide"
    assert rfb.serve(8, 8, name="narrow", port=wide.port).port == wide.port


def test_a_wildcard_without_a_loopback_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where IPv6 is off, ``::`` can be bound, and nobody reaches it."""
    monkeypatch.setitem(listeners.WILDCARDS, "::", "2001:db8::1")
    with pytest.raises(OSError, match=r"can't listen on :::0: .*an address of this machine: 127.0.0.1"):
        rfb.serve(8, 8, host="::", port=0)


def test_serve_from_many_threads_gives_each_a_stream_of_its_own() -> None:
    displays: list[rfb.Display] = []
    threads = [threading.Thread(target=lambda: displays.append(rfb.serve(8, 8, port=0))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({display.name for display in displays}) == 12
    assert len({display.port for display in displays}) == 1
    assert not any(display.closed for display in displays)


def test_a_display_that_was_taken_over_while_it_copied_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    old = rfb.serve(8, 8, name="scene", port=0)
    new: list[rfb.Display] = []
    copy = np.copyto

    def taken_over_meanwhile(*arrays: Any) -> None:
        new.append(rfb.serve(8, 8, name="scene"))
        copy(*arrays)

    monkeypatch.setattr("pdum_rfb_widget._frames.store.np.copyto", taken_over_meanwhile)
    with pytest.raises(RuntimeError, match="its cell has run again"):
        old.publish(np.ones((3, 3), np.uint8))
    assert (new[0].width, new[0].height) == (8, 8)
    with pytest.raises(RuntimeError, match="nothing was published"):
        new[0].snapshot()


def test_a_name_that_is_taken_is_taken_over_and_its_viewers_move() -> None:
    old = rfb.serve(8, 8, name="scene", port=0, quality=80)
    old.publish(FRAME)
    with RawViewer(old, "image/jpeg", "image/png") as viewer:
        viewer.greet()
        assert viewer.see()[0]["mime"] == "image/jpeg"
        new = rfb.serve(16, 16, name="scene", quality="lossless")
        assert (old.closed, new.closed) == (True, False)
        new.publish(np.full((16, 16), 50, np.uint8))
        header, _ = viewer.see()
        while header["width"] != 16:
            header, _ = viewer.see()
        assert header["mime"] == "image/png"
        viewer.say(type="event", event={"type": "key_down", "key": "n"})
        wait_for(lambda: new.poll_events(), "the event at the new display")
        assert old.poll_events() == []
    with pytest.raises(RuntimeError, match="its cell has run again"):
        old.publish(FRAME)
    old.close()
    assert new.server.streams == ("scene",)


def test_awaited_and_as_context_managers() -> None:
    async def use() -> None:
        display = await rfb.serve(8, 8, port=0)
        assert isinstance(display, rfb.Display)
        async with rfb.serve(8, 8, name="inner") as inner:
            inner.publish(FRAME)
        assert inner.closed
        await display.aclose()
        assert display.closed
        server = await rfb.serve_server(port=0)
        assert server is display.server
        async with server:
            pass
        assert server.closed

    in_thread(use)
    with rfb.serve(8, 8, port=0) as display:
        display.publish(FRAME)
    assert display.closed


def test_events_can_be_iterated_and_end_with_the_display() -> None:
    display = rfb.serve(8, 8, port=0)

    async def take() -> list[str]:
        return [event.event["key"] async for event in display.events() if event.event["type"] == "key_down"]

    keys: list[str] = []
    taking = threading.Thread(target=lambda: keys.extend(in_thread(take)))
    taking.start()
    with RawViewer(display) as viewer:
        viewer.greet()
        for key in "xyz":
            viewer.say(type="event", event={"type": "key_down", "key": key})
        viewer.say(type="request_keyframe")
        display.publish(FRAME)
        viewer.see()
    display.close()
    taking.join(60)
    assert keys == ["x", "y", "z"]


def test_publish_from_many_threads_and_a_coroutine_at_once() -> None:
    display = rfb.serve(8, 8, port=0)

    def publish() -> None:
        for value in range(100):
            display.publish(np.full((8, 8), value, np.uint8))

    async def publish_in_loop() -> None:
        publish()

    with RawViewer(display) as viewer:
        viewer.greet()
        threads = [threading.Thread(target=publish) for _ in range(4)]
        for thread in threads:
            thread.start()
        in_thread(publish_in_loop)
        for thread in threads:
            thread.join()
        assert display.status()["frames_published"] == 500
        display.publish(np.full((3, 3), 1, np.uint8))
        while viewer.see()[0]["width"] != 3:
            pass


def test_publish_loop_feeds_who_can_see_and_ends_with_the_display() -> None:
    display = rfb.serve(8, 8, port=0)
    calls: list[int] = []
    asked: list[float | None] = []
    publication = publication_of(display)
    wait_ready = publication.wait_ready
    publication.wait_ready = lambda timeout: (asked.append(timeout), wait_ready(timeout))[1]

    async def render() -> Any:
        calls.append(len(calls))
        return FRAME + len(calls) % 2

    async def use() -> None:
        task = rfb.publish_loop(display, render, fps=200)
        await asyncio.to_thread(wait_for, lambda: len(asked) >= 20, "twenty looks")
        assert calls == [0], "nobody looks: one frame, for whoever comes"
        viewer = RawViewer(display)
        with viewer:
            await asyncio.to_thread(viewer.greet)
            for _ in range(5):
                await asyncio.to_thread(viewer.see)
        assert len(calls) >= 5
        await display.aclose()
        await asyncio.wait_for(task, 60)

    in_thread(use)
    with pytest.raises(ValueError, match="fps is a number above 0, not 0"):
        rfb.publish_loop(display, lambda: FRAME, fps=0)


@pytest.mark.parametrize("fault", [np.zeros((8, 8)), SystemExit("enough")])
def test_a_publish_loop_that_fails_says_so_in_the_log_and_in_the_status(
    fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    display = rfb.serve(8, 8, port=0)

    def render() -> Any:
        if isinstance(fault, BaseException):
            raise fault
        return fault

    async def main() -> None:
        task = rfb.publish_loop(display, render)
        await asyncio.wait([task])
        assert isinstance(task.exception(), Exception)

    in_thread(main)
    words = "SystemExit: enough" if isinstance(fault, BaseException) else "the frame is float64"
    assert words in display.status()["recent_errors"][-1]
    assert words in caplog.text


def test_scripts_get_the_default_stream_and_port_and_end_by_themselves() -> None:
    out = run_script("""
        import numpy as np, pdum_rfb_widget as rfb
        a, b = rfb.serve(8, 8), rfb.serve(8, 8)
        a.publish(np.zeros((8, 8), np.uint8))
        print(a.ws_url, b.ws_url)
    """)
    assert out == "ws://127.0.0.1:8765/default ws://127.0.0.1:8765/default-2"


def test_a_script_ends_quietly_with_viewers_connected() -> None:
    out = run_script("""
        import json, threading, numpy as np, pdum_rfb_widget as rfb
        from websockets.sync.client import connect
        display = rfb.serve(640, 480, port=0)
        ready, ended = threading.Event(), threading.Event()
        def watch():
            with connect(display.ws_url) as ws:
                hello = {"type": "hello", "supported": ["image/jpeg"], "token": display.server.token}
                ws.send(json.dumps(hello))
                ws.recv()
                ready.set()
                try:
                    while True:
                        ws.recv()
                except Exception as end:
                    print(end.rcvd.code)
                    ended.set()
        threading.Thread(target=watch, daemon=True).start()
        ready.wait(60)
        for _ in range(20):
            display.publish(np.zeros((480, 640, 3), np.uint8))
        display.server.close()
        ended.wait(60)
    """)
    assert out == "1001"


@pytest.mark.parametrize("form", ["image/jpeg", "webcodecs/h264-annexb"])
def test_the_hub_lives_while_a_thread_publishes_though_the_main_thread_has_ended(form: str) -> None:
    out = run_script(f"""
        import json, threading, numpy as np, pdum_rfb_widget as rfb
        from websockets.sync.client import connect
        display = rfb.serve(64, 48, port=0, authenticate=lambda context: context.token, codec="auto")
        ended = threading.Event()
        def see():
            with connect(display.ws_url) as ws:
                ws.send(json.dumps({{"type": "hello", "supported": ["{form}"], "token": "t"}}))
                for number in range(3):
                    display.publish(np.full((48, 64, 3), 80 * number, np.uint8))
                    while isinstance(message := ws.recv(timeout=30), str):
                        pass
                    header = json.loads(message[4:].split(b"}}")[0] + b"}}")
                    ws.send(json.dumps({{"type": "ack", "seq": header["seq"], "decode_queue_size": 0}}))
                print(header["type"], flush=True)
        def publish():
            threading.main_thread().join()
            see()
            see()
        threading.Thread(target=publish).start()
    """)
    kind = "image_frame" if form == "image/jpeg" else "video_chunk"
    assert out.split() == [kind, kind]


@pytest.mark.parametrize("reads", [True, False])
def test_a_script_without_close_ends_quietly_beside_viewers_and_strangers(reads: bool) -> None:
    out = run_script(f"""
        import json, socket, threading, numpy as np, pdum_rfb_widget as rfb
        display = rfb.serve(640, 480, port=0)
        stranger = socket.create_connection(("127.0.0.1", display.port)).detach()
        from websockets.sync.client import connect
        ws = connect(display.ws_url, max_queue=1).__enter__()
        ws.send(json.dumps({{"type": "hello", "supported": ["image/png"], "token": display.server.token}}))
        ws.recv()
        def watch():
            try:
                while {reads}:
                    ws.recv()
            except Exception:
                pass
        threading.Thread(target=watch, daemon=True).start()
        noise = np.random.default_rng(1).integers(0, 256, (2000, 2000, 3), np.uint8)
        for _ in range(5):
            display.publish(noise)
        print("end", flush=True)
    """)
    assert out == "end"


@pytest.mark.slow
def test_an_interrupt_of_the_publishing_cell_leaves_the_hub_alive() -> None:
    out = run_script("""
        import json, os, signal, threading, time, numpy as np, pdum_rfb_widget as rfb
        from websockets.sync.client import connect
        display, frame = rfb.serve(8, 8, port=0), np.zeros((8, 8), np.uint8)
        armed = False
        def fire_once(*_):
            global armed
            if armed:
                armed = False
                raise KeyboardInterrupt
        signal.signal(signal.SIGINT, fire_once)
        done = threading.Event()
        def interrupt():
            while not done.wait(0.002):
                os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt, daemon=True).start()
        interrupts, end = 0, time.monotonic() + 3
        def publish_until_the_end():
            global armed
            armed = True
            while time.monotonic() < end:
                display.publish(frame)
            armed = False
        while time.monotonic() < end:
            try:
                publish_until_the_end()
            except KeyboardInterrupt:
                interrupts += 1
        done.set()
        with connect(display.ws_url) as ws:
            ws.send(json.dumps({"type": "hello", "supported": ["image/png"], "token": display.server.token}))
            ws.recv()
            display.publish(np.zeros((5, 5), np.uint8))
            while '"width":5' not in str(ws.recv(timeout=60))[:300]:
                pass
        print(interrupts > 100)
    """)
    assert out == "True"


def test_a_fork_makes_a_hub_of_its_own() -> None:
    out = run_script("""
        import os, sys, warnings, pdum_rfb_widget as rfb
        warnings.simplefilter("ignore")  # newer Pythons warn of any fork beside a thread
        parent = rfb.serve(8, 8, port=0)
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            own = rfb.serve(8, 8, port=0)
            print(own.server is not parent.server, own.port != parent.port, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
    """)
    assert out == "True True"


@pytest.mark.slow
def test_a_fork_is_told_at_once_and_ends_while_its_parent_publishes_and_records(tmp_path: Path) -> None:
    out = run_script(f"""
        import os, signal, sys, threading, warnings, numpy as np, pdum_rfb_widget as rfb
        warnings.simplefilter("ignore")  # newer Pythons warn of any fork beside a thread
        display = rfb.serve(1280, 720, port=0)
        recording = display.record({str(tmp_path / "film.mp4")!r}, preset="ultrafast")
        frames = np.random.default_rng(1).integers(0, 256, (2, 720, 1280, 3), np.uint8)
        done = threading.Event()
        def publish():
            number = 0
            while not done.is_set():
                number += 1
                display.publish(frames[number % 2])
        threading.Thread(target=publish).start()
        uses = [
            lambda: display.publish(frames[0]),
            display.wait_ready,
            display.status,
            display.snapshot,
            display.poll_events,
            lambda: display.on("pointer_down")(print),
            lambda: display.on_message("a")(print),
            lambda: display.send("a", 1),
            lambda: display.configure(fps=10),
            lambda: display.record({str(tmp_path / "other.mp4")!r}),
            lambda: display.server.add_stream("other", 8, 8),
        ]
        def use_in_child():
            signal.alarm(50)
            told = 0
            for use in uses:
                try:
                    use()
                except RuntimeError as error:
                    told += "is a fork" in str(error)
            assert "of process" in repr(display)
            display.close()
            recording.close()
            display.server.close()
            with rfb.serve(8, 8, port=0) as own:
                own.publish(frames[0])
            sys.exit(told)
        codes = set()
        for _ in range(6):
            child = os.fork()
            if child == 0:
                use_in_child()
            codes.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        done.set()
        recording.close()
        print(codes == {{len(uses)}}, recording.frames_written)
    """)
    told, written = out.split()
    assert told == "True"
    with av.open(str(tmp_path / "film.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == int(written) > 0


@pytest.mark.parametrize("kind", ["display", "server"])
def test_what_belongs_to_this_process_is_not_copied_and_says_what_to_do(display: rfb.Display, kind: str) -> None:
    owned = display if kind == "display" else display.server
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"can't be copied or pickled.*ws_url"):
            copied(owned)


def test_a_bare_import_pulls_in_no_notebook_and_no_server() -> None:
    out = run_script("""
        import sys, json, pdum_rfb_widget
        print(json.dumps([m for m in ("numpy", "anywidget", "websockets", "PIL", "IPython") if m in sys.modules]))
        import pdum_rfb_widget.server
        print(json.dumps([m for m in ("anywidget", "ipywidgets", "IPython", "marimo") if m in sys.modules]))
    """)
    assert [json.loads(line) for line in out.splitlines()] == [[], []]


def test_python_in_a_page_imports_the_package_and_is_told_where_it_works() -> None:
    out = run_script("""
        import sys
        sys.platform = "emscripten"
        sys.modules |= dict.fromkeys(["isal", "simplejpeg", "websockets", "ssl"])
        import pdum_rfb_widget as rfb
        for serve in (lambda: rfb.serve(8, 8), lambda: rfb.serve(8, 8, tcp=False), rfb.serve_server):
            try:
                serve()
            except RuntimeError as error:
                print("Jupyter or marimo with a Python process" in str(error))
    """)
    assert out.split() == ["True"] * 3


def test_a_process_that_gets_no_thread_is_told_and_has_no_half_made_hub() -> None:
    out = run_script("""
        import threading
        import pdum_rfb_widget as rfb
        start = threading.Thread.start

        def refuse(thread):
            raise RuntimeError("can't start new thread")

        threading.Thread.start = refuse
        for _ in range(2):
            try:
                rfb.serve(8, 8, port=0)
            except RuntimeError as error:
                print("thread of its own" in str(error))
        threading.Thread.start = start
        print(rfb.serve(8, 8, port=0).port > 0)
    """)
    assert out.split() == ["True"] * 3


def test_every_public_name_is_there() -> None:
    assert all(hasattr(rfb, name) for name in rfb.__all__)
    assert dir(rfb) == sorted(rfb.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rfb.nothing  # noqa: B018


def test_streams_of_a_cell_are_named_after_it_and_counted_within_one_run() -> None:
    first_run = notebook_context.Cell("cell-a", "run 1")
    assert [first_run.next_stream_name() for _ in range(3)] == ["cell-a", "cell-a-2", "cell-a-3"]
    assert notebook_context.Cell("cell-a", "run 2").next_stream_name() == "cell-a"
    assert notebook_context.Cell("cell-b", "run 3").next_stream_name() == "cell-b"
    assert notebook_context.current_cell() is None


def test_traits_that_there_are_not_and_values_that_they_cannot_have_are_refused() -> None:
    display = rfb.serve(8, 8, port=0)
    with pytest.raises(TypeError, match=r"no trait heigth; did you mean height\? .*\bheight\b"):
        display.widget(heigth=300)
    with pytest.raises(TraitError, match=r"height.* a whole number of at least 16 or any of \['auto'\], not the int 3"):
        display.widget(height=3)
    with pytest.raises(TraitError, match="contain"):
        display.widget(fit="stretch")


@pytest.mark.parametrize("color", ["", "white", "RebeccaPurple", "#fff", "#10203040", "rgb(1 2 3 / 0.5)", "Canvas"])
def test_a_background_is_a_colour(display: rfb.Display, color: str) -> None:
    assert display.widget(background=color).background == color


@pytest.mark.parametrize("color", ["notacolour", "#12", "#ggg", "12px"])
def test_a_background_that_is_no_colour_is_refused(display: rfb.Display, color: str) -> None:
    widget = display.widget()
    with pytest.raises(TraitError, match=f"background is a colour of CSS, .*not '{color}'"):
        display.widget(background=color)
    with pytest.raises(TraitError):
        widget.background = color


def test_one_is_warned_once_of_widgets_without_a_notebook() -> None:
    out = run_script("""
        import logging, sys, pdum_rfb_widget as rfb
        logging.basicConfig(stream=sys.stdout, format="%(message)s", level="WARNING")
        for _ in range(2):
            rfb.serve(8, 8, port=0).widget()
    """)
    assert out == "a widget shows in notebooks, and none runs here: print(display.url), or call display.open()"


def test_a_widget_of_a_closed_display_is_refused(display: rfb.Display) -> None:
    again = rfb.serve(64, 48, port=0, name=display.name)
    display.widget()  # shows what took its stream over
    again.close()
    for closed in (display, again):
        with pytest.raises(RuntimeError, match="was closed"):
            closed.widget()


def test_where_no_browser_opens_the_log_says_what_to_do(
    display: rfb.Display, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    assert not display.open()
    assert "print(display.url)" in caplog.text
    assert display.server.token not in caplog.text


@pytest.mark.parametrize("wrong", [np.zeros((360, 640, 3), np.uint8), 640])
def test_serve_without_a_height_says_what_it_takes(wrong: Any) -> None:
    with pytest.raises(
        TypeError, match=r"serve takes a width and a height in pixels.*rfb\.serve\(640, 360\)"
    ) as caught:
        rfb.serve(wrong)
    assert ("array.shape" in str(caught.value)) == isinstance(wrong, np.ndarray)
    with pytest.raises(TypeError, match=r"width is a whole number, not (array|'x)") as caught:
        rfb.serve(np.zeros((360, 640)) if isinstance(wrong, np.ndarray) else "x" * 9999, 5, port=0)
    assert len(str(caught.value)) < 200


def test_a_frame_where_a_function_or_source_is_wanted_is_told_where_it_belongs(display: rfb.Display) -> None:
    for wrong in (FRAME, lambda: FRAME):
        with pytest.raises(TypeError, match=r"has no next_frame.*OnDemandFrameSource.*display.publish") as caught:
            display.attach(wrong)  # type: ignore[arg-type]
        assert len(str(caught.value)) < 250
    with pytest.raises(TypeError, match="render is a function that returns the next frame, not a ndarray"):
        rfb.publish_loop(display, FRAME)


def test_decorators_without_parentheses_say_how_they_are_used(display: rfb.Display) -> None:
    with pytest.raises(
        TypeError, match=r'@display\.on\("pointer_down"\), or display\.on\("pointer_down"\)\(function\)'
    ):
        display.on(print)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"@display\.on\("):
        display.on("pointer_down", print)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r'@display\.on_message\("pick"\)'):
        display.on_message(print)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "meant"),
    [
        ("click", "pointer_down"),
        ("mousedown", "pointer_down"),
        ("onmousemove", "pointer_move"),
        ("keydown", "key_down"),
        ("key-up", "key_up"),
        ("dblclick", "double_click"),
        ("scroll", "wheel"),
        ("reszie", "resize"),
        ("xyz", None),
    ],
)
def test_a_kind_that_there_is_not_names_the_nearest(display: rfb.Display, kind: str, meant: str | None) -> None:
    words = rf"an event is one of pointer_down, .*, not {kind}" + (rf"; did you mean '{meant}'\?$" if meant else "$")
    with pytest.raises(ValueError, match=words):
        display.on(kind)


def test_widgets_carry_where_the_hub_is_and_no_pixels() -> None:
    display = rfb.serve(8, 8, port=0)
    display.publish(FRAME)
    viewer, canvas = display.widget(height=300), display.widget(batteries=False)
    assert isinstance(viewer, rfb.RfbViewer)
    assert not isinstance(canvas, rfb.RfbViewer)
    state = viewer.get_state()
    assert (state["host"], state["port"], state["stream"]) == ("127.0.0.1", display.port, "default")
    assert (viewer.token, state["token"]) == (display.server.token, "")
    assert (state["height"], state["show_toolbar"], canvas.show_toolbar) == (300, True, False)
    before = {key: value for key, value in viewer.get_state().items() if key != "layout"}
    display.publish(FRAME + 1)
    assert {key: value for key, value in viewer.get_state().items() if key != "layout"} == before


def test_a_frame_whose_announcement_was_interrupted_comes_with_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    display = rfb.serve(8, 8, port=0)
    stream = stream_of(display)
    with RawViewer(display) as viewer:
        viewer.greet()
        monkeypatch.setattr(stream.readiness, "announce", lambda wake: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            display.publish(FRAME)
        monkeypatch.undo()
        display.publish(FRAME)
        assert viewer.see()[0]["seq"] == 1


def test_a_frame_is_compared_only_for_a_viewer_that_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def compare(old: Pixels, new: Pixels) -> Mask:
        compared.append(int(new[0, 0, 0]))
        return tiles_that_differ(old, new)

    monkeypatch.setattr("pdum_rfb_widget._frames.store.tiles_that_differ", compare)
    monkeypatch.setattr("pdum_rfb_widget._hub.readiness._LATE", math.inf)  # else a busy machine's publisher takes it
    display = rfb.serve(8, 8, port=0, max_inflight=1, still_after=None, quality="lossless")
    for value in range(20):
        display.publish(FRAME + np.uint8(value))
    with RawViewer(display, "image/png") as viewer:
        viewer.greet()
        header, _ = viewer.see(ack=False)
        display.publish(FRAME + np.uint8(20))
        wait_for(lambda: core_of(display).state.pending, "the hub to know that there is a newer frame")
        for value in range(21, 40):
            display.publish(FRAME + np.uint8(value))
        assert compared == []
        viewer.ack(header["seq"])
        _, payload = viewer.see()
        assert compared == [int(FRAME[0, 0, 0]) + 39] == [Image.open(io.BytesIO(payload)).getpixel((0, 0))[0]]  # type: ignore[index]


def test_a_frame_is_sent_though_a_newer_one_comes_whenever_one_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    left = list(range(1, 101))

    def compare(old: Pixels, new: Pixels) -> Mask:
        if left:
            count, frame = stream.frames_published, FRAME + np.uint8(left.pop(0))
            threading.Thread(target=display.publish, args=(frame,)).start()
            wait_for(lambda: stream.frames_published > count, "the newer frame")
        return tiles_that_differ(old, new)

    monkeypatch.setattr("pdum_rfb_widget._hub.readiness._LATE", math.inf)  # the hub compares
    display = rfb.serve(8, 8, port=0, still_after=None, quality="lossless")
    stream = stream_of(display)
    with RawViewer(display, "image/png") as viewer:
        viewer.greet()
        display.publish(FRAME)
        viewer.see()
        monkeypatch.setattr("pdum_rfb_widget._frames.store.tiles_that_differ", compare)
        display.publish(FRAME + np.uint8(200))
        viewer.see()
        assert left, "sent before the last of them"
        while value_of(viewer.see()[1]) != 100:
            pass


def test_a_taken_over_stream_with_a_still_due_costs_nothing_until_its_next_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = rfb.serve(8, 8, name="scene", port=0, quality="lossy", still_after=0.05)
    old.publish(FRAME)
    with RawViewer(old, "image/jpeg", "image/png", "rfb/tiles") as viewer:
        viewer.greet()
        viewer.see()
        rfb.serve(8, 8, name="scene")
        core = core_of(old)
        polls: list[float] = []
        poll = core.poll
        monkeypatch.setattr(core, "poll", lambda now: (polls.append(now), poll(now))[1])
        viewer.say(type="event", event={"type": "key_down", "key": "x"})
        with pytest.raises(TimeoutError):
            viewer.see(timeout=0.3)
        assert 1 <= len(polls) <= 5


def test_encodings_are_kept_for_few_regions_however_many_are_asked_for() -> None:
    display = rfb.serve(8, 8, port=0, quality="lossy", still_after=0.01, stats_interval=None)
    display.publish(np.random.default_rng(4).integers(0, 256, (600, 800, 3), np.uint8))
    for step in range(12):
        with RawViewer(display, "image/jpeg", "image/png", "rfb/tiles") as viewer:
            viewer.greet()
            viewer.say(type="event", event={"type": "pointer_move", "x": 60.0 * step, "y": 50.0 * step})
            (watched,) = stream_of(display).viewers
            while watched.session.metrics.frames_sent == 0 or watched.session.framebuffer.lossy_tiles:
                viewer.see()
    assert len(core_of(display).jobs) <= 32
