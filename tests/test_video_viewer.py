"""The browser's half of video, in a real Chromium, at hubs that aren't ours: what it offers, shows and survives."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hosts import read_canvas, serve_page, wait_for
from pages import PAGE, STAGE, notice
from PIL import Image
from playwright.sync_api import Locator, Page

pytest.importorskip("av")

from other_hub import KINDS, Film, OtherHub

Pixels = npt.NDArray[np.uint8]

COLOURS = [(200, 40, 40), (40, 180, 60), (50, 60, 200), (128, 128, 128)]
FAMILIES = {"webcodecs/h264-annexb", "rfb/h264-444", "rfb/h264-rgb", "rfb/vp9", "rfb/av1"}
TILES = {"features": ["rfb/tiles"], "codec": "avc1.42c01f"}


@pytest.fixture
def hub() -> Iterator[OtherHub]:
    with OtherHub() as hub:
        yield hub


def patches(width: int, height: int, turn: int = 0) -> Pixels:
    """Four flat patches; *turn* moves their colours on."""
    picture = np.empty((height, width, 3), np.uint8)
    top, bottom, left, right = slice(height // 2), slice(height // 2, None), slice(width // 2), slice(width // 2, None)
    corners = ((top, left), (top, right), (bottom, left), (bottom, right))
    for n, corner in enumerate(corners):
        picture[corner] = COLOURS[(n + turn) % 4]
    return picture


def png(picture: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def open_view(page: Page, hub: OtherHub, **options: Any) -> Locator:
    page.goto(serve_page(PAGE.format(body=STAGE, options=json.dumps({"url": hub.url} | options)), {}))
    return page.locator("#stage .rfb-canvas")


def shows(canvas: Locator, wanted: Pixels, tolerance: int = 4) -> bool:
    """All is as it should be, but for the pixels near an edge, which codecs smooth."""
    shown = read_canvas(canvas).astype(int)
    if shown.shape != wanted.shape:
        return False
    difference = np.abs(shown - wanted).max(axis=2)
    height, width = difference.shape
    difference[height // 2 - 8 : height // 2 + 8] = 0
    difference[:, width // 2 - 8 : width // 2 + 8] = 0
    return int(difference.max()) <= tolerance


def test_all_formats_that_this_browser_decodes_are_offered_once_they_passed(page: Page, hub: OtherHub) -> None:
    open_view(page, hub)
    assert set(hub.greet()) >= FAMILIES | {"image/png", "rfb/tiles"}
    page.evaluate("window.open('stage')")
    assert set(hub.greet()) >= FAMILIES, "a second view is told"


@pytest.mark.parametrize("size", [(64, 64), (97, 131), (640, 360)])
@pytest.mark.parametrize(("kind", "main_thread"), [*((kind, False) for kind in KINDS), ("h264", True)])
def test_colours_of_every_format_are_right_and_odd_sizes_are_cropped(
    page: Page, hub: OtherHub, kind: str, size: tuple[int, int], main_thread: bool
) -> None:
    width, height = size
    canvas = open_view(page, hub, mainThreadPresent=main_thread)
    hub.greet(codec=KINDS[kind][2], width=width, height=height)
    film = Film(kind, width, height)
    for turn in range(4 if kind != "av1" else 1):
        wanted = patches(width, height, turn)
        header, data = film.chunk(wanted, keyframe=turn == 3)
        seq = hub.send(data, **header)
        wait_for(lambda wanted=wanted: shows(canvas, wanted, 0 if kind == "h264-rgb" else 4), f"frame {turn}")
        wait_for(lambda seq=seq: hub.acked[-1:] == [seq], "the ack")
    assert hub.acked == sorted(hub.acked)
    assert not hub.said("decoder_reset")


def test_only_the_rectangles_named_are_drawn(page: Page, hub: OtherHub) -> None:
    canvas = open_view(page, hub)
    hub.greet(**TILES, width=320, height=200)
    still = np.random.default_rng(3).integers(0, 256, (200, 320, 3), np.uint8)
    parts = [[0, 0, 320, 200, "image/png", len(png(still))]]
    hub.send(png(still), type="tiles", width=320, height=200, parts=parts)
    film = Film("h264", 320, 200)
    frame = patches(320, 200)
    header, data = film.chunk(frame)
    boxes = [[0, 0, 64, 64], [129, 67, 31, 21], [319, 199, 1, 1], [256, 128, 64, 64]]
    hub.send(data, rects=boxes, **header)
    wait_for(lambda: len(hub.acked) == 2, "both acks")
    shown = read_canvas(canvas).astype(int)
    inside = np.zeros((200, 320), bool)
    for x, y, w, h in boxes:
        inside[y : y + h, x : x + w] = True
    np.testing.assert_array_equal(shown[~inside], still[~inside])
    assert np.abs(shown - frame)[inside].max() <= 4
    header, data = film.chunk(patches(320, 200, 1))
    hub.send(data, rects=[], **header)
    wait_for(lambda: len(hub.acked) == 3, "the ack of a chunk of which nothing is drawn")
    np.testing.assert_array_equal(read_canvas(canvas), shown)


def test_what_refers_to_a_lost_chunk_is_not_decoded_and_a_keyframe_is_asked_for_once(page: Page, hub: OtherHub) -> None:
    canvas = open_view(page, hub)
    hub.greet(**TILES, width=320, height=200)
    film = Film("h264", 320, 200)
    header, data = film.chunk(patches(320, 200))
    first = hub.send(data, **header)
    film.chunk(patches(320, 200, 1))
    hub.skip()
    for turn in (2, 3):
        header, data = film.chunk(patches(320, 200, turn))
        hub.send(data, after=first + turn - 1, **header)
    hub.send(png(patches(64, 64)), type="image_frame", width=64, height=64, mime="image/png")
    wait_for(lambda: hub.acked == [first, first + 4], "the picture after them")
    assert len(hub.said("request_keyframe")) == 1
    header, data = film.chunk(patches(320, 200, 3), keyframe=True)
    seq = hub.send(data, **header)
    header, data = film.chunk(patches(320, 200, 2))
    hub.send(data, after=seq, **header)
    wait_for(lambda: shows(canvas, patches(320, 200, 2)), "the frame after the keyframe")
    assert len(hub.said("request_keyframe")) == 1


def test_a_stream_that_begins_without_a_keyframe_is_asked_for_one(page: Page, hub: OtherHub) -> None:
    open_view(page, hub)
    hub.greet(codec="avc1.42c01f", width=320, height=200)
    film = Film("h264", 320, 200)
    film.chunk(patches(320, 200))
    header, data = film.chunk(patches(320, 200, 1))
    hub.send(data, **header)
    wait_for(lambda: hub.said("request_keyframe"), "the request")
    assert not hub.acked


def test_a_broken_keyframe_costs_a_decoder_and_the_next_one_is_shown(page: Page, hub: OtherHub) -> None:
    canvas = open_view(page, hub)
    hub.greet(codec="avc1.42c01f", width=320, height=200)
    film = Film("h264", 320, 200)
    header, data = film.chunk(patches(320, 200))
    hub.send(bytes(len(data)), **header)
    wait_for(lambda: hub.said("decoder_reset"), "the reset")
    header, delta = film.chunk(patches(320, 200, 1))
    hub.send(delta, **header)
    header, data = film.chunk(patches(320, 200, 2), keyframe=True)
    last = hub.send(data, **header)
    wait_for(lambda: shows(canvas, patches(320, 200, 2)), "the next keyframe")
    wait_for(lambda: hub.acked == [last], "the ack of what was shown, and of nothing else")
    assert len(hub.said("decoder_reset")) == 1


STUCK = """
    const Real = VideoDecoder;
    window.configured = [];
    window.stuck = false;
    window.VideoDecoder = class extends Real {
        configure(config) { configured.push(config.hardwareAcceleration ?? ""); super.configure(config); }
        decode(chunk) { if (!window.stuck) super.decode(chunk); }
    };
