"""What an application and its viewers' pages tell each other beside the pictures, over real sockets and in Chromium."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest
from conftest import Stage
from hosts import read_canvas, wait_for
from inside import publication_of
from pages import show, texture, wait_for_events
from playwright.sync_api import Page
from relay import SlowLink
from viewers import RawViewer, closed, grey, unacknowledged, value_of

import pdum_rfb_widget as rfb
from pdum_rfb_widget._core.policy.bandwidth import LOCAL_FAST
from pdum_rfb_widget._encode import jobs
from pdum_rfb_widget.protocol import pack_binary_message, unpack_binary_message
from pdum_rfb_widget.types import CURSORS

OURS = "image/png", "rfb/channels"
K = 1024


@pytest.fixture
def spoken(display: rfb.Display) -> list[rfb.ChannelMessage]:
    """What viewers say on channels a and b."""
    heard: list[rfb.ChannelMessage] = []
    display.on_message("a", "b", thread=True)(heard.append)
    return heard


# From the application -------------------------------------------------------------------------------------------------


def test_json_and_bytes_arrive_in_the_order_in_which_they_were_sent(display: rfb.Display) -> None:
    with RawViewer(display, *OURS) as viewer:
        config = viewer.greet()
        assert config["features"] == ["rfb/channels"]
        assert config["channel_bytes"] == 1024 * K
        for data in ({"a": [1, None, "\u2603"]}, 3.5, "text", b"\x00\xff"):
            display.send("plot.1", data)
        for data in ({"a": [1, None, "\u2603"]}, 3.5, "text"):
            assert viewer.hear("message") == {"type": "message", "channel": "plot.1", "data": data}
        assert viewer.see(ack=False) == ({"type": "message", "channel": "plot.1"}, b"\x00\xff")


def test_a_base_viewer_is_told_nothing_and_says_nothing(display: rfb.Display, spoken: list[rfb.ChannelMessage]) -> None:
    with RawViewer(display, "image/png") as viewer, RawViewer(display, *OURS) as other:
        assert viewer.greet()["features"] == []
        other.greet()
        viewer.say(type="message", channel="a", data=1)
        display.send("a", "secret")
        display.set_cursor("wait")
        other.hear("cursor")
        display.publish(grey(9))
        header, _ = unpack_binary_message(viewer.socket.recv(timeout=60))  # type: ignore[arg-type]
        assert header["type"] == "image_frame", "the next thing that it hears"
        other.say(type="message", channel="a", data=2)
        wait_for(lambda: spoken, "the other's message")
        assert [message.data for message in spoken] == [2]


def test_to_names_who_gets_it_and_who_has_gone_is_passed_over(display: rfb.Display) -> None:
    with RawViewer(display, *OURS) as first, RawViewer(display, *OURS) as second:
        first.greet()
        second.greet()
        one, two = (client.client_id for client in display.clients)
        display.send("a", "to the second", to=two)
        display.send("a", "to both", to=[one, two, "viewer-999"])
        assert first.hear("message")["data"] == "to both"
        assert [second.hear("message")["data"] for _ in range(2)] == ["to the second", "to both"]


@pytest.mark.parametrize(
    ("channel", "data", "kind", "words"),
    [
        ("a", b"x" * (1024 * K + 1), ValueError, "at most 1048576 bytes .* not 1048577"),
        ("a", "x" * 1024 * K, ValueError, "at most 1048576 bytes"),
        ("a", float("nan"), ValueError, "what JSON can say: Out of range"),
        ("a", {"a": {1, 2}}, TypeError, "what JSON can say: Object of type set"),
        ("a", np.zeros(3), TypeError, "what goes to 'a' is bytes"),
        ("a/b", 1, ValueError, "a channel's name is 1 to 64 letters.* not 'a/b'"),
        ("", 1, ValueError, "not ''"),
        (3, 1, ValueError, "not 3"),
    ],
)
def test_what_cannot_be_sent_is_refused_at_the_call(
    display: rfb.Display, channel: Any, data: object, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        display.send(channel, data)


def test_what_refers_to_itself_or_is_too_deep_is_refused_and_so_is_a_closed_display(display: rfb.Display) -> None:
    loop: list[Any] = []
    loop.append(loop)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for data in (loop, deep):
        with pytest.raises(ValueError, match="what JSON can say"):
            display.send("a", data)
    with pytest.raises(TypeError, match="a message goes to a client_id"):
        display.send("a", 1, to=[3])  # type: ignore[list-item]
    display.close()
    with pytest.raises(RuntimeError, match="was closed"):
        display.send("a", 1)


def test_a_viewer_that_does_not_read_is_closed_in_words_and_the_others_miss_nothing(display: rfb.Display) -> None:
    with (
        RawViewer(display, *OURS, max_queue=1, close_timeout=0.1) as stuck,
        RawViewer(display, *OURS) as good,
    ):
        stuck.greet()
        good.greet()
        for number in range(60):
            display.send("a", number.to_bytes(1, "big") * 500 * K)
            header, data = joined(good)
            assert (header["channel"], data) == ("a", number.to_bytes(1, "big") * 500 * K)
        wait_for(lambda: display.client_count == 1, "the stuck one to be closed")
    assert any("4429" in trouble and "wait for the viewer" in trouble for trouble in display.status()["recent_errors"])


def joined(viewer: RawViewer) -> tuple[dict[str, Any], bytes]:
    """The next binary message, whether it comes in pieces or not."""
    parts = b""
    while True:
        header, data = viewer.see(ack=False)
        if header["type"] != "piece":
            return header, data
        viewer.say(type="got", piece=header["piece"])
        parts += data
        if header["last"]:
            return unpack_binary_message(parts)


def test_the_latest_replaces_what_a_viewer_has_not_read(display: rfb.Display) -> None:
    with RawViewer(display, *OURS, max_queue=1) as viewer:
        viewer.greet()
        for number in range(400):
            display.send("state", number.to_bytes(2, "big") * 250 * K, latest=True)
        display.send("end", b"")
        seen = []
        while (got := joined(viewer))[0]["channel"] != "end":
            seen.append(int.from_bytes(got[1][:2], "big"))
        if not seen or seen[-1] != 399:  # what is short overtakes what is long
            seen.append(int.from_bytes(joined(viewer)[1][:2], "big"))
    assert seen[-1] == 399
    assert seen == sorted(seen)
    assert len(seen) < 200, "200 MB were not queued"


# From a viewer --------------------------------------------------------------------------------------------------------


def test_handlers_get_what_viewers_say_with_who_said_it(display: rfb.Display, spoken: list[rfb.ChannelMessage]) -> None:
    with RawViewer(display, *OURS) as viewer:
        viewer.greet()
        viewer.say(type="message", channel="a", data={"x": [1, "\u2603"]})
        viewer.socket.send(pack_binary_message({"type": "message", "channel": "b"}, b"\x00\xff"))
        viewer.say(type="message", channel="nobody", data=1)
        viewer.say(type="message", channel="a", data=None)
        wait_for(lambda: len(spoken) == 3, "three messages")
        (client,) = display.clients
    assert [(message.channel, message.data) for message in spoken] == [
        ("a", {"x": [1, "\u2603"]}),
        ("b", b"\x00\xff"),
        ("a", None),
    ]
    assert {message.client_id for message in spoken} == {client.client_id}


def in_pieces(message: bytes, size: int = 20_000) -> list[bytes]:
    starts = range(0, len(message), size)
    return [
        pack_binary_message({"type": "piece", "of": 1, "last": at + size >= len(message)}, message[at : at + size])
        for at in starts
    ]


def test_a_message_in_pieces_is_one_and_input_may_come_between_them(
    display: rfb.Display, spoken: list[rfb.ChannelMessage]
) -> None:
    data = bytes(range(256)) * 1000
    first, *rest = in_pieces(pack_binary_message({"type": "message", "channel": "a"}, data))
    with RawViewer(display, *OURS) as viewer:
        viewer.greet()
        viewer.socket.send(first)
        viewer.say(type="event", event={"type": "pointer_down", "x": 1, "y": 2})
        wait_for_events(display, "pointer_down")
        assert not spoken
        for piece in rest:
            viewer.socket.send(piece)
        wait_for(lambda: spoken, "the message")
        assert spoken[0].data == data


def too_large_in_pieces(viewer: RawViewer) -> None:
    for piece in in_pieces(pack_binary_message({"type": "message", "channel": "a"}, b"x" * (1025 * K)), 60 * K):
        viewer.socket.send(piece)


def got_what_was_not_sent(viewer: RawViewer) -> None:
    viewer.say(type="got", piece=1)


def no_name(viewer: RawViewer) -> None:
    viewer.say(type="message", channel="a/b", data=1)


def no_data(viewer: RawViewer) -> None:
    viewer.say(type="message", channel="a")


def no_header(viewer: RawViewer) -> None:
    viewer.socket.send(b"\x00\x01garbage")


def not_text(viewer: RawViewer) -> None:
    viewer.socket.send(pack_binary_message({"type": "piece", "of": 1, "text": True, "last": True}, b"\xff"))


@pytest.mark.parametrize(
    ("sin", "code"),
    [
        (too_large_in_pieces, 4429),
        (got_what_was_not_sent, 4400),
        (no_name, 4400),
        (no_data, 4400),
        (no_header, 4400),
        (not_text, 4400),
    ],
)
def test_what_is_no_message_closes_who_sent_it_and_nobody_else(
    display: rfb.Display, spoken: list[rfb.ChannelMessage], sin: Any, code: int
) -> None:
    with RawViewer(display, *OURS) as bad, RawViewer(display, *OURS) as good:
        bad.greet()
        good.greet()
        sin(bad)
        assert closed(bad)[0] == code
        good.say(type="message", channel="a", data="still here")
        wait_for(lambda: spoken, "the good one's message")
        assert [message.data for message in spoken] == ["still here"]


def test_a_smaller_limit_holds_for_whole_messages_too(display: rfb.Display) -> None:
    server = rfb.serve_server(port=0, limits=rfb.limits.Limits(channel_bytes=1000))
    with pytest.raises(ValueError, match="at most 1000 bytes"):
        server.stream().send("a", b"x" * 1001)
    with RawViewer(display, *OURS) as viewer:
        assert viewer.greet()["channel_bytes"] == 1000
        viewer.say(type="message", channel="a", data="x" * 2000)
        assert closed(viewer) == (4429, "a message of a channel holds at most 1000 bytes")


def test_who_may_only_look_or_does_not_control_is_not_heard(
    display: rfb.Display, spoken: list[rfb.ChannelMessage]
) -> None:
    watcher = RawViewer(display, *OURS, token=display.server.view_token)
    with watcher, RawViewer(display, *OURS) as first, RawViewer(display, *OURS) as second:
        for number, viewer in enumerate((watcher, first, second)):
            viewer.greet()
            wait_for(lambda number=number: display.client_count == number + 1, "the viewer")
        display.controller = display.clients[2].client_id
        for data, viewer in (("looks", watcher), ("waits", first), ("controls", second)):
            viewer.say(type="message", channel="a", data=data)
            viewer.say(type="event", event={"type": "focus_in"})
        wait_for_events(display, "focus_in")
        wait_for(lambda: spoken, "a message")
        display.send("a", "all hear")
        assert watcher.hear("message")["data"] == "all hear"
    assert [message.data for message in spoken] == ["controls"]


def test_messages_that_nobody_handles_in_time_take_8_mib_at_most(display: rfb.Display) -> None:
    held, hold = threading.Event(), threading.Event()
    heard: list[int] = []

    @display.on_message("a", thread=True)
    def slow(message: rfb.ChannelMessage) -> None:
        held.set()
        hold.wait(60)
        heard.append(message.data[0])

    for number in range(20):
        publication_of(display).put_message(
            rfb.ChannelMessage("v", None, "a", bytes([number]) * 1000, 0), nbytes=1024 * K
        )
        assert held.wait(60)
    hold.set()
    wait_for(lambda: 19 in heard, "the newest")
    assert heard == [0, *range(12, 20)]
    assert display.status()["callbacks_left_out"] == 11


def test_what_a_handler_raises_is_logged_and_counted(display: rfb.Display, caplog: pytest.LogCaptureFixture) -> None:
    @display.on_message("a", thread=True)
    def halve(message: rfb.ChannelMessage) -> float:
        return 1 / float(message.data)

    with RawViewer(display, *OURS) as viewer:
        viewer.greet()
        viewer.say(type="message", channel="a", data=0)
        wait_for(lambda: display.status()["callback_errors"], "the error")
    assert "ZeroDivisionError" in display.status()["recent_errors"][-1]
    assert caplog.records
    with pytest.raises(ValueError, match="a channel's name"):
        display.on_message("a b")
    with pytest.raises(ValueError, match="there is none"):
        display.on_message()


# Priorities -----------------------------------------------------------------------------------------------------------


def noise(seed: int, height: int = 400, width: int = 600) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_on_a_slow_link_a_message_overtakes_the_rest_of_a_picture_which_arrives_whole() -> None:
    display = rfb.serve(400, 300, port=0, quality="lossless", still_after=None)
    with SlowLink(display.port, 1.25e6) as link, RawViewer(display, *OURS, "rfb/tiles") as viewer:
        viewer.connect(f"ws://127.0.0.1:{link.port}/{display.name}")
        viewer.greet()
        for seed in range(3):  # the first tells how fast the link is
            display.publish(noise(seed, 300, 400))
            order = watch_picture(viewer, display)
            wait_for(lambda: unacknowledged(display) == [0], "the hub to have measured the link")
            if seed:
                assert "message" in order[:-1], f"it came between two pieces: {order}"
                assert order.count("piece") > 10


def test_a_message_does_not_wait_for_a_picture_that_is_being_encoded(
    display: rfb.Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, held = threading.Event(), threading.Event()
    encode = jobs.encode_image

    def slowly(*arguments: Any) -> Any:
        begun.set()
        assert held.wait(60)
        return encode(*arguments)

    monkeypatch.setattr(jobs, "encode_image", slowly)
    with RawViewer(display, *OURS) as viewer:
        viewer.greet()
        display.publish(grey(5))
        assert begun.wait(60)
        for number in range(3):
            display.send("a", number)
            assert viewer.hear("message")["data"] == number
        held.set()
        assert value_of(viewer.see()[1]) == 5


def test_a_base_viewer_gets_whole_pictures_on_the_slowest_link() -> None:
    display = rfb.serve(300, 200, port=0, quality="lossless", still_after=None)
    with SlowLink(display.port, 1.25e6) as link, RawViewer(display, "image/png") as viewer:
        viewer.connect(f"ws://127.0.0.1:{link.port}/{display.name}")
        viewer.greet()
        for seed in range(3):
            display.publish(noise(seed, 200, 300))
            assert viewer.see()[0]["type"] == "image_frame"
        (figures,) = display.status()["clients"]
        assert 0 < figures["link_bps"] < 1e8, "it was seen to be slow"


def watch_picture(viewer: RawViewer, display: rfb.Display) -> list[str]:
    """The kinds of what comes until a picture is there, which a message is sent behind as soon as it has begun."""
    order: list[str] = []
    parts = b""
    while True:
        message = viewer.socket.recv(timeout=60)
        if isinstance(message, str):
            order += [kind for kind in [json.loads(message)["type"]] if kind == "message"]
            continue
        header, data = unpack_binary_message(message)
        order.append(header["type"])
        if order == ["piece"]:
            display.send("a", "now")
        if header["type"] == "piece":
            viewer.say(type="got", piece=header["piece"])
            parts += data
            if not header["last"]:
                continue
            header, data = unpack_binary_message(parts)
        assert header["type"] == "tiles"
        assert sum(part[-1] for part in header["parts"]) == len(data)
        viewer.ack(header["seq"])
        return order


def test_no_picture_is_cut_for_this_machines_own_page(page: Page) -> None:
    display = rfb.serve(600, 400, port=0, quality="lossless")
    frames: list[Any] = []
    rates: list[float] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(frame)))
    canvas = show(page, display, mainThreadPresent=True)
    for seed in range(5):
        pixels = noise(seed)
        display.publish(pixels)
        wait_for(lambda wanted=pixels: np.array_equal(read_canvas(canvas), wanted), "the picture")
        rates += [client["link_bps"] / 8 for client in display.status()["clients"]]
    binary = [frame for frame in frames if isinstance(frame, bytes)]
    assert binary
    cut = [frame for frame in binary if unpack_binary_message(frame)[0]["type"] == "piece"]
    assert not cut or min(filter(None, rates)) < LOCAL_FAST, "but where a busy machine is as slow as a far one"


# In Chromium ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("main_thread", [False, True])
def test_a_page_and_its_application_talk_in_json_and_bytes(page: Page, main_thread: bool) -> None:
    display = rfb.serve(64, 48, port=0)

    @display.on_message("ask", thread=True)
    def answer(message: rfb.ChannelMessage) -> None:
        display.send("answer", message.data, to=message.client_id)

    display.publish(grey(1))
    show(page, display, mainThreadPresent=main_thread)
    page.locator(".rfb-has-picture").wait_for()
    answers = page.evaluate(
        """async () => {
            const large = new Uint8Array(900_000).map((_, i) => i * 7);
            const asked = [{ a: [1, null, "\u2603"] }, "x".repeat(300_000), large, new Uint8Array([1, 2]).buffer, 5];
            const answers = [];
            const done = new Promise((resolve) => view.onMessage("answer", (data) => {
                answers.push(data);
                if (answers.length === asked.length) resolve();
            }));
            const sent = asked.map((data) => view.send("ask", data));
            await done;
            const same = answers[2] instanceof Uint8Array && answers[2].every((byte, i) => byte === large[i]);
            return [sent, answers[0], answers[1].length, same, [...answers[3]], answers[4]];
        }"""
    )
    assert answers == [[True] * 5, {"a": [1, None, "\u2603"]}, 300_000, True, [1, 2], 5]


def test_a_page_is_told_at_the_call_what_cannot_be_sent(stage: Stage) -> None:
    page, display, _ = stage
    refusals = page.evaluate(
        """() => {
            const tell = ([channel, data]) => {
                try { return view.send(channel, data); } catch (error) { return String(error); }
            };
            const large = [new Uint8Array(1024 * 1024 + 1), "\u2603".repeat(400_000)];
            return [["a", large[0]], ["a/b", 1], ["a", undefined], ["a", large[1]]].map(tell);
        }"""
    )
    assert "RangeError: a message holds at most 1048576 bytes, not 1048577" in refusals[0]
    assert "a channel's name is 1 to 64 letters" in refusals[1]
    assert "what JSON can say, not undefined" in refusals[2]
    assert "RangeError" in refusals[3], "bytes count, not characters"
    display.close()
    page.wait_for_function("view.state === 'closed'")
    assert page.evaluate("view.send('a', 1)") is False


def test_a_handler_that_is_taken_off_hears_no_more(stage: Stage) -> None:
    page, display, _ = stage
    page.evaluate(
        "() => { window.heard = []; window.off = view.onMessage('a', (x) => heard.push(x)); "
        "view.onMessage('a', (x) => heard.push(-x)); }"
    )
    display.send("a", 1)
    page.wait_for_function("heard.length === 2")
    page.evaluate("off()")
    display.send("a", 2)
    page.wait_for_function("heard.length === 3")
    assert page.evaluate("heard") == [1, -1, -2]


# Cursor ---------------------------------------------------------------------------------------------------------------


def cursor(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.querySelector('.rfb-canvas')).cursor"))


def test_the_cursor_is_shown_to_those_that_are_there_and_those_that_come(page: Page, display: rfb.Display) -> None:
    body = '<div id="stage" class="stage"></div><div id="other" class="stage"></div>'
    show(page, display, body=body)
    wait_for(lambda: display.client_count == 1, "the viewer")
    for keyword in ("grab", "crosshair"):
        display.set_cursor(keyword)
        wait_for(lambda wanted=keyword: cursor(page) == wanted, f"the cursor {keyword}")
    page.evaluate("window.second = window.open('other')")
    other = "getComputedStyle(document.querySelector('#other .rfb-canvas')).cursor"
    wait_for(lambda: page.evaluate(other) == "crosshair", "the cursor in the view that came later")
    display.set_cursor(None)
    wait_for(lambda: cursor(page) == page.evaluate(other) == "auto", "the default")


def test_a_new_display_begins_with_the_default_cursor_and_so_does_a_new_connection(page: Page) -> None:
    display = rfb.serve(64, 48, port=0, name="again")
    show(page, display)
    wait_for(lambda: display.client_count == 1, "the viewer")
    display.set_cursor("wait")
    wait_for(lambda: cursor(page) == "wait", "the cursor")
    again = rfb.serve(64, 48, name="again")
    wait_for(lambda: cursor(page) == "auto", "the default")
    again.set_cursor("help")
    wait_for(lambda: cursor(page) == "help", "the new one")
    again.close()
    once_more = rfb.serve(64, 48, name="again")
    wait_for(lambda: once_more.client_count == 1, "the viewer")
    wait_for(lambda: cursor(page) == "auto", "the default")


def test_every_keyword_is_one_that_browsers_know_and_others_are_refused(page: Page, display: rfb.Display) -> None:
    known = page.evaluate("(words) => words.filter((word) => CSS.supports('cursor', word))", list(CURSORS))
    assert known == list(CURSORS)
    for wrong in ("crosshairs", "url(http://a/b.cur), auto", 3):
        with pytest.raises(ValueError, match=r"a cursor is one of default, none.*, or None, not "):
            display.set_cursor(wrong)  # type: ignore[arg-type]


# Clipboard ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clipped(page: Page) -> tuple[Page, rfb.Display]:
    """A view of a stream with a clipboard, and a page that may read what stands there."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    display = rfb.serve(100, 100, port=0, clipboard=True)
    display.publish(texture(100, 100, 3))
    show(page, display)
    page.locator(".rfb-has-picture").wait_for()
    page.evaluate("navigator.clipboard.writeText('before')")
    return page, display


