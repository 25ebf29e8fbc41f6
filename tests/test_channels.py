"""What goes over one connection, in which order and in which pieces: by lists of inputs, without any network."""

from __future__ import annotations

import contextlib
import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdum_rfb_widget._core.outbox import LARGEST, SHORT, Inbox, Outbox, pieces_of, size_of
from pdum_rfb_widget._core.policy.bandwidth import LOCAL_FAST, BandwidthEstimator
from pdum_rfb_widget.protocol import CloseCode, ProtocolError, pack_binary_message, parse, unpack_binary_message
from pdum_rfb_widget.types import Message

K = 1024


def picture(name: str, nbytes: int = 4) -> Message:
    return name.encode(), b"p" * (nbytes - len(name))


def name_of(message: Message) -> str:
    return (message if isinstance(message, str) else message[0].decode()).rstrip("p")


def put_many(outbox: Outbox, text: str, times: int) -> None:
    for _ in range(times):
        outbox.put(text, "b", latest=False)


def drain(outbox: Outbox, *cut: float) -> list[Message]:
    """All that it gives, as if it had all been sent at once."""
    given = []
    while (message := outbox.next(*cut)) is not None:
        given.append(message)
    return given


def sent(messages: list[Message]) -> list[tuple[str, str | int]]:
    """Kind and name of each: of a piece, which message it is of."""
    out: list[tuple[str, str | int]] = []
    for message in messages:
        if isinstance(message, tuple) and message[0][4:5] == b"{":
            out.append(("piece", unpack_binary_message(b"".join(message))[0]["of"]))
        else:
            out.append(("whole", name_of(message)))
    return out


def joined(messages: list[Message]) -> dict[int, bytes]:
    whole: dict[int, bytes] = {}
    for message in messages:
        header, data = unpack_binary_message(b"".join(message))  # type: ignore[arg-type]
        whole[header["of"]] = whole.get(header["of"], b"") + data
    return whole


# Order ----------------------------------------------------------------------------------------------------------------


def test_what_is_urgent_goes_before_pictures_and_pictures_before_long_messages() -> None:
    outbox = Outbox(10_000 * K)
    outbox.put("L" * (SHORT + 1), "long", latest=False)
    outbox.show([picture("A"), picture("B")])
    outbox.put("one", "a", latest=False)
    outbox.tell(["stats"])
    assert [name_of(message)[:5] for message in drain(outbox)] == ["one", "stats", "A", "B", "LLLLL"]
    assert not outbox.shows


def test_nothing_waits_for_ever_behind_what_goes_before_it() -> None:
    outbox = Outbox(10_000 * K)
    outbox.show([picture(f"P{number}") for number in range(100)])
    for number in range(100):
        outbox.put(f"U{number}", "a", latest=False)
        outbox.put(f"L{number}" + "." * SHORT, "long", latest=False)
    kinds = "".join(name_of(message)[0] for message in drain(outbox))
    assert [kinds.count(kind) for kind in "UPL"] == [100, 100, 100]
    for kind in "UPL":
        longest = max(map(len, kinds[: kinds.rindex(kind)].split(kind)))
        assert longest <= 16, f"{kind} waited for {longest} others"


def test_a_channel_keeps_its_order_whatever_the_length_of_its_messages() -> None:
    chance = random.Random(7)
    outbox = Outbox(10_000 * K)
    for number in range(200):
        channel = chance.choice("abc")
        text = f"{channel}{number:03}" + "." * chance.choice([0, 0, 0, SHORT])
        outbox.put(text, channel, latest=False)
    outbox.show([picture(f"P{number}") for number in range(30)])
    names = [name_of(message)[:4] for message in drain(outbox)]
    for channel in "abc":
        own = [name for name in names if name[0] == channel]
        assert own == sorted(own)
    assert len(names) == 230


def test_the_latest_takes_the_place_of_what_still_waits_of_its_channel_and_of_no_other() -> None:
    outbox = Outbox(10_000 * K)
    outbox.put("kept", "a", latest=False)
    for text in ("old", "older" + "." * SHORT, "newest"):
        outbox.put(text, "a", latest=True)
    outbox.put("other", "b", latest=True)
    assert [name_of(message) for message in drain(outbox)] == ["kept", "newest", "other"]
    outbox.put("next", "a", latest=True)
    assert drain(outbox) == ["next"]