"""


def test_a_decoder_that_gives_nothing_is_replaced_by_one_in_software(page: Page, hub: OtherHub) -> None:
    page.add_init_script(STUCK)
    canvas = open_view(page, hub, mainThreadPresent=True)
    hub.greet(codec="avc1.42c01f", width=320, height=200)
    film = Film("h264", 320, 200)
    header, data = film.chunk(patches(320, 200))
    hub.send(data, **header)
    wait_for(lambda: shows(canvas, patches(320, 200)), "the first frame")
    page.evaluate("window.stuck = true; configured.splice(0)")
    header, data = film.chunk(patches(320, 200, 1))
    hub.send(data, **header)
    wait_for(lambda: hub.said("decoder_reset"), "the reset")
    page.evaluate("window.stuck = false")
    header, data = film.chunk(patches(320, 200, 2), keyframe=True)
    hub.send(data, **header)
    wait_for(lambda: shows(canvas, patches(320, 200, 2)), "the frame after")
    assert page.evaluate("configured") == ["prefer-software"]


def test_where_no_decoder_lasts_images_are_asked_for_instead(page: Page, hub: OtherHub) -> None:
    canvas = open_view(page, hub, showStats=True)
    assert "webcodecs/h264-annexb" in hub.greet(codec="avc1.42c01f", width=320, height=200)
    header, data = Film("h264", 320, 200).chunk(patches(320, 200))
    for resets in range(1, 4):
        hub.send(bytes(len(data)), **header)
        wait_for(lambda n=resets: len(hub.said("decoder_reset")) == n, f"reset {resets}")
    hub.send(bytes(len(data)), **header)
    supported = hub.greet(transport="image", width=320, height=200)
    assert not FAMILIES & set(supported)
    hub.send(png(patches(320, 200)), type="image_frame", width=320, height=200, mime="image/png")
    wait_for(lambda: shows(canvas, patches(320, 200), 0), "the picture")
    wait_for(lambda: "images only" in page.locator(".rfb-stats").inner_text(), "the note")
    hub.configure(codec="avc1.42c01f")
    assert "could not decode" in notice(page)


HOLDS_EIGHT = """
    const Real = VideoDecoder;
    window.VideoDecoder = class extends Real {
        constructor({ output, error }) {
            const held = [];  // but nothing of the probe's, which are small
            const hold = (frame) => held.push(frame) > 8 && output(held.shift());
            super({ error, output: (frame) => (frame.codedWidth <= 64 ? output(frame) : hold(frame)) });
            Object.assign(this, { held, output });
        }
        async flush() {
            await super.flush();
            for (const frame of this.held.splice(0)) this.output(frame);
        }
    };