def copied(page: Page) -> str:
    return str(page.evaluate("navigator.clipboard.readText()"))


def test_text_comes_into_the_clipboard_at_once_where_the_view_has_the_focus(clipped: tuple[Page, rfb.Display]) -> None:
    page, display = clipped
    page.locator(".rfb-stage").click()
    wait_for_events(display, "focus_in")
    display.set_clipboard("from Python \u2603")
    wait_for(lambda: copied(page) == "from Python \u2603", "the text")


def test_without_the_focus_it_comes_with_the_next_click_in_the_view_and_only_once(
    clipped: tuple[Page, rfb.Display],
) -> None:
    page, display = clipped
    page.evaluate("() => { window.heard = []; view.onMessage('a', (x) => heard.push(x)); }")
    display.set_clipboard("old")
    display.set_clipboard("new")
    display.send("a", 1)
    page.wait_for_function("heard.length === 1")
    page.locator("#before").click()
    assert copied(page) == "before", "the page's other parts are not the view's"
    page.locator(".rfb-stage").click()
    wait_for(lambda: copied(page) == "new", "the text")
    page.evaluate("navigator.clipboard.writeText('mine')")
    page.locator(".rfb-stage").click()
    page.keyboard.press("a")
    wait_for_events(display, "key_up")
    assert copied(page) == "mine"


