"""What type checkers and editors know of events and options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from pdum_rfb_widget import events

ROOT = Path(__file__).parent.parent

GOOD = """
import pdum_rfb_widget as rfb

display = rfb.serve(64, 48)

@display.on("pointer_down", "wheel")
def act(ev: rfb.InputEvent) -> None:
    event = ev.event
    if event["type"] == "wheel":
        reveal_type(event["dy"])
    if ev.event["type"] == "pointer_down":
        reveal_type(ev.event["x"])

for got in display.poll_events():
    if isinstance(got, rfb.InputEvent) and got.event["type"] == "key_down":
        reveal_type(got.event["key"])
"""
BAD = """
import pdum_rfb_widget as rfb

display = rfb.serve(64, 48)
display.on("pointer_dwon")

def act(ev: rfb.InputEvent) -> None:
    if ev.event["type"] == "wheel":
        ev.event["text"]
"""


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What mypy says of the two snippets, a line each."""
    folder = tmp_path_factory.mktemp("typed")
    for name, source in {"good": GOOD, "bad": BAD}.items():
        (folder / f"{name}.py").write_text(source)
    paths = [str(folder / "good.py"), str(folder / "bad.py")]
    # From the root, so that what the linters have found of the package is not found again.
    done = subprocess.run([sys.executable, "-m", "mypy", *paths], capture_output=True, text=True, cwd=ROOT, timeout=600)
    lines = [line for line in done.stdout.splitlines() if ": error: " in line or ": note: " in line]
    return {name: [line for line in lines if f"{name}.py:" in line] for name in ("good", "bad")}


def test_the_type_of_an_event_says_its_fields(checked: dict[str, list[str]]) -> None:
    assert [line.rpartition("type is ")[2] for line in checked["good"]] == ['"float"', '"float"', '"str"']


def test_a_misspelt_event_or_field_is_an_error_of_the_type_checker(checked: dict[str, list[str]]) -> None:
    first, second = (line for line in checked["bad"] if "error" in line)
    assert "'pointer_dwon'" in first
    assert 'no key "text"' in second


def test_the_types_of_events_are_those_that_are_let_through() -> None:
    kinds = {get_args(get_type_hints(one)["type"])[0]: one for one in get_args(events.Event)}
    assert list(kinds) == list(get_args(events.EventType)) == list(events.EVENT_FIELDS)
    for kind, one in kinds.items():
        assert one.__annotations__.keys() == {"type", "timestamp", *events.EVENT_FIELDS[kind]}
        assert one.__required_keys__ == {"type", *events._REQUIRED.get(kind, ())}
        assert one.__doc__