"""


def test_a_viewer_whose_decoders_hold_pictures_back_asks_for_images_and_says_why(page: Page, hub: OtherHub) -> None:
    page.add_init_script(HOLDS_EIGHT)
    canvas = open_view(page, hub, mainThreadPresent=True, showStats=True)
    assert "webcodecs/h264-annexb" in hub.greet(codec="avc1.42c01f", width=320, height=200)
    film, shown = Film("h264", 320, 200), patches(320, 200)
    for number in range(4):  # the last two are of the decoders that are given up
        header, data = film.chunk(shown, keyframe=number > 0)
        seq = hub.send(data, **header)
        if number < 2:
            wait_for(lambda seq=seq: hub.acked[-1:] == [seq], f"picture {number}, by a flush")
        elif number == 2:
            wait_for(lambda: hub.said("decoder_reset"), "the decoder in software")
    assert not FAMILIES & set(hub.greet(transport="image", width=320, height=200))
    *_, hello = hub.said("hello")
    assert "holds pictures back" in hello["no_video"]
    hub.send(png(shown), type="image_frame", width=320, height=200, mime="image/png")
    wait_for(lambda: shows(canvas, shown, 0), "the picture")
    wait_for(lambda: "holds pictures back" in page.locator(".rfb-stats").inner_text(), "the note")


def test_a_hub_of_the_base_protocol_may_change_between_video_and_images(page: Page, hub: OtherHub) -> None:
    canvas = open_view(page, hub)
    hub.greet(transport="image", width=64, height=64)
    hub.send(png(patches(64, 64)), type="image_frame", width=64, height=64, mime="image/png")
    wait_for(lambda: shows(canvas, patches(64, 64), 0), "the image")
    for kind, size in (("h264", (320, 200)), ("h264", (160, 120)), ("vp9", (320, 200))):
        hub.configure(codec=KINDS[kind][2], width=size[0], height=size[1])
        film = Film(kind, *size)
        for turn in range(3):
            header, data = film.chunk(patches(*size, turn))
            hub.send(data, **header)
        wait_for(lambda size=size: shows(canvas, patches(*size, 2)), f"{kind} of {size}")
    hub.configure(transport="image", width=64, height=64)
    hub.send(png(patches(64, 64, 1)), type="image_frame", width=64, height=64, mime="image/png")
    wait_for(lambda: shows(canvas, patches(64, 64, 1), 0), "the image again")
    assert hub.acked == list(range(1, 12))


def test_a_reconnected_viewer_takes_no_picture_of_before(page: Page, hub: OtherHub) -> None:
    canvas = open_view(page, hub)
    for turn in range(3):
        hub.greet(codec="avc1.42c01f", width=320, height=200)
        film = Film("h264", 320, 200)
        header, data = film.chunk(patches(320, 200, turn))
        hub.send(data, **header)
        wait_for(lambda turn=turn: shows(canvas, patches(320, 200, turn)), "the frame")
        header, data = film.chunk(patches(320, 200, 3))
        for _ in range(5):
            hub.send(data, **header)
        hub.leave()


def test_figures_show_what_the_hub_aims_at_and_draw_it(page: Page, hub: OtherHub) -> None:
    open_view(page, hub, showStats=True)
    hub.greet(codec="avc1.42c01f", width=320, height=200)
    film = Film("h264", 320, 200)
    figures = page.locator(".rfb-stats")
    hub.say(type="set_quality", bitrate=7_500_000, fps=240)
    drawn = "() => [...document.querySelectorAll('.rfb-line')].map((path) => path.getAttribute('d'))"

    def two_seconds_are_drawn() -> bool:
        header, data = film.chunk(patches(320, 200))
        hub.send(data, **header)
        hub.say(type="stats", rtt_ms=12.3, encode_ms=1.5)
        return all("L" in (path or "") for path in page.evaluate(drawn))

    wait_for(two_seconds_are_drawn, "lines through two seconds")
    text = figures.inner_text()
    assert all(
        words in text for words in ("12 ms round trip", "target 240", "target 7.5", "encode 1.5 ms", "320×200 h264")
    )

    hub.say(type="set_quality", bitrate=7_500_000, fps=1)

    def no_target_of_frames_is_shown() -> bool:
        two_seconds_are_drawn()
        text = figures.inner_text()
        return "target 240" not in text and "target 1" not in text and "target 7.5" in text

    wait_for(no_target_of_frames_is_shown, "more frames than the hub aims at")


P3 = {"primaries": "smpte432", "transfer": "srgb", "matrix": "rgb", "full_range": True, "bit_depth": 8}
READ_P3 = """canvas => {
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { colorSpace: "display-p3" });
    copy.drawImage(canvas, 0, 0);
    const { data, width } = copy.getImageData(0, 0, canvas.width, canvas.height, { colorSpace: "display-p3" });
    return [0.25, 0.75].flatMap((y) => [0.25, 0.75].map((x) => {
        const at = 4 * (Math.floor(y * canvas.height) * width + Math.floor(x * width));
        return [...data.slice(at, at + 3)];
    }));
}"""


@pytest.mark.parametrize("size", [(64, 64), (640, 360)])
def test_display_p3_comes_through_unconverted(page: Page, hub: OtherHub, size: tuple[int, int]) -> None:
    canvas = open_view(page, hub)
    hub.greet(**TILES, width=size[0], height=size[1], color=P3)
    hub.send(png(patches(*size)), type="image_frame", width=size[0], height=size[1], mime="image/png")
    wait_for(lambda: canvas.evaluate(READ_P3) == [list(colour) for colour in COLOURS], "the image")
    header, data = Film("h264", *size, primaries=12).chunk(patches(*size, 1))
    hub.send(data, color=P3, **header)
    moved = np.array(COLOURS[1:] + COLOURS[:1])
    wait_for(lambda: np.abs(np.array(canvas.evaluate(READ_P3)) - moved).max() <= 4, "the video")


INSECURE = """
    delete window.VideoDecoder;
    delete window.ImageDecoder;
    Object.defineProperty(window, "isSecureContext", { value: false });
"""


def test_a_page_without_webcodecs_offers_no_video_and_says_so_in_the_figures(page: Page, hub: OtherHub) -> None:
    page.add_init_script(INSECURE)
    canvas = open_view(page, hub, mainThreadPresent=True, showStats=True)
    assert not FAMILIES & set(hub.greet(transport="image", color=P3))
    hub.send(png(patches(64, 64)), type="image_frame", width=64, height=64, mime="image/png")
    wait_for(lambda: canvas.evaluate(READ_P3) == [list(colour) for colour in COLOURS], "the picture, unconverted")
    wait_for(lambda: "insecure page: images only" in page.locator(".rfb-stats").inner_text(), "the note")
    hub.configure(codec="avc1.42c01f")
    assert "https" in notice(page)
