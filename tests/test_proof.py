"""A hub proves who it is before a viewer says its token: `rfb/proof`, on a real socket."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest
from conftest import Skip
from hosts import wait_for
from inside import hub_of
from viewers import RawViewer, closed, grey

import pdum_rfb_widget as rfb

NONCE = "0123456789abcdef" * 2


def ask(viewer: RawViewer, **fields: Any) -> None:
    viewer.say(**{"type": "hello", "supported": ["rfb/proof", "image/jpeg"], "nonce": NONCE} | fields)


def wanted(display: rfb.Display, nonce: str, hub_nonce: str, stream: str) -> str:
    """What `wire.md` has for the mac, made of what the widget knows."""
    said = f"{nonce}\n{hub_nonce}\n{display.server.hub_id}\n{stream}".encode()
    return hmac.new(bytes.fromhex(hub_of(display).hub_key), said, hashlib.sha256).hexdigest()


def test_a_hub_proves_itself_and_then_takes_the_token(display: rfb.Display) -> None:
    display.publish(grey(1))
    with RawViewer(display, "rfb/proof", "image/jpeg") as viewer:
        ask(viewer)
        proof = viewer.hear("proof")
        assert set(proof) == {"type", "nonce", "mac"}
        assert proof["mac"] == wanted(display, NONCE, proof["nonce"], "default")
        assert display.client_count == 0
        config = viewer.greet()
        assert (config["hub"], "rfb/proof" in config["features"]) == (display.server.hub_id, True)
        viewer.see()


def test_every_proof_has_a_nonce_of_its_own(display: rfb.Display) -> None:
    nonces = set()
    for _ in range(3):
        with RawViewer(display) as viewer:
            ask(viewer)
            nonces.add(viewer.hear("proof")["nonce"])
    assert {len(nonce) for nonce in nonces} == {32}
    assert len(nonces) == 3


def test_the_proof_names_the_stream_and_is_given_for_any(display: rfb.Display) -> None:
    with RawViewer(display) as viewer:
        viewer.connect(display.ws_url.replace("default", "no%20where"))
        ask(viewer)
        proof = viewer.hear("proof")
        assert proof["mac"] == wanted(display, NONCE, proof["nonce"], "no where")
        viewer.say(**viewer.hello)
        assert closed(viewer)[0] == 4404


def test_a_proof_opens_nothing(display: rfb.Display) -> None:
    with RawViewer(display) as viewer:
        ask(viewer)
        viewer.hear("proof")
        viewer.say(type="hello", supported=["image/jpeg"])
        assert closed(viewer) == (4401, "the token is not this hub's")


def test_a_connection_gets_one_proof(display: rfb.Display) -> None:
    with RawViewer(display) as viewer:
        ask(viewer)
        viewer.hear("proof")
        ask(viewer)
        assert closed(viewer)[0] == 4401


@pytest.mark.parametrize("nonce", ["", "short", "g" * 32, "A" * 32, 7, ["0"], "0" * 4000])
def test_a_nonce_that_is_none_is_4400(display: rfb.Display, nonce: object) -> None:
    with RawViewer(display) as viewer:
        ask(viewer, nonce=nonce)
        assert closed(viewer) == (4400, "hello.nonce is 32 hex digits")


def test_one_time_limit_covers_proof_and_hello(display: rfb.Display, skip: Skip) -> None:
    with RawViewer(display) as viewer:
        wait_for(lambda: display.status()["pending"], "the hub to wait for the hello")
        skip(6)
        ask(viewer)
        viewer.hear("proof")
        skip(5)
        assert closed(viewer)[0] == 4408


@pytest.mark.parametrize("extra", [{"nonce": NONCE}, {"nonce": 7}, {}])
def test_a_hello_with_a_token_needs_no_proof(display: rfb.Display, extra: dict[str, Any]) -> None:
    with RawViewer(display) as viewer:
        viewer.hello |= extra  # without the capability a nonce is a field that nobody knows
        config = viewer.greet()
        assert not {"hub", "version"} & set(config)


@pytest.mark.parametrize("extension", ["rfb/proof", "rfb/tiles"])
def test_viewers_of_our_own_hear_who_answers(display: rfb.Display, extension: str) -> None:
    with RawViewer(display, "image/jpeg", extension) as viewer:
        config = viewer.greet()
        assert config["hub"] == display.server.hub_id
        assert config["version"]


def test_keys_and_ids_are_new_with_every_hub(display: rfb.Display) -> None:
    first = display.server
    first.close()
    second = rfb.serve(8, 8, port=0).server
    assert len(bytes.fromhex(hub_of(second).hub_key)) == 32
    known = {first.token, hub_of(first).hub_key, first.hub_id, second.token, hub_of(second).hub_key, second.hub_id}
    assert len(known) == 6
