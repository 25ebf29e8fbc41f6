"""Input events: the renderview vocabulary, and what of a viewer's words reaches the application."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from .types import EventDict

Check = Callable[[Any], bool]

_MAX_TOUCHES = 32
MAX_PASTE = 10_000
"""Characters of a paste: what fits into one message, whatever they are."""
MODIFIERS = ("Shift", "Control", "Alt", "Meta")


def is_number(value: object) -> bool:
    # By comparison, since no conversion of a whole number beyond the range of floats succeeds.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e300 <= value <= 1e300


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 256


def _is_paste(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_PASTE


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_button(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 9


def _is_touch_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_TOUCHES


def _are_buttons(value: object) -> bool:
    return isinstance(value, list) and len(value) <= 10 and all(map(_is_button, value))


def _are_modifiers(value: object) -> bool:
    return isinstance(value, list) and len(value) <= len(MODIFIERS) and all(item in MODIFIERS for item in value)


def _are_touches(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= _MAX_TOUCHES
        and all(isinstance(t, dict) and t.keys() <= {"x", "y", "pressure"} for t in value.values())
        and all(is_number(number) for touch in value.values() for number in touch.values())
    )


_COMMON: dict[str, Check] = {"timestamp": is_number}
_PLACE: dict[str, Check] = {
    "x": is_number,
    "y": is_number,
    "inside": _is_flag,
    "pixel_ratio": is_number,
    "buttons": _are_buttons,
    "modifiers": _are_modifiers,
}
_POINTER: dict[str, Check] = {
    **_PLACE,
    "button": _is_button,
    "ntouches": _is_touch_count,
    "touches": _are_touches,
    "pointer_id": is_number,
    "pointer_type": _is_text,
    "pressure": is_number,
    "tilt_x": is_number,
    "tilt_y": is_number,
}
_KEY: dict[str, Check] = {"key": _is_text, "code": _is_text, "modifiers": _are_modifiers}
_SIZE: dict[str, Check] = {name: is_number for name in ("width", "height", "pwidth", "pheight", "ratio")}
_CHAR: dict[str, Check] = {"data": _is_text, "input_type": _is_text, "is_composing": _is_flag, "repeat": _is_flag}

EVENT_FIELDS: Mapping[str, Mapping[str, Check]] = {
    "pointer_down": _POINTER,
    "pointer_up": _POINTER,
    "pointer_move": _POINTER,
    "pointer_enter": _POINTER,
    "pointer_leave": _POINTER,
    "double_click": _POINTER,
    "wheel": {**_PLACE, "dx": is_number, "dy": is_number},
    "key_down": _KEY,
    "key_up": _KEY,
    "char": _CHAR,
    "paste": {"text": _is_paste},
    "resize": _SIZE,
    "close": {},
    "show": {},
    "hide": {},
    "focus_in": {},
    "focus_out": {},
}
_REQUIRED = {
    **dict.fromkeys(("pointer_down", "pointer_up", "pointer_move", "double_click"), ("x", "y")),
    **dict.fromkeys(("key_down", "key_up"), ("key",)),
    "wheel": ("dx", "dy"),
    "char": ("data",),
    "paste": ("text",),
    "resize": ("width", "height"),
}


_ELSEWHERE = {
    "click": "pointer_down",
    "dblclick": "double_click",
    "scroll": "wheel",
    "keypress": "char",
    "input": "char",
    "focus": "focus_in",
    "blur": "focus_out",
}
"""Kinds by the names that they have in browsers, where no name here looks like it."""


def nearest_kind(kind: str) -> str | None:
    """The kind of event that was probably meant by *kind*."""
    word = kind.lower().removeprefix("on").replace("mouse", "pointer").replace("_", "").replace("-", "")
    names = {name.replace("_", ""): name for name in EVENT_FIELDS}
    close = get_close_matches(word, names, 1)
    return _ELSEWHERE.get(word) or (names[close[0]] if close else None)


def validate(event: object) -> EventDict | None:
    """*event* with the fields that its type has, or None for a type that renderview doesn't know.

    Raises `ValueError` that names the field, for a value the field can't have or one that is missing.
    Source: pygfx/renderview, ``src/spec.md``; ``paste``, ``inside``, ``pixel_ratio``, ``code``,
    the pointer's id and type, and what a pen or finger adds are ours: its ``pressure``, 0 to 1, and ``tilt_x`` and
    ``tilt_y``, degrees from upright.
    """
    if not isinstance(event, dict) or not isinstance(kind := event.get("type"), str):
        raise ValueError("an event is an object with a type")
    if kind not in EVENT_FIELDS:
        return None
    clean: EventDict = {"type": kind}
    for name, check in (*EVENT_FIELDS[kind].items(), *_COMMON.items()):
        if name in event:
            if not check(event[name]):
                raise ValueError(f"{kind}.{name} has a value it can't have")
            clean[name] = event[name]
    if kind == "resize" and clean.get("ratio", 1) <= 0:
        clean["ratio"] = 1.0  # applications divide by it
    for name in _REQUIRED.get(kind, ()):
        if name not in clean:
            raise ValueError(f"{kind} lacks {name}")
    return clean