def test_a_message_that_has_begun_is_finished_before_the_latest_comes() -> None:
    outbox = Outbox(10_000 * K)
    outbox.put("x" * 40 * K, "a", latest=True)
    first = outbox.next(SHORT, math.inf)
    outbox.put("new", "a", latest=True)
    rest = drain(outbox, SHORT, math.inf)
    assert first
    assert sent([first, *rest]) == [("piece", 1)] * 3 + [("whole", "new")]


# Bounds ---------------------------------------------------------------------------------------------------------------


def test_who_does_not_read_is_over_the_limit_and_who_does_is_not() -> None:
    outbox = Outbox(100 * K)
    for _ in range(1000):
        outbox.put("x" * K, "a", latest=False)
        assert drain(outbox)
    with pytest.raises(ProtocolError, match=r"4429 102400 bytes of messages wait"):
        put_many(outbox, "x" * K, 100)


def test_messages_that_hold_nothing_count_too_and_the_latest_only_once() -> None:
    outbox = Outbox(100 * K)
    for _ in range(10_000):
        outbox.put("", "a", latest=True)
    with pytest.raises(ProtocolError):
        put_many(outbox, "", 10_000)


# Pieces ---------------------------------------------------------------------------------------------------------------


def test_what_is_cut_is_whole_again_and_what_is_urgent_goes_between_its_pieces() -> None:
    outbox = Outbox(10_000 * K)
    large = b"head", bytes(range(256)) * 400
    outbox.show(["config", large])
    given = [outbox.next(SHORT, math.inf), outbox.next(SHORT, math.inf)]
    outbox.put("now", "a", latest=False)
    given += drain(outbox, SHORT, math.inf)
    messages = [message for message in given if message]
    assert sent(messages[:3]) == [("whole", "config"), ("piece", 1), ("whole", "now")]
    pieces = [messages[1], *messages[3:]]
    assert joined(pieces) == {1: b"".join(large)}
    headers = [unpack_binary_message(b"".join(piece))[0] for piece in pieces]
    assert [header["piece"] for header in headers] == list(range(1, 8))
    assert [header["last"] for header in headers] == [False] * 6 + [True]
    assert all(size_of(piece) <= SHORT + 100 for piece in pieces)


def test_pieces_of_a_picture_and_of_a_long_message_take_turns() -> None:
    outbox = Outbox(10_000 * K)
    outbox.show([picture("A", 400 * K)])
    outbox.put("x" * 100 * K, "a", latest=False)
    kinds = [of for _, of in sent(drain(outbox, SHORT, math.inf))]
    first_of_message = kinds.index(2)
    assert 1 <= first_of_message <= 6, "both get on"
    assert 1 in kinds[first_of_message:], "and the picture goes on"


def test_no_more_pieces_are_on_the_way_than_may_be_and_what_is_short_still_goes() -> None:
    outbox = Outbox(10_000 * K)
    outbox.show([picture("A", 200 * K)])
    assert len(drain(outbox, SHORT, 3 * SHORT)) == 3
    outbox.put("now", "a", latest=False)
    assert drain(outbox, SHORT, 3 * SHORT) == ["now"]
    assert outbox.shows
    outbox.got(2)
    assert len(drain(outbox, SHORT, 3 * SHORT)) == 2
    with pytest.raises(ProtocolError, match="4400 piece 9 was acknowledged and never sent"):
        outbox.got(9)


def test_a_viewer_that_never_says_what_it_got_takes_no_memory_without_end() -> None:
    outbox = Outbox(100_000 * K)
    outbox.show([picture("A", 20_000 * K)])
    assert len(drain(outbox, SHORT, math.inf)) == 256


def test_without_a_length_nothing_is_cut() -> None:
    outbox = Outbox(10_000 * K)
    outbox.show([picture("A", 9000 * K)])
    assert sent(drain(outbox)) == [("whole", "A")]


def link(*, local: bool, rate: float, latency: float = 0.02) -> BandwidthEstimator:
    """A link that has shown this *rate*, in bytes a second."""
    link = BandwidthEstimator(local, bitrate=12_000_000, latency=latency)
    link.acknowledged(1 << 20, latency + (1 << 20) / rate if rate else math.inf, 1.0)
    return link


def test_a_quick_link_of_this_machine_is_cut_only_for_proxies_that_drop_large_messages() -> None:
    assert pieces_of(BandwidthEstimator(local=True, bitrate=12_000_000)) == (LARGEST, math.inf)
    assert pieces_of(link(local=True, rate=2 * LOCAL_FAST)) == (LARGEST, math.inf)
    piece, most = pieces_of(link(local=True, rate=1.25e6))
    assert (piece, most) == (pytest.approx(0.02 * 1.25e6), pytest.approx(0.08 * 1.25e6))


