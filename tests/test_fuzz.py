"""Any input of a viewer is understood or a `ProtocolError`: hypothesis, and atheris where it can be installed."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fuzz import SEEDS, Talk, try_parse, try_session
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pdum_rfb_widget.protocol import ProtocolError

ROOT = Path(__file__).parent.parent
NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 1, 2, 1 << 53, 1 << 64, 10**400, -(10**400), 1e300, -1e300, 1e-320, 1e308]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(st.characters(), max_size=20)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
TEMPLATES = [json.loads(seed) for seed in SEEDS]


@st.composite
def messages(draw: st.DrawFn) -> str:
    """A message of a kind that there is, some of whose fields are anything, missing, or of another kind's."""
    message = json.loads(json.dumps(draw(st.sampled_from(TEMPLATES))))
    for place in (message, message.get("event", {}), message.get("event", {}).get("touches", {})):
        for name in list(place):
            fate = draw(st.integers(0, 9))
            if fate == 0:
                del place[name]
            elif fate <= 2:
                place[name] = draw(NUMBERS if isinstance(place[name], (int, float)) else VALUES)
    return json.dumps(message)


@settings(deadline=None, max_examples=1500)
@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")))
@example(b"[" * 60_000)
@example(b'{"type":"hello","supported":' + b"[" * 60_000)
@example(b'{"type":"request_keyframe","reason":' + b"[" * 900 + b"]" * 900 + b"}")
@example(b'{"type":' + b"9" * 60_000)
@example(b'{"type":"ack","seq":1e999}')
@example(b'{"type":"event","event":{"type":"wheel","dx":NaN,"dy":-Infinity}}')
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    try_parse(data)


@settings(deadline=None, max_examples=1500)
@given(messages() | VALUES.map(json.dumps))
def test_any_json_in_any_field_is_a_message_or_malformed(message: str) -> None:
    try_parse(message.encode("utf-8", "replace"))


STEPS = st.one_of(messages(), st.just(""), st.integers(0, 9).map(str), st.sampled_from(SEEDS))


@settings(deadline=None, max_examples=600)
@given(messages() | st.just(SEEDS[0]), st.lists(STEPS, max_size=25))
def test_any_talk_is_understood_or_a_protocol_error_and_its_figures_stay_numbers(hello: str, steps: list[str]) -> None:
    try_session("\n".join([hello, *steps]).encode("utf-8", "replace"))


@pytest.mark.parametrize("draw_ms", [0, 1e-300, 1e300, 1e9])
@pytest.mark.parametrize("queued", [0, (1 << 53) - 1])
def test_acknowledgements_with_figures_that_cannot_be_true_leave_the_flow_as_it_is(draw_ms: float, queued: int) -> None:
    talk = Talk()
    for seq in range(1, 50):
        ack = {"type": "ack", "seq": min(seq, talk.session.window.seq), "draw_ms": draw_ms, "decode_queue_size": queued}
        talk.say(json.dumps(ack))
        talk.wait(0.05)
        talk.publish()
    talk.say(json.dumps({"type": "ack", "seq": talk.session.window.seq, "draw_ms": 3}))
    talk.wait(0.2)
    assert not talk.session.stale, "it has the newest frame"


@pytest.mark.parametrize("kind", ["hello", "set_viewport", "ack", "request_keyframe", "event"])
@pytest.mark.parametrize("value", [None, True, "x", [], {}, -1, 1e301, [[[]]], float("nan")])
def test_a_value_that_a_field_cannot_have_is_the_viewers_fault_or_does_no_harm(kind: str, value: Any) -> None:
    for template in (template for template in TEMPLATES if template["type"] == kind):
        for name in template.keys() - {"type"}:
            message = json.dumps(template | {name: value})
            talk = Talk()
            with contextlib.suppress(ProtocolError):
                talk.say(message)
                talk.publish()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris can't be installed here")
@pytest.mark.parametrize("target", ["parse", "session"])
def test_atheris_finds_nothing_in_some_thousand_runs(target: str, tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).parent / "fuzz.py"), target, "-runs=20000", "-max_total_time=20"]
    done = subprocess.run(
        [*command, f"-artifact_prefix={tmp_path}/"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "Done " in done.stderr
