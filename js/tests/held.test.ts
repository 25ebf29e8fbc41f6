import { describe, expect, it } from "vitest";
import { buttonChanges, type Flags, Keyboard, type KeyChange } from "../src/input/held";

const told = (changes: KeyChange[]) => changes.map(({ type, key }) => `${type.slice(4)} ${key}`);

function flags(held: string, ...states: string[]): Flags {
  const has = (name: string) => held.includes(name);
  const getModifierState = (key: string) => states.includes(key);
  return { shiftKey: has("S"), ctrlKey: has("C"), altKey: has("A"), metaKey: has("M"), getModifierState };
}

describe("buttons", () => {
  it("go down one after the other, and come up likewise", () => {
    expect(buttonChanges([], [2], 2)).toEqual([{ type: "pointer_down", button: 2, buttons: [2] }]);
    expect(buttonChanges([2], [1, 2], 1)).toEqual([{ type: "pointer_down", button: 1, buttons: [1, 2] }]);
    expect(buttonChanges([1, 2], [2], 0)).toEqual([{ type: "pointer_up", button: 1, buttons: [2] }]);
  });

  it("that the browser no longer holds come up though it said nothing", () => {
    const ups = buttonChanges([1, 3], [], 0);
    expect(ups.map(({ button, buttons }) => [button, buttons])).toEqual([[1, [3]], [3, []]]);
  });

  it("that went down elsewhere, or before a release, are not ours", () => {
    expect(buttonChanges([], [1], 0)).toEqual([]);
  });

  it("do not go down twice", () => {
    expect(buttonChanges([1], [1], 1)).toEqual([]);
  });
});

describe("keys", () => {
  it("come up as what they went down, whatever they are called by then", () => {
    const keyboard = new Keyboard(false);
    keyboard.press({ key: "Shift", code: "ShiftLeft" }, 0);
    expect(told(keyboard.press({ key: "A", code: "KeyA" }, 1))).toEqual(["down A"]);
    expect(told(keyboard.lift({ key: "Shift", code: "ShiftLeft" }))).toEqual(["up Shift"]);
    expect(told(keyboard.lift({ key: "a", code: "KeyA" }))).toEqual(["up A"]);
    expect(keyboard.release()).toEqual([]);
  });

  it("come up before they go down again, and not when they were never down", () => {
    const keyboard = new Keyboard(false);
    keyboard.press({ key: "a", code: "KeyA" }, 0);
    expect(told(keyboard.press({ key: "A", code: "KeyA" }, 9))).toEqual(["up a", "down A"]);
    expect(keyboard.lift({ key: "b", code: "KeyB" })).toEqual([]);
  });

  it("without a code are known by their name", () => {
    const keyboard = new Keyboard(false);
    keyboard.press({ key: "Enter", code: "" }, 0);
    keyboard.press({ key: "x", code: "" }, 0);
    expect(told(keyboard.lift({ key: "Enter", code: "" }))).toEqual(["up Enter"]);
    expect(told(keyboard.release())).toEqual(["up x"]);
  });

  it.each([[false, []], [true, ["down CapsLock", "up CapsLock"]]])(
    "CapsLock is never held; on macOS (%j) the end of its state is a press of it",
    (isMac, atTheEnd) => {
      const keyboard = new Keyboard(isMac);
      const caps = { key: "CapsLock", code: "CapsLock" };
      expect(told(keyboard.press(caps, 0))).toEqual(["down CapsLock", "up CapsLock"]);
      expect(keyboard.release()).toEqual([]);
      expect(told(keyboard.lift(caps))).toEqual(atTheEnd);
    },
  );

  it("that macOS keeps silent about come up with Meta", () => {
    const keyboard = new Keyboard(true);
    keyboard.press({ key: "Meta", code: "MetaLeft" }, 0);
    keyboard.press({ key: "c", code: "KeyC" }, 1);
    expect(told(keyboard.lift({ key: "Meta", code: "MetaLeft" }))).toEqual(["up Meta", "up c"]);
  });
});

describe("AltGr on Windows, which comes as Control and Alt", () => {
  const control = { key: "Control", code: "ControlLeft" };
  const altGr = { key: "AltGraph", code: "AltRight" };
  const both = flags("CA", "AltGraph");

  it("is AltGr alone, and comes up as it", () => {
    const keyboard = new Keyboard(false);
    keyboard.press(control, 100);
    expect(told(keyboard.press(altGr, 101))).toEqual(["up Control", "down AltGraph"]);
    expect(keyboard.modifiers(both)).toEqual([]);
    expect(told(keyboard.lift(control))).toEqual([]);
    expect(told(keyboard.lift({ key: "Alt", code: "AltRight" }))).toEqual(["up AltGraph"]);
  });

  it("leaves Control that the person holds besides", () => {
    const keyboard = new Keyboard(false);
    keyboard.press(control, 100);
    expect(told(keyboard.press(altGr, 900))).toEqual(["down AltGraph"]);
    expect(keyboard.modifiers(flags("SCA", "AltGraph"))).toEqual(["Shift", "Control"]);
  });

  it("is nothing to Control and Alt without it", () => {
    expect(new Keyboard(false).modifiers(flags("CAM"))).toEqual(["Control", "Alt", "Meta"]);
    expect(new Keyboard(true).modifiers(flags("A", "AltGraph")), "Option of macOS").toEqual(["Alt"]);
  });
});
