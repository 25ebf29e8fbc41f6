"""Whatever a viewer says is understood or is a `ProtocolError`, and nothing else, ever: driven by bytes.

    python tests/fuzz.py parse|session [libFuzzer's own arguments, such as -max_total_time=600]

runs atheris, which looks for bytes that reach new lines; `test_fuzz` drives the same two functions with hypothesis.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if __name__ == "__main__":
    import atheris

    with atheris.instrument_imports(include=["pdum_rfb_widget"]):
        import pdum_rfb_widget._core.session  # noqa: F401

from pdum_rfb_widget._core.session import ViewerSession
from pdum_rfb_widget._core.sizing import Sizing
from pdum_rfb_widget._core.stream_state import StreamState
from pdum_rfb_widget._frames.chunk import Chunk
from pdum_rfb_widget._frames.damage import TileMap
from pdum_rfb_widget.protocol import CloseCode, ProtocolError, parse
from pdum_rfb_widget.types import Encoded, Part, StreamOptions

SIZE = 130, 70
SEEDS = [
    '{"type":"hello","supported":["image/jpeg","image/png","rfb/tiles","rfb/proof","webcodecs/h264-annexb",'
    '"rfb/h264-444"],"device_pixel_ratio":1.5,"token":null,"nonce":"0123456789abcdef0123456789abcdef"}',
    '{"type":"set_viewport","width":10,"height":5,"pwidth":20,"pheight":10,"ratio":2}',
    '{"type":"ack","seq":1,"decode_queue_size":0,"displayed":true,"draw_ms":3.5}',
    '{"type":"request_keyframe","reason":"lost"}',
    '{"type":"decoder_reset"}',
    '{"type":"event","event":{"type":"pointer_move","x":1,"y":2,"button":0,"buttons":[1],"modifiers":["Shift"],'
    '"ntouches":1,"touches":{"0":{"x":1,"y":1,"pressure":0.5}},"inside":true,"pixel_ratio":1,"timestamp":1}}',
    '{"type":"event","event":{"type":"wheel","dx":1,"dy":-1e3}}',
    '{"type":"event","event":{"type":"key_down","key":"a","code":"KeyA"}}',
    '{"type":"event","event":{"type":"char","data":"\\ud800"}}',
    '{"type":"event","event":{"type":"resize","width":1,"height":2,"pwidth":1,"pheight":2,"ratio":1}}',
    '{"type":"event","event":{"type":"hide"}}',
    '{"type":"event","event":{"type":"show"}}',
]
"""A message of every kind, for fuzzers to begin with."""


def message_of(data: bytes) -> str | bytes:
    """*data* as a viewer's message: text where it is some, as WebSockets have it."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


@contextmanager
def only_protocol_errors(*codes: CloseCode) -> Iterator[None]:
    """Nothing else may be raised, and what is has words that a close frame can hold."""
    refused = None
    try:
        yield
    except ProtocolError as error:
        refused = error
    assert refused is None or (refused.reason.encode() and refused.code in (codes or CloseCode))


def try_parse(data: bytes) -> None:
    """One message, of any bytes."""
    with only_protocol_errors(CloseCode.MALFORMED):
        parse(message_of(data))


class Talk:
    """A session that is told what a viewer says, and in between has frames to send, as the hub does."""

    def __init__(self, hello: str | bytes = SEEDS[0]) -> None:
        self.now = 1.0
        self.state = StreamState(StreamOptions(adaptive=True, resize_policy="match_client"), SIZE)
        self.session = ViewerSession(self.state, lambda hello: None, self.now, local=len(hello) % 2 == 0)
        self.sizing = Sizing(self.state.options)
        self.say(hello)
        self.publish()

    def say(self, message: str | bytes) -> None:
        event = self.session.receive(message, self.now)
        json.dumps(event, allow_nan=False)
        self.sizing.update({"viewer": self.session}, self.now)
        self.sizing.settle(self.now + 1)
        if target := self.sizing.target:
            assert 2 <= target.width <= 4096
            assert 2 <= target.height <= 4096
            assert 0.1 <= target.ratio <= 16

    def publish(self) -> None:
        newest = self.state.newest
        version = newest.version + 1 if newest else 1
        self.state.published(TileMap.whole(*SIZE, version, round(self.now * 1e6)))
        self.feed()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.feed()

    def feed(self) -> None:
        """Send what the session wants to; its figures stay numbers that JSON and clocks can have."""
        self.session.check(self.now)
        for _ in range(8):
            if not (self.session.send_chunk(self.now) or self._send_picture() or self._encode_video()):
                break
        self.session.stats(self.now)
        json.dumps(self.session.snapshot(self.now), allow_nan=False)
        for when in (self.session.next_look, self.session.closes_at, self.session.video_room_at(self.now)):
            assert not math.isnan(when)

    def _send_picture(self) -> bool:
        if (plan := self.session.plan(self.now)) is None:
            return False
        mime, exact = plan.fidelity.mime, plan.fidelity.mime == "image/png"
        parts = tuple(Part(rect, mime, b"12345678", exact) for rect in plan.region.rects)
        encoded = Encoded(parts, b"".join(part.data for part in parts), 1.0)
        self.state.learn(plan, encoded)
        return bool(self.session.send(plan, encoded, self.now))

    def _encode_video(self) -> bool:
        took = False
        for lane in self.state.encoders:
            assert self.state.newest
            if take := self.state.encoders.take(lane, self.state.newest, self.now)[0]:
                took = True
                chunk = Chunk(take.tiles, b"1234", "avc1.42c01f", "annexb", take.keyframe, lane.key.rung, 1.0)
                for member in self.state.encoders.encoded(lane, chunk, self.now):
                    member.enqueue(chunk)
        return took


def try_session(data: bytes) -> None:
    """A whole talk: a message a line; an empty one stands for a new frame, a digit for so many tenths of a second."""
    first, *lines = data.split(b"\n")[:60]
    with only_protocol_errors():
        talk = Talk(message_of(first))
        for line in lines:
            if not line:
                talk.publish()
            elif len(line) == 1 and line.isdigit():
                talk.wait(int(line) / 10)
            else:
                talk.say(message_of(line))


TARGETS = {"parse": try_parse, "session": try_session}


def write_corpus(folder: Path) -> None:
    """What atheris begins with."""
    for number, seed in enumerate(SEEDS):
        (folder / f"message-{number}").write_text(seed)
    (folder / "talk").write_text("\n".join([*SEEDS, "", "5", *SEEDS[2:], ""]))


def main() -> None:
    target, *arguments = sys.argv[1:] or ["parse"]
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder))
        atheris.Setup([sys.argv[0], folder, "-max_len=4096", *arguments], TARGETS[target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
