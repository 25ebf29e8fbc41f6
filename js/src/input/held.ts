// What is down, so that it comes up once and as what it went down, whoever ends it. Pure.

import type { Modifier } from "../input_events";

export interface ButtonChange {
  type: "pointer_down" | "pointer_up";
  button: number;
  /** Those that are held after it. */
  buttons: number[];
}

/**
 * What happens to a pointer that holds *held* when the browser says that it holds *now*, and that *pressed* went down (0 for
 * none). A button that isn't in *now* came up, whether the browser said so or not; one that went down elsewhere isn't ours.
 */
export function buttonChanges(held: number[], now: number[], pressed: number): ButtonChange[] {
  let buttons = [...held];
  const changes: ButtonChange[] = [];
  for (const button of held) {
    if (now.includes(button)) continue;
    buttons = buttons.filter((other) => other !== button);
    changes.push({ type: "pointer_up", button, buttons });
  }
  if (pressed && !buttons.includes(pressed)) {
    buttons = [...buttons, pressed].sort();
    changes.push({ type: "pointer_down", button: pressed, buttons });
  }
  return changes;
}

export interface Key {
  key: string;
  code: string;
}

export interface KeyChange extends Key {
  type: "key_down" | "key_up";
}

/** What an event of the DOM says of modifiers. */
export interface Flags {
  shiftKey: boolean;
  ctrlKey: boolean;
  altKey: boolean;
  metaKey: boolean;
  getModifierState(key: string): boolean;
}

/** Windows makes a press of AltGr into one of Control and, in the same moment, one of AltGr. */
const SAME_MOMENT_MS = 20;

/** The keys that are down, by their place on the keyboard: what a key is called changes while it is down, as with Shift. */
export class Keyboard {
  #isMac: boolean;
  #down = new Map<string, Key & { at: number }>();

  /** macOS says only every other time of CapsLock that it went down, and in between that it came up. */
  constructor(isMac: boolean) {
    this.#isMac = isMac;
  }

  /** A key went down, and not by repeating, at *at* milliseconds. */
  press({ key, code }: Key, at: number): KeyChange[] {
    if (key === "CapsLock") return tap(key, code);
    const control = this.#down.get("ControlLeft");
    const changes = key === "AltGraph" && control && at - control.at < SAME_MOMENT_MS ? this.#lift("ControlLeft") : [];
    const place = code || key;
    changes.push(...this.#lift(place)); // that it came up was never said
    this.#down.set(place, { key, code, at });
    changes.push({ type: "key_down", key, code });
    return changes;
  }

  lift({ key, code }: Key): KeyChange[] {
    if (key === "CapsLock") return this.#isMac ? tap(key, code) : [];
    const changes = this.#lift(code || key);
    // macOS says of no key that it came up while Meta was down.
    return key === "Meta" ? [...changes, ...this.release()] : changes;
  }

  /** Everything comes up. */
  release(): KeyChange[] {
    return [...this.#down.keys()].flatMap((place) => this.#lift(place));
  }

  /** Those that the person holds: where AltGr looks like Control and Alt, these only where they went down themselves. */
  modifiers(e: Flags): Modifier[] {
    const altGr = e.ctrlKey && e.altKey && e.getModifierState("AltGraph");
    const names = [...this.#down.values()].map(({ key }) => key);
    const holds = (flag: boolean, name: string) => flag && (!altGr || names.includes(name));
    const held = { Shift: e.shiftKey, Control: holds(e.ctrlKey, "Control"), Alt: holds(e.altKey, "Alt"), Meta: e.metaKey };
    return (Object.entries(held) as [Modifier, boolean][]).flatMap(([name, down]) => (down ? [name] : []));
  }

  #lift(place: string): KeyChange[] {
    const down = this.#down.get(place);
    this.#down.delete(place);
    return down ? [{ type: "key_up", key: down.key, code: down.code }] : [];
  }
}

function tap(key: string, code: string): KeyChange[] {
  return [{ type: "key_down", key, code }, { type: "key_up", key, code }];
}
