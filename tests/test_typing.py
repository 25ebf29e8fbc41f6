"""What type checkers and editors know of events and options."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from IPython.core.completer import IPCompleter, provisionalcompleter

import pdum_rfb_widget as rfb
from pdum_rfb_widget import events, options
from pdum_rfb_widget.asgi import rfb_endpoint
from pdum_rfb_widget.auth import Authenticator
from pdum_rfb_widget.types import StreamOptions

ROOT = Path(__file__).parent.parent

GOOD = """
import pdum_rfb_widget as rfb

display = rfb.serve(64, 48, quality=80, still_after=None, authenticate=lambda context: context.token)
display.configure(codec="h264")
display.widget(height="auto", sync_events=["wheel"])
rfb.serve_server(streams=[{"name": "a", "width": 64, "height": 48, "fps": 25}]).add_stream("b", 64, 48, alpha=True)

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

display = rfb.serve(64, 48, qualty=80)
display.on("pointer_dwon")
display.configure(bitrate="8M")
display.widget(heigth=300)
rfb.serve_server(streams=[{"name": "a", "width": 64, "height": 48, "still_afer": 1}])

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


@pytest.mark.slow
def test_the_type_of_an_event_says_its_fields(checked: dict[str, list[str]]) -> None:
    assert [line.rpartition("type is ")[2] for line in checked["good"]] == ['"float"', '"float"', '"str"']


def test_a_misspelt_option_event_or_field_is_an_error_of_the_type_checker(checked: dict[str, list[str]]) -> None:
    errors = [line for line in checked["bad"] if "error" in line]
    wrong = ['"qualty"', "'pointer_dwon'", '"bitrate"', '"heigth"', '"still_afer"', 'no key "text"']
    assert [word in line for word, line in zip(wrong, errors, strict=True)] == [True] * len(wrong)


def test_the_types_of_events_are_those_that_are_let_through() -> None:
    kinds = {get_args(get_type_hints(one)["type"])[0]: one for one in get_args(events.Event)}
    assert list(kinds) == list(get_args(events.EventType)) == list(events.EVENT_FIELDS)
    for kind, one in kinds.items():
        assert one.__annotations__.keys() == {"type", "timestamp", *events.EVENT_FIELDS[kind]}
        assert one.__required_keys__ == {"type", *events.REQUIRED_FIELDS.get(kind, ())}
        assert one.__doc__


def test_the_options_that_tools_see_are_those_of_the_dataclass() -> None:
    declared = get_type_hints(StreamOptions, localns={"Authenticator": Authenticator})
    assert get_type_hints(options.StreamOptionsDict) == declared
    assert get_type_hints(options.StreamSpec) == {"name": str, "width": int, "height": int, **declared}
    said = options.StreamOptionsDict.__doc__ or ""
    for field in fields(StreamOptions):
        assert f"{field.name}={field.default!r}" in " ".join(said.split())


def test_signatures_show_every_option_and_its_default() -> None:
    defaults = {field.name: field.default for field in fields(StreamOptions)}
    for function in (rfb.serve, rfb.Server.add_stream):
        shown = {name: parameter.default for name, parameter in signature(function).parameters.items()}
        assert shown | defaults == shown
    for function in (rfb.Display.configure, rfb_endpoint):
        shown = {name: repr(parameter.default) for name, parameter in signature(function).parameters.items()}
        assert shown.keys() >= defaults.keys()
        assert set(shown.values()) >= {"unchanged"}
    assert "still_after: 'float | None' = 0.15" in str(signature(rfb.serve))


def test_the_traits_that_tools_see_are_those_of_the_widget() -> None:
    inner = {"stream", "hub_id", "hub_key", "kernel_base", "machine", "poster"}
    """What `Display.widget` sets itself."""
    told = {"state", "last_error", "diagnosis", "last_event", "stats", "last_picture"}
    """What the page says."""
    traits = {name for name in rfb.RfbCanvas.class_own_traits() if not name.startswith("_")}
    assert get_type_hints(options.WidgetTraits).keys() == traits - inner - told
    assert signature(rfb.Display.widget).parameters.keys() == {"self", "batteries", "poster"} | traits - inner - told


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("rfb.serve(640, 360, still_", "still_after="),
        ("rfb.Server.add_stream(server, 'a', 8, 8, max_r", "max_render_dimension="),
        ("rfb.Display.configure(display, qua", "quality="),
        ("rfb.Display.widget(display, on_s", "on_screen_keyboard="),
    ],
)
def test_ipython_completes_options_and_traits(typed: str, completed: str) -> None:
    completer = IPCompleter(namespace={"rfb": rfb}, use_jedi=False)
    with provisionalcompleter():
        assert completed in {one.text for one in completer.completions(typed, len(typed))}
