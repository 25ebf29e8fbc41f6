import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Input } from "../src/input/events";
import type { InputHost } from "../src/input/host";
import { Viewport } from "../src/input/viewport";
import type { InputEvent } from "../src/input_events";
import { FakeElement, fakePage, type FakePage, fire } from "./dom";

let page: FakePage;
let stage: FakeElement;
let keys: FakeElement;
let host: InputHost;
let events: any[];
let end: AbortController;

const NO_MODIFIERS = { shiftKey: false, ctrlKey: false, altKey: false, metaKey: false, getModifierState: () => false };
const MOUSE = { ...NO_MODIFIERS, pointerId: 1, pointerType: "mouse", pressure: 0.5, tiltX: 0, tiltY: 0, clientX: 50, clientY: 25, button: -1, buttons: 0 };
const TOUCH = { ...MOUSE, pointerId: 7, pointerType: "touch", button: 0, buttons: 1 };

const types = () => events.map(({ type }) => type);
const pointer = (type: string, more: object = {}, kind: object = MOUSE) => fire(stage, `pointer${type}`, { ...kind, ...more });
const key = (type: "keydown" | "keyup", name: string, more: object = {}) =>
  fire(keys, type, { ...NO_MODIFIERS, key: name, code: name.length === 1 ? `Key${name.toUpperCase()}` : name, repeat: false, isComposing: false, ...more });

beforeEach(() => {
  page = fakePage();
  const [root, outside] = [new FakeElement("div"), new FakeElement("button")];
  root.className = "rfb-root";
  [stage, keys] = [new FakeElement("div"), new FakeElement("textarea")];
  stage.rect = { left: 0, top: 0, width: 100, height: 50 };
  root.append(stage, keys);
  page.body.append(root, outside);
  events = [];
  const viewport = new Viewport();
  viewport.setBox(100, 50, 1);
  viewport.setFrame(200, 100);
  host = {
    stage: stage as unknown as HTMLElement,
    keys: keys as unknown as HTMLTextAreaElement,
    viewport,
    touch: "focus",
    pinch: "view",
    pixelRatio: () => 2,
    pastes: () => false,
    emit: (event: InputEvent) => events.push(event),
    moved: vi.fn(),
  };
  end = new AbortController();
  new Input(host, end.signal);
});

afterEach(() => {
  end.abort();
  vi.unstubAllGlobals();
});

describe("a pointer", () => {
  it("is told of as it enters and leaves and clicks twice, and opens no menu of the page", () => {
    pointer("enter");
    fire(stage, "dblclick", { ...MOUSE, button: 0 });
    pointer("leave");
    expect(types()).toEqual(["pointer_enter", "double_click", "pointer_leave"]);
    expect(events[1]).toMatchObject({ x: 100, y: 50, button: 1, ntouches: 0 });
    expect(fire(stage, "contextmenu", MOUSE)).toBe(false);
  });

  it("is told in pixels of the frame, with what it holds", () => {
    pointer("down", { button: 0, buttons: 1, shiftKey: true });
    expect(events.at(-1)).toMatchObject({ type: "pointer_down", x: 100, y: 50, inside: true, button: 1, buttons: [1], modifiers: ["Shift"] });
    expect(events.at(-1)).toMatchObject({ pixel_ratio: 2, pointer_id: 1, pointer_type: "mouse", ntouches: 0 });
    expect(events.at(-1)).not.toHaveProperty("pressure");
    pointer("up", { button: 0 });
    expect(events.at(-1)).toMatchObject({ type: "pointer_up", button: 1, buttons: [] });
  });

  it("takes the focus and the capture with a press", () => {
    pointer("down", { button: 0, buttons: 1 });
    expect([document.activeElement, stage.hasPointerCapture(1)]).toEqual([keys, true]);
    expect(types()).toEqual(["focus_in", "pointer_down"]);
  });

  it("moves once a frame of the screen, by its newest place, before anything else is told", () => {
    for (const clientX of [10, 20, 30]) pointer("move", { clientX });
    expect(events).toEqual([]);
    page.frame();
    expect(events.map(({ x }) => x)).toEqual([60]);
    pointer("move", { clientX: 40 });
    pointer("down", { clientX: 45, button: 0, buttons: 1 });
    expect(events.slice(1).map(({ type, x }) => [type, x])).toEqual([["pointer_move", 80], ["focus_in", undefined], ["pointer_down", 90]]);
  });

  it("presses a second button within a move, and lets both go at the end", () => {
    pointer("down", { button: 0, buttons: 1 });
    pointer("move", { button: 2, buttons: 3 });
    pointer("up", { button: 0, buttons: 0 });
    expect(events.slice(1).map(({ type, button, buttons }) => [type, button, buttons])).toEqual([
      ["pointer_down", 1, [1]],
      ["pointer_down", 2, [1, 2]],
      ["pointer_up", 1, [2]],
      ["pointer_up", 2, []],
    ]);
  });

  it.each([
    ["the browser takes it away", () => pointer("cancel")],
    ["the capture is lost as the view is removed", () => fire(page.document, "lostpointercapture", MOUSE)],
    ["the window loses the focus", () => fire(page.window, "blur")],
    ["the view ends", () => end.abort()],
  ])("lets its button go when %s", (_, happens) => {
    pointer("down", { button: 0, buttons: 1 });
    happens();
    expect(types().filter((type) => type === "pointer_up")).toEqual(["pointer_up"]);
    pointer("up", { button: 0 });
    expect(types().filter((type) => type === "pointer_up").length).toBe(1);
  });

  it("pans a zoomed view with Alt, and the application hears nothing of it", () => {
    host.viewport.zoomBy(2, 50, 25);
    pointer("down", { button: 0, buttons: 1, altKey: true });
    pointer("move", { clientX: 60, buttons: 1 });
    pointer("up", { clientX: 60, button: 0 });
    expect(host.viewport.placement().left).toBe(-40);
    expect([types(), vi.mocked(host.moved).mock.calls.length]).toEqual([["focus_in"], 1]);
  });
});

