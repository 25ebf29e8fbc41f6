"""Tracks the buttons and keys that a viewer's user holds, to release them when the viewer can't any more. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..types import EventDict

MOST_HELD = 64
"""Most pointers, and most keys, to track for one viewer; more are not kept. A user has ten fingers."""


@dataclass(slots=True)
class _Pointer:
    last: EventDict
    """The pointer's newest event, which holds its position."""
    buttons: list[int] = field(default_factory=list)


class Held:
    """The buttons, touches and keys of one viewer that went down and not up again. Owned by the hub's loop."""

    def __init__(self) -> None:
        self._pointers: dict[float, _Pointer] = {}
        self._keys: dict[str, EventDict] = {}

    def note(self, event: EventDict) -> None:
        """Records *event*, which `events.validate` accepted and the application receives."""
        match event["type"]:
            case "key_down" if len(self._keys) < MOST_HELD:
                self._keys[event.get("code") or event["key"]] = event
            case "key_up":
                self._keys.pop(event.get("code") or event["key"], None)
            case "pointer_down" | "pointer_move" | "pointer_up" as kind:
                self._note_pointer(kind, event)

    def _note_pointer(self, kind: str, event: EventDict) -> None:
        name, button = event.get("pointer_id", 0), event.get("button", 0)
        pointer = self._pointers.get(name)
        if pointer is None:
            if kind == "pointer_down" and len(self._pointers) < MOST_HELD:
                self._pointers[name] = _Pointer(event, [button])
            return
        pointer.last = event
        if kind == "pointer_down" and button not in pointer.buttons:
            pointer.buttons.append(button)
        elif kind == "pointer_up" and button in pointer.buttons:
            pointer.buttons.remove(button)
            if not pointer.buttons:
                del self._pointers[name]

    def release(self) -> list[EventDict]:
        """Returns the events that release everything, each pointer at its last position, and without times. Nothing
        is held afterwards."""
        ups: list[EventDict] = []
        for pointer in self._pointers.values():
            touches = {"ntouches": 0, "touches": {}} if "touches" in pointer.last else {}
            while pointer.buttons:
                button = pointer.buttons.pop(0)
                up = {"type": "pointer_up", "button": button, "buttons": list(pointer.buttons)}
                ups.append(pointer.last | up | touches)
        ups += [event | {"type": "key_up"} for event in self._keys.values()]
        for up in ups:
            up["modifiers"] = []
            up.pop("timestamp", None)
        self._pointers.clear()
        self._keys.clear()
        return ups
