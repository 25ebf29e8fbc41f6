"""The wire: every message is understood or refused with 4400; negotiation; the binary envelope."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from pdum_rfb_widget._frames.damage import TileMap
from pdum_rfb_widget.encoders.base import codecs_for
from pdum_rfb_widget.protocol import (
    Ack,
    CloseCode,
    DecoderReset,
    Event,
    Got,
    Hello,
    ProtocolError,
    RequestKeyframe,
    Said,
    SetViewport,
    UnsupportedClient,
    config_message,
    header_for,
    image_header,
    negotiate,
    pack_binary_message,
    parse,
    parse_control,
    select_transport,
    tiles_header,
    unpack_binary_message,
    video_header,
)
from pdum_rfb_widget.types import BackendSelection, Encoded, EncodedPayload, Part, Selection, StreamOptions


def test_every_client_message_is_understood() -> None:
    hello = {"type": "hello", "supported": ["image/png"], "device_pixel_ratio": 2, "token": "t"}
    size = {"width": 10, "height": 5, "pwidth": 20, "pheight": 10, "ratio": 2}
    assert parse(json.dumps(hello)) == Hello(("image/png",), 2.0, "t")
    assert parse(json.dumps({"type": "set_viewport", **size})) == SetViewport(10, 5, 20, 10, 2)
    assert parse('{"type":"ack","seq":3,"decode_queue_size":1,"displayed":true}') == Ack(3, 1, None)
    assert parse('{"type":"ack","seq":3,"draw_ms":4,"wait_ms":2.5}') == Ack(3, 0, 4.0, 2.5)
    assert parse('{"type":"request_keyframe","reason":"lost"}') == RequestKeyframe("lost")
    assert parse('{"type":"decoder_reset"}') == DecoderReset()
    assert parse('{"type":"message","channel":"a","data":[1]}') == Said("a", [1])
    assert parse(pack_binary_message({"type": "message", "channel": "a"}, b"xy"), binary=True) == Said("a", b"xy")
    assert parse('{"type":"got","piece":7}') == Got(7)
    assert parse('{"type":"event","event":{"type":"paste","text":"a"}}') == Event({"type": "paste", "text": "a"})
    assert parse('{"type":"event","event":{"type":"key_down","key":"a"}}') == Event({"type": "key_down", "key": "a"})


def test_ten_fingers_are_told() -> None:
    touches = {str(n): {"x": n, "y": 1, "pressure": 0.5} for n in range(10)}
    event = {"type": "pointer_down", "x": 1, "y": 1, "ntouches": 10, "touches": touches}
    assert parse(json.dumps({"type": "event", "event": event})) == Event(event)


def test_unknown_types_and_fields_are_ignored() -> None:
    assert parse('{"type":"from_the_future","x":1}') is None
    assert parse('{"type":"ack","seq":1,"mood":"good"}') == Ack(1, 0, None)
    assert parse('{"type":"event","event":{"type":"telepathy"}}') is None
    assert parse('{"type":"event","event":{"type":"focus_in","colour":"red"}}') == Event({"type": "focus_in"})


@pytest.mark.parametrize(
    "message",
    [
        b"\x00\x01",
        "",
        "nonsense",
        "[]",
        "3",
        "{}",
        '{"type":7}',
        "[" * 60_000,
        '{"type":"ack","seq":' + "9" * 5000 + "}",
        '{"type":"ack"}',
        '{"type":"ack","seq":-1}',
        '{"type":"hello","supported":[],"device_pixel_ratio":1' + "0" * 400 + "}",
        '{"type":"event","event":{"type":"pointer_down","x":1,"y":1,"ntouches":33}}',
        '{"type":"ack","seq":true}',
        '{"type":"ack","seq":1.5}',
        '{"type":"ack","seq":1,"decode_queue_size":null}',
        '{"type":"hello"}',
        '{"type":"hello","supported":"image/png"}',
        '{"type":"hello","supported":[1]}',
        '{"type":"hello","supported":[],"token":5}',
        '{"type":"hello","supported":[],"no_video":5}',
        '{"type":"hello","supported":[],"device_pixel_ratio":NaN}',
        '{"type":"set_viewport","width":"wide"}',
        '{"type":"set_viewport","width":1e999,"height":1,"pwidth":1,"pheight":1,"ratio":1}',
        '{"type":"request_keyframe","reason":7}',
        '{"type":"event"}',
        '{"type":"event","event":{"type":"pointer_down"}}',
        '{"type":"event","event":{"type":"pointer_down","x":"left","y":0}}',
        '{"type":"event","event":{"type":"pointer_down","x":1,"y":1,"buttons":[11]}}',
        '{"type":"event","event":{"type":"pointer_move","x":1,"y":1,"touches":{"1":{"x":"a"}}}}',
        '{"type":"event","event":{"type":"key_down","key":"a","modifiers":["Hyper"]}}',
        '{"type":"event","event":{"type":"wheel","dx":0}}',
        '{"type":"event","event":{"type":"paste"}}',
        '{"type":"event","event":{"type":"paste","text":"' + "x" * 10_001 + '"}}',
        '{"type":"message","channel":"a"}',
        '{"type":"message","channel":"a/b","data":1}',
        '{"type":"message","data":1}',
        '{"type":"message","channel":"a","data":NaN}',
        '{"type":"got"}',
        '{"type":"got","piece":-1}',
    ],
)
def test_malformed_is_refused_with_4400_and_words(message: Any) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse(message)
    assert caught.value.code == CloseCode.MALFORMED
    assert caught.value.reason


def test_negotiation_prefers_the_streams_format_then_what_the_viewer_has() -> None:
    both = ["image/webp", "image/jpeg"]
    assert negotiate(both, StreamOptions()) == Selection("image/jpeg", None, tiles=False)
    assert negotiate(both, StreamOptions(image_mode="webp")) == Selection("image/webp", None, tiles=False)
    assert negotiate(["rfb/unknown", "image/webp"], StreamOptions()) == Selection("image/webp", None, tiles=False)
    assert negotiate(["image/png"], StreamOptions(quality=70)) == Selection(None, "image/png", tiles=False)


@pytest.mark.parametrize("options", [{"quality": "lossless"}, {"image_mode": "png"}, {"alpha": True}])
def test_exact_streams_are_lossy_only_for_viewers_that_take_no_png(options: dict[str, Any]) -> None:
    exact = negotiate(["image/jpeg", "image/png", "rfb/tiles"], StreamOptions(**options))
    assert exact == Selection(None, "image/png", tiles=True)
    assert negotiate(["image/jpeg"], StreamOptions(**options)) == Selection("image/jpeg", None, tiles=False)


def test_negotiation_without_a_common_format_is_4406() -> None:
    with pytest.raises(ProtocolError, match="image/jpeg") as caught:
        negotiate(["image/avif"], StreamOptions())
    assert caught.value.code == CloseCode.NO_FORMAT


def video_of(*offered: str, **options: Any) -> list[str]:
    codecs = codecs_for(options.get("codec", "auto"))
    return [f"{form.codec} {form.chroma}" for form in negotiate(offered, StreamOptions(**options), codecs).video]


PICTURES = ("image/jpeg", "image/png")
H264 = ("webcodecs/h264-annexb", "rfb/h264-444", "rfb/h264-rgb")


def test_video_is_of_the_streams_codec_or_h264_and_never_rgb_but_for_lossless() -> None:
    assert video_of(*PICTURES, *H264) == ["h264 420", "h264 444"]
    assert video_of(*PICTURES, *H264, "rfb/vp9", codec="vp9") == ["vp9 420"]
    assert video_of(*PICTURES, *H264, codec="av1") == ["h264 420", "h264 444"]
    assert video_of(*PICTURES, *H264, codec="h264", quality="lossless") == ["h264 rgb"]
    assert video_of(*PICTURES, "webcodecs/h264-annexb", codec="h264", quality="lossless") == []
    assert video_of(*PICTURES) == []


@pytest.mark.parametrize(
    "options", [{"codec": "none"}, {"quality": 70}, {"quality": "lossless"}, {"image_mode": "png"}, {"alpha": True}]
)
def test_no_video_where_pictures_of_a_certain_kind_are_asked_for(options: dict[str, Any]) -> None:
    assert video_of(*PICTURES, *H264, **options) == []


def test_a_viewer_of_nothing_but_video_gets_it_unless_it_is_switched_off_or_not_installed() -> None:
    assert video_of("webcodecs/h264-annexb", quality=70) == ["h264 420"]
    for options, codecs in ((StreamOptions(codec="none"), ("h264",)), (StreamOptions(), ())):
        with pytest.raises(ProtocolError, match="image/jpeg") as caught:
            negotiate(["webcodecs/h264-annexb"], options, codecs)
        assert caught.value.code == CloseCode.NO_FORMAT


def test_envelope_is_length_header_payload() -> None:
    message = pack_binary_message({"type": "image_frame", "seq": 1}, b"pixels")
    length = struct.unpack_from("<I", message)[0]
    assert json.loads(message[4 : 4 + length]) == {"type": "image_frame", "seq": 1}
    assert unpack_binary_message(message) == ({"type": "image_frame", "seq": 1}, b"pixels")


@pytest.mark.parametrize("message", [b"", b"\x01", b"\xff\xff\x00\x00{}", b"\x02\x00\x00\x00[]"])
def test_envelope_that_is_cut_short_or_headless_is_an_error(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut short|not an object"):
        unpack_binary_message(message)


def test_config_names_what_the_wire_asks_for() -> None:
    config = json.loads(config_message(640, 480, Selection("image/jpeg", None, tiles=False), alpha=False))
    assert config == {
        "type": "config",
        "transport": "image",
        "width": 640,
        "height": 480,
        "coords": "frame-pixels",
        "features": [],
    }


def test_features_are_echoed_and_only_those_that_are_used() -> None:
    config = json.loads(config_message(640, 480, Selection(None, "image/png", tiles=True), alpha=True))
    assert (config["features"], config["alpha"]) == (["rfb/tiles"], True)


def test_a_tiles_header_gives_each_rectangle_its_format_and_bytes() -> None:
    parts = (Part((0, 0, 64, 64), "image/png", b"abc", True), Part((64, 0, 6, 64), "image/jpeg", b"de", False))
    header = tiles_header(7, TileMap.whole(70, 64, 3, timestamp_us=99), Encoded(parts, b"abcde", 1.0))
    assert header == {
        "type": "tiles",
        "seq": 7,
        "timestamp_us": 99,
        "width": 70,
        "height": 64,
        "parts": [[0, 0, 64, 64, "image/png", 3], [64, 0, 6, 64, "image/jpeg", 2]],
    }


def test_the_header_of_what_an_encoder_gave_is_what_viewers_of_the_base_protocol_expect() -> None:
    given = {"seq": 3, "timestamp_us": 9, "payload": b"", "width": 8, "height": 6}
    image = EncodedPayload(kind="image", mime="image/png", keyframe=True, **given)
    said = {"seq": 3, "timestamp_us": 9, "width": 8, "height": 6}
    assert header_for(image) == image_header(image) == {"type": "image_frame", "mime": "image/png"} | said
    video = EncodedPayload(kind="video", codec="avc1.42c01f", pixel_ratio=2.0, **given)
    wanted = {"type": "video_chunk", "codec": "avc1.42c01f", "bitstream": "annexb", "keyframe": False}
    assert header_for(video) == video_header(video) == wanted | said | {"pixel_ratio": 2.0}
    with pytest.raises(ValueError, match="not 'mp4v'"):
        header_for(EncodedPayload(kind="video", codec="mp4v", **given))


ANNEXB = "webcodecs/h264-annexb"


@pytest.mark.parametrize(
    ("supported", "options", "chosen"),
    [
        ((ANNEXB, "image/jpeg"), {}, BackendSelection("webcodecs")),
        ((ANNEXB, "image/jpeg"), {"has_h264": False, "has_nvenc": True}, BackendSelection("webcodecs")),
        ((ANNEXB, "image/jpeg"), {"has_h264": False}, BackendSelection("image", "image/jpeg", image_mode="jpeg")),
        ((ANNEXB, "image/png"), {"prefer_video": False}, BackendSelection("image", "image/png", image_mode="png")),
        ((ANNEXB,), {"prefer_video": False}, BackendSelection("webcodecs")),
        (("image/jpeg", "image/png"), {"image_mode": "png"}, BackendSelection("image", "image/png", image_mode="png")),
        (("image/jpeg",), {"image_mode": "webp"}, BackendSelection("image", "image/jpeg", image_mode="jpeg")),
    ],
)
def test_one_transport_is_selected_for_one_viewer(
    supported: tuple[str, ...], options: dict[str, Any], chosen: BackendSelection
) -> None:
    assert select_transport(supported, **{"has_h264": True} | options) == chosen


@pytest.mark.parametrize("supported", [(), ("image/gif",), (ANNEXB,)])
def test_a_viewer_that_takes_nothing_the_hub_has_is_unsupported(supported: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedClient, match="takes none of"):
        select_transport(supported, has_h264=False)


def test_a_control_message_is_an_object_with_a_type_whatever_else() -> None:
    assert parse_control('{"type":"x","y":[1]}') == {"type": "x", "y": [1]}
    for text in ("[]", "{", '{"type":1}', '{"type":"x","y":NaN}'):
        with pytest.raises(ProtocolError):
            parse_control(text)
