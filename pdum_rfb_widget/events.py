"""Input events: the renderview vocabulary as types, and the validation of what a viewer sends.

At run time an event is a plain dict. Type checkers know its fields once its type was compared::

    if ev.event["type"] == "wheel":
        zoom(ev.event["dy"])
"""

# Annotations are not postponed here: with strings TypedDict could not tell at run time what is required.
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

EventDict: TypeAlias = dict[str, Any]
"""One input event as `validate` returns it, whatever its type."""

Modifier: TypeAlias = Literal["Shift", "Control", "Alt", "Meta"]


class _Base(TypedDict):
    timestamp: NotRequired[float]
    """Time of the event in the page, in seconds since 1970."""


class _Place(_Base):
    inside: NotRequired[bool]
    """False beside the picture."""
    pixel_ratio: NotRequired[float]
    """The frame's pixels that make a logical one, as `Display.publish` said."""
    buttons: NotRequired[list[int]]
    """Buttons that are down: 1 is left, 2 right, 3 middle, 6 a pen's eraser."""
    modifiers: NotRequired[list[Modifier]]


class Touch(TypedDict, total=False):
    """One finger, in `touches`."""

    x: float
    y: float
    pressure: float


class _Pointer(_Place):
    button: NotRequired[int]
    """The button that changed, numbered as in `buttons`; 0 for none."""
    ntouches: NotRequired[int]
    touches: NotRequired[dict[str, Touch]]
    """The fingers on the picture, by the id of each."""
    pointer_id: NotRequired[float]
    pointer_type: NotRequired[str]
    """``mouse``, ``touch`` or ``pen``."""
    pressure: NotRequired[float]
    """0 to 1."""
    tilt_x: NotRequired[float]
    """Degrees from upright, as `tilt_y`."""
    tilt_y: NotRequired[float]


class _PlacedPointer(_Pointer):
    x: float
    """In pixels of the frame, from its left edge."""
    y: float
    """In pixels of the frame, from its upper edge."""


class _CrossingPointer(_Pointer):
    x: NotRequired[float]
    y: NotRequired[float]


class PointerDownEvent(_PlacedPointer):
    """A button, finger or pen went down."""

    type: Literal["pointer_down"]


class PointerUpEvent(_PlacedPointer):
    """A button, finger or pen came up."""

    type: Literal["pointer_up"]


class PointerMoveEvent(_PlacedPointer):
    """The pointer moved over the picture, or beside it with a button down."""

    type: Literal["pointer_move"]


class PointerEnterEvent(_CrossingPointer):
    """The pointer came into the picture."""

    type: Literal["pointer_enter"]


class PointerLeaveEvent(_CrossingPointer):
    """The pointer left the picture."""

    type: Literal["pointer_leave"]


class DoubleClickEvent(_PlacedPointer):
    """Comes after the second `PointerUpEvent`."""

    type: Literal["double_click"]


class WheelEvent(_Place):
    """The wheel turned, or two fingers moved on a trackpad."""

    type: Literal["wheel"]
    dx: float
    """In CSS pixels, as `dy`; down and to the right are positive."""
    dy: float
    x: NotRequired[float]
    y: NotRequired[float]


class _Key(_Base):
    key: str
    """The key's meaning, as browsers name it: ``a``, ``Enter``, ``ArrowUp``."""
    code: NotRequired[str]
    """The key's place on the keyboard: ``KeyA``."""
    modifiers: NotRequired[list[Modifier]]


class KeyDownEvent(_Key):
    """A key went down, or repeats."""

    type: Literal["key_down"]


class KeyUpEvent(_Key):
    """A key came up."""

    type: Literal["key_up"]


class CharEvent(_Base):
    """Text was typed."""

    type: Literal["char"]
    data: str
    input_type: NotRequired[str]
    is_composing: NotRequired[bool]
    repeat: NotRequired[bool]


class PasteEvent(_Base):
    """Text was pasted into the view, with ``clipboard=True``."""

    type: Literal["paste"]
    text: str
    """At most 10,000 characters."""


class ResizeEvent(_Base):
    """The picture's box has another size."""

    type: Literal["resize"]
    width: float
    """In CSS pixels, as `height`."""
    height: float
    pwidth: NotRequired[float]
    """In device pixels, as `pheight`."""
    pheight: NotRequired[float]
    ratio: NotRequired[float]
    """Device pixels that make a CSS pixel; above 0."""


class CloseEvent(_Base):
    """The view is gone."""

    type: Literal["close"]


class ShowEvent(_Base):
    """The view can be seen again."""

    type: Literal["show"]


class HideEvent(_Base):
    """The view can't be seen any more."""

    type: Literal["hide"]


class FocusInEvent(_Base):
    """Keys go to the picture from now on."""

    type: Literal["focus_in"]


class FocusOutEvent(_Base):
    """Keys go elsewhere from now on."""

    type: Literal["focus_out"]


Event: TypeAlias = (
    PointerDownEvent
    | PointerUpEvent
    | PointerMoveEvent
    | PointerEnterEvent
    | PointerLeaveEvent
    | DoubleClickEvent
    | WheelEvent
    | KeyDownEvent
    | KeyUpEvent
    | CharEvent
    | PasteEvent
    | ResizeEvent
    | CloseEvent
    | ShowEvent
    | HideEvent
    | FocusInEvent
    | FocusOutEvent
)
"""One input event; its ``type`` says which."""

EventType: TypeAlias = Literal[
    "pointer_down",
    "pointer_up",
    "pointer_move",
    "pointer_enter",
    "pointer_leave",
    "double_click",
    "wheel",
    "key_down",
    "key_up",
    "char",
    "paste",
    "resize",
    "close",
    "show",
    "hide",
    "focus_in",
    "focus_out",
]

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
REQUIRED_FIELDS = {
    **dict.fromkeys(("pointer_down", "pointer_up", "pointer_move", "double_click"), ("x", "y")),
    **dict.fromkeys(("key_down", "key_up"), ("key",)),
    "wheel": ("dx", "dy"),
    "char": ("data",),
    "paste": ("text",),
    "resize": ("width", "height"),
}
"""The fields that an event of each type must have, where it must have any."""

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
    for name in REQUIRED_FIELDS.get(kind, ()):
        if name not in clean:
            raise ValueError(f"{kind} lacks {name}")
    return clean