describe("a touch", () => {
  it("is the page's until a tap gives the picture the focus", () => {
    expect(stage.style.touchAction).toBe("auto");
    pointer("down", {}, TOUCH);
    pointer("move", { clientX: 70 }, TOUCH);
    pointer("cancel", {}, TOUCH); // the page scrolls with it
    page.frame();
    expect(events).toEqual([]);
    pointer("down", {}, TOUCH);
    pointer("up", { buttons: 0 }, TOUCH);
    expect(types()).toEqual(["focus_in", "pointer_down", "pointer_up"]);
    expect(stage.style.touchAction).toBe("none");
  });

  it("is told with all fingers that are down, until each is up", () => {
    host.touch = "always";
    pointer("down", { clientX: 10 }, TOUCH);
    pointer("down", { clientX: 20, pointerId: 8 }, TOUCH);
    expect(events.at(-1)).toMatchObject({ ntouches: 2, touches: { 7: { x: 20 }, 8: { x: 40, pressure: 0.5 } } });
    pointer("up", { buttons: 0 }, TOUCH);
    pointer("move", { clientX: 22, pointerId: 8 }, TOUCH);
    page.frame();
    expect(events.at(-1)).toMatchObject({ type: "pointer_move", ntouches: 1 });
  });
});

describe("the wheel", () => {
  const turn = (more: object = {}) => fire(stage, "wheel", { ...MOUSE, deltaX: 0, deltaY: 30, deltaMode: 0, ...more });

  it("is the page's without the focus, and the application's with it: the sum, once a frame", () => {
    expect(turn()).toBe(true);
    keys.focus();
    expect(turn()).toBe(false);
    turn({ deltaX: 5, deltaMode: 1 });
    page.frame();
    expect(events.slice(1)).toMatchObject([{ type: "wheel", dy: 1030, x: 100, y: 50 }]);
    expect(events[1].dx).toBeCloseTo(500 / 3);
  });

  it("zooms the view with Control, unless the application wants it", () => {
    turn({ ctrlKey: true, deltaY: -300 });
    expect(host.viewport.zoom).toBeCloseTo(Math.E);
    host.pinch = "application";
    keys.focus();
    turn({ ctrlKey: true });
    page.frame();
    expect(events.at(-1)).toMatchObject({ type: "wheel", modifiers: ["Control"] });
  });
});

describe("a key", () => {
  beforeEach(() => {
    keys.focus();
    events.length = 0;
  });

  it("is told once, and comes up as what it went down", () => {
    key("keydown", "a");
    key("keydown", "a", { repeat: true });
    key("keyup", "A", { code: "KeyA" });
    expect(events.map(({ type, key }) => [type, key])).toEqual([["key_down", "a"], ["key_up", "a"]]);
  });

  it("keeps the page from acting on it, but not the browser on its own", () => {
    expect([key("keydown", "ArrowDown"), key("keydown", "a"), key("keydown", "Tab"), key("keydown", "F5")]).toEqual([false, true, true, true]);
    expect([key("keydown", "s", { ctrlKey: true }), key("keydown", "c", { ctrlKey: true })]).toEqual([false, true]);
  });

  it("comes up when the focus goes, and Escape gives that back to where it came from", () => {
    const outside = page.body.children[1]!;
    outside.focus();
    keys.focus();
    events.length = 0;
    key("keydown", "a");
    key("keydown", "Escape");
    expect(document.activeElement).toBe(outside);
    expect(events.map(({ type, key }) => [type, key])).toEqual([
      ["key_down", "a"],
      ["key_down", "Escape"],
      ["key_up", "a"],
      ["key_up", "Escape"],
      ["focus_out", undefined],
    ]);
  });
});

describe("text", () => {
  const input = (data: string, more: object = {}) => fire(keys, "input", { data, inputType: "insertText", isComposing: false, ...more });

  it("is told as characters, in pieces and not without end", () => {
    keys.value = "left over";
    input("é".repeat(20_000));
    expect(events.length).toBe(50);
    expect(events[0]).toMatchObject({ type: "char", data: "é".repeat(200), input_type: "insertText", is_composing: false });
    expect(keys.value).toBe("");
  });

  it("that is composed comes while it is and at its end, once, without keys", () => {
    fire(keys, "compositionstart");
    key("keydown", "Process", { isComposing: true });
    input("に", { inputType: "insertCompositionText", isComposing: true });
    fire(keys, "compositionend", { data: "日本" });
    input("日本", { inputType: "insertCompositionText" }); // as Firefox does once more
    expect(events.map(({ data, is_composing }) => [data, is_composing])).toEqual([["に", true], ["日本", false]]);
  });

  it("is pasted as one event where the stream takes that, cut before half a character", () => {
    const paste = () => fire(keys, "paste", { clipboardData: { getData: () => `${"x".repeat(9999)}😀` } });
    expect([paste(), events]).toEqual([true, []]);
    host.pastes = () => true;
    expect(paste()).toBe(false);
    expect(events).toMatchObject([{ type: "paste", text: "x".repeat(9999) }]);
  });
});

it("hears nothing once it has ended", () => {
  end.abort();
  pointer("move");
  page.frame();
  key("keydown", "a");
  expect(events).toEqual([]);
});