def test_a_link_that_was_slow_is_so_after_a_pause_until_it_is_seen_to_be_quick() -> None:
    forwarded = link(local=True, rate=1.25e6)
    forwarded.acknowledged(100, 0.02, 100.0)
    assert forwarded.rate == 0
    assert pieces_of(forwarded)[0] == pytest.approx(0.02 * 1.25e6)
    forwarded.acknowledged(1 << 20, 0.04, 101.0)
    assert pieces_of(forwarded) == (LARGEST, math.inf)


def test_a_piece_is_what_a_link_takes_in_20_ms_and_16_kb_at_least() -> None:
    assert pieces_of(link(local=False, rate=100e6))[0] == pytest.approx(2e6)
    assert pieces_of(link(local=False, rate=1e4))[0] == SHORT


def test_until_a_link_is_measured_nothing_holds_it_up() -> None:
    piece, most = pieces_of(BandwidthEstimator(local=False, bitrate=12_000_000))
    assert (piece, most) == (pytest.approx(30_000), math.inf)


# From a viewer --------------------------------------------------------------------------------------------------------


def piece(of: int, data: bytes, **fields: Any) -> bytes:
    return pack_binary_message({"type": "piece", "of": of, "last": False} | fields, data)


def test_pieces_of_several_messages_are_joined_and_what_is_whole_passes() -> None:
    inbox = Inbox(1000)
    snowman = "\u2603".encode()
    assert inbox.take("text") == "text"
    assert inbox.take(piece(1, b"ab")) is None
    assert inbox.take(piece(2, snowman[:1], text=True)) is None
    assert inbox.take(piece(1, b"cd", last=True)) == b"abcd"
    other = pack_binary_message({"type": "message", "channel": "a"}, b"")
    assert inbox.take(other) == other
    assert inbox.take(piece(2, snowman[1:], text=True, last=True)) == "\u2603"


@pytest.mark.parametrize("nbytes", [0, 1, 999])
def test_pieces_that_never_end_are_over_the_limit_however_little_they_hold(nbytes: int) -> None:
    inbox = Inbox(100_000)
    with pytest.raises(ProtocolError) as refused:
        any(inbox.take(piece(number % 7, b"x" * nbytes)) for number in range(1000))
    assert refused.value.code == CloseCode.OVER_LIMIT


def test_messages_that_do_end_may_follow_each_other_for_ever() -> None:
    inbox = Inbox(10_000)
    for number in range(1000):
        assert inbox.take(piece(number, b"x" * 4000)) is None
        assert inbox.take(piece(number, b"y" * 4000, last=True)) == b"x" * 4000 + b"y" * 4000


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff\xff\xff\xff{}",
        pack_binary_message({"type": "piece", "of": -1, "last": True}, b""),
        pack_binary_message({"type": "piece", "of": 1, "last": "yes"}, b""),
        pack_binary_message({"type": "piece", "of": 1, "last": True, "text": 1}, b""),
        pack_binary_message({"type": "piece", "of": 1, "last": True, "text": True}, b"\xff"),
        (60_000).to_bytes(4, "little") + b"[" * 60_000,
    ],
)
def test_a_malformed_piece_is_4400(message: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        Inbox(100_000).take(message)
    assert refused.value.code == CloseCode.MALFORMED


values = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["message", "piece", "a"])
headers = st.dictionaries(st.sampled_from(["type", "channel", "of", "last", "text"]), values)
payloads = st.binary(max_size=60)
pieces = st.builds(piece, st.integers(0, 3), payloads, last=st.booleans())


@given(st.lists(payloads | pieces | st.builds(pack_binary_message, headers, payloads)))
def test_whatever_a_viewer_sends_is_understood_or_refused(messages: list[bytes]) -> None:
    inbox = Inbox(1000)
    with contextlib.suppress(ProtocolError):
        for message in messages:
            if (whole := inbox.take(message)) is not None:
                parse(whole, binary=True)


def test_a_text_that_was_cut_is_the_text() -> None:
    outbox = Outbox(10_000 * K)
    text = json.dumps({"type": "message", "channel": "a", "data": "x" * 50_000})
    outbox.put(text, "a", latest=False)
    pieces = drain(outbox, SHORT, math.inf)
    inbox = Inbox(10_000 * K)
    assert [inbox.take(b"".join(piece)) for piece in pieces] == [None] * 3 + [text]  # type: ignore[arg-type]