def test_a_page_without_the_new_clipboard_is_written_by_the_old_command(clipped: tuple[Page, rfb.Display]) -> None:
    page, display = clipped
    page.evaluate("() => { navigator.clipboard.writeText = () => { throw new TypeError('none'); }; }")
    display.set_clipboard("by command")
    wait_for(lambda: page.locator(".rfb-stage").click() or copied(page) == "by command", "the text")


def test_a_paste_into_the_view_is_told_as_one_event_and_not_without_end(clipped: tuple[Page, rfb.Display]) -> None:
    page, display = clipped
    page.locator(".rfb-stage").click()
    for text, told in (("one\ntwo \u2603", "one\ntwo \u2603"), ("\u0001" * 20_000, "\u0001" * 10_000)):
        page.evaluate("(text) => navigator.clipboard.writeText(text)", text)
        page.keyboard.press("Control+v")
        events = wait_for_events(display, "paste")
        assert [event["text"] for event in events if event["type"] == "paste"] == [told]
        assert not [event for event in events if event["type"] == "char"]
    assert display.client_count == 1, "it fits into a message, whatever it holds"


def test_without_clipboard_nothing_is_written_and_no_paste_is_told(page: Page, display: rfb.Display) -> None:
    with pytest.raises(RuntimeError, match=r"serve\(\.\.\., clipboard=True\)"):
        display.set_clipboard("text")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    show(page, display)
    wait_for(lambda: display.client_count == 1, "the viewer")
    page.locator(".rfb-stage").click()
    page.evaluate("navigator.clipboard.writeText('mine')")
    page.keyboard.press("Control+v")
    events = wait_for_events(display, "char")
    assert "paste" not in {event["type"] for event in events}
    with RawViewer(display, *OURS, "rfb/clipboard") as viewer:
        assert viewer.greet()["features"] == ["rfb/channels"]
        viewer.say(type="event", event={"type": "paste", "text": "pushed"})
        viewer.say(type="event", event={"type": "focus_in"})
        assert "paste" not in {event["type"] for event in wait_for_events(display, "focus_in")}


def test_a_clipboard_that_is_allowed_while_the_stream_runs_is_told_at_once(display: rfb.Display) -> None:
    with RawViewer(display, *OURS, "rfb/clipboard") as viewer:
        assert viewer.greet()["features"] == ["rfb/channels"]
        display.configure(clipboard=True)
        assert viewer.hear("config")["features"] == ["rfb/channels", "rfb/clipboard"]
        display.set_clipboard("text")
        assert viewer.hear("clipboard")["text"] == "text"
        viewer.say(type="event", event={"type": "paste", "text": "back"})
        assert wait_for_events(display, "paste")[-1]["text"] == "back"


def test_only_those_whose_input_counts_get_a_clipboard_unless_they_are_named() -> None:
    display = rfb.serve(8, 8, port=0, clipboard=True)
    clip = (*OURS, "rfb/clipboard")
    with RawViewer(display, *clip, token=display.server.view_token) as watcher, RawViewer(display, *clip) as other:
        assert watcher.greet()["features"] == ["rfb/channels", "rfb/clipboard"]
        other.greet()
        display.set_clipboard("for one")
        assert other.hear("clipboard")["text"] == "for one"
        (looks,) = (client.client_id for client in display.clients if client.view_only)
        display.set_clipboard("for the watcher", to=looks)
        assert watcher.hear("clipboard")["text"] == "for the watcher"
    with pytest.raises(TypeError, match="a clipboard is given text, not 3"):
        display.set_clipboard(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most 1048576 bytes"):
        display.set_clipboard("x" * 1024 * K)
