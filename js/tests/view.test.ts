import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { KERNEL_SILENT, type Try } from "../src/net/diagnosis";
import { store } from "../src/net/store";
import type { ViewOptions } from "../src/ui/options";
import type { Command, Report } from "../src/worker/messages";
import { fakePage, type FakePage, fire } from "./dom";

interface FakeEngine {
  posted: Command[];
  disposed: unknown[];
  report(report: Report): void;
}

const engines: FakeEngine[] = [];

vi.mock("../src/worker/engine", () => ({
  startEngine(_canvas: unknown, _onThisThread: boolean, report: (report: Report) => void) {
    const engine: FakeEngine = { posted: [], disposed: [], report };
    engines.push(engine);
    return { post: (command: Command) => engine.posted.push(command), dispose: (how: unknown) => engine.disposed.push(how) };
  },
}));

const { RemoteFramebufferView } = await import("../src/ui/view");

let page: FakePage;
let view: InstanceType<typeof RemoteFramebufferView>;

const engine = () => engines.at(-1)!;
const posted = <T extends Command["type"]>(type: T) =>
  engine().posted.filter((one): one is Extract<Command, { type: T }> => one.type === type);
const events = () => posted("send").flatMap(({ message }) => (message.type === "event" ? [message.event] : []));
const types = () => events().map(({ type }) => type);
const root = () => page.body.find("rfb-root");
const LIVE: Report = { type: "state", state: "live", message: "" };

function open(options: Partial<ViewOptions> = {}): void {
  view = new RemoteFramebufferView(page.body as unknown as HTMLElement, { url: "ws://x/s", token: "t", ...options });
}

const frame = (width: number, height: number, pixelRatio = 1): Report => ({ type: "frame", width, height, pixelRatio });

beforeEach(() => {
  vi.useFakeTimers();
  engines.length = 0;
  page = fakePage();
});

afterEach(() => {
  view.dispose();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("where the stream is", () => {
  it("is the url and the token of a page, opened at once", async () => {
    open({ imageOnly: true });
    await vi.advanceTimersByTimeAsync(0);
    const [{ target, ratio, imageOnly }] = posted("open") as [Extract<Command, { type: "open" }>];
    expect([target.candidates, target.token, ratio, imageOnly]).toEqual([[{ name: "url", url: "ws://x/s", proof: false }], "t", 1, true]);
  });

  it("is what a notebook finds out, and the user is told when the kernel takes long", async () => {
    const onState = vi.fn();
    open({ target: new Promise(() => {}), onState });
    await vi.advanceTimersByTimeAsync(2999);
    expect([posted("open"), onState.mock.calls]).toEqual([[], []]);
    await vi.advanceTimersByTimeAsync(1);
    expect(onState).toHaveBeenCalledWith("connecting", KERNEL_SILENT);
  });

  it("may be an error, which is shown", async () => {
    open({ target: Promise.reject(new Error("ws://[ is no address.")) });
    await vi.advanceTimersByTimeAsync(0);
    expect(view.state).toBe("failed");
    expect(root().find("rfb-words").textContent).toBe("ws://[ is no address.");
  });
});

describe("the connection's state", () => {
  it("is told and shown, and waits for a picture of this connection", () => {
    const [onState, onPicture] = [vi.fn(), vi.fn()];
    open({ onState, onPicture, label: "Plot" });
    engine().report(LIVE);
    expect([root().dataset.state, root().find("rfb-status").textContent]).toEqual(["waiting", "Waiting for the first frame…"]);
    engine().report(frame(8, 8));
    engine().report(frame(9, 9));
    expect([root().dataset.state, onPicture.mock.calls.length]).toEqual(["live", 1]);
    engine().report({ type: "state", state: "reconnecting", message: "" });
    engine().report(LIVE);
    engine().report(frame(9, 9));
    expect(onPicture.mock.calls.length).toBe(2);
    expect(onState.mock.calls.map(([state]) => state)).toEqual(["live", "reconnecting", "live"]);
    expect(view.canvas.getAttribute("aria-label")).toBe("Plot: live");
  });

  it("comes with words where something is wrong, and a button to try again", () => {
    open();
    engine().report({ type: "state", state: "failed", message: "Nothing answers." });
    expect([root().find("rfb-notice").hidden, root().find("rfb-words").textContent]).toEqual([false, "Nothing answers."]);
    root().button("Try again").click();
    expect(posted("retry").length).toBe(1);
    engine().report(LIVE);
    expect(root().find("rfb-notice").hidden).toBe(true);
  });

  it("remembers the way that works for the next view, and lists all attempts", () => {
    const tried: Try[] = [{ way: "direct", url: "ws://x/s", started: 0, ended: 1, outcome: "no connection" }];
    const onTried = vi.fn();
    open({ onTried });
    engine().report({ type: "onThisThread", why: "did not start" });
    engine().report({ type: "tried", tries: tried, candidate: "route" });
    expect(view.tries.map(({ way, outcome }) => [way, outcome])).toEqual([["worker", "did not start"], ["direct", "no connection"]]);
    expect([store.candidate, onTried.mock.lastCall![0]]).toEqual(["route", view.tries]);
    expect(root().find("rfb-list").children.length).toBe(2);
  });
});

describe("the size of the view", () => {
  it("goes to the hub when it changes: CSS pixels, and whole device pixels", () => {
    open();
    page.resize(300.5, 200, 2);
    page.resize(300.5, 200, 2);
    const [message] = posted("send").map((one) => one.message);
    expect(message).toEqual({ type: "set_viewport", width: 300.5, height: 200, pwidth: 601, pheight: 400, ratio: 2 });
    expect(events()).toMatchObject([{ type: "resize", width: 300.5, pwidth: 601 }]);
  });

  it("is nothing while it isn't laid out", () => {
    open();
    page.resize(0, 0);
    expect(posted("send")).toEqual([]);
  });

  it("takes the picture's shape, unless the picture is made for the view", () => {
    open({ height: "auto" });
    page.resize(400, 300);
    const shape = () => root().find("rfb-sizer").style.aspectRatio;
    engine().report({ type: "shape", width: 200, height: 100, matched: false });
    expect(shape()).toBe("200 / 100");
    engine().report(frame(100, 300, 2));
    expect(shape()).toBe("50 / 150");
    engine().report({ type: "shape", width: 200, height: 100, matched: true });
    expect(shape()).toBe("640 / 480");
  });

  it("places the canvas, as large as the fit says", () => {
    open();
    page.resize(400, 300);
    engine().report(frame(100, 100));
    const { left, width } = view.canvas.style;
    expect([left, width]).toEqual(["50px", "300px"]);
    view.setFit("fill");
    expect(view.canvas.style.width).toBe("400px");
    root().button("Zoom in").click();
    expect([view.canvas.style.width, root().find("rfb-zoom").textContent]).toEqual(["600px", "150 %"]);
    view.resetView();
    expect([view.canvas.style.width, root().find("rfb-zoom").hidden]).toEqual(["400px", true]);
  });
});

describe("the toolbar", () => {
  const canvasWidths = (label: string, times: number) =>
    Array.from({ length: times }, () => {
      root().button(label).click();
      return view.canvas.style.width;
    });

  it("goes through the fits, one after another, and undoes zoom", () => {
    open();
    page.resize(400, 300);
    engine().report(frame(100, 50));
    expect(canvasWidths("Fit", 4)).toEqual(["600px", "400px", "100px", "400px"]);
    expect([...canvasWidths("Zoom in", 1), ...canvasWidths("Reset zoom", 1)]).toEqual(["600px", "400px"]);
    view.setToolbar(false);
    expect(root().find("rfb-toolbar").hidden).toBe(true);
  });

  it("goes to full screen and back, and logs where the browser refuses", async () => {
    open();
    const warned = vi.spyOn(console, "warn").mockImplementation(() => {});
    const requestFullscreen = vi.fn(async () => Promise.reject(new TypeError("not here")));
    const exitFullscreen = vi.fn(async () => {});
    Object.assign(root(), { requestFullscreen });
    Object.assign(page.document, { exitFullscreen });
    root().button("Full screen").click();
    await vi.advanceTimersByTimeAsync(0);
    expect([requestFullscreen.mock.calls.length, warned.mock.calls.length]).toEqual([1, 1]);
    Object.assign(page.document, { fullscreenElement: root() });
    root().button("Full screen").click();
    expect(exitFullscreen).toHaveBeenCalledOnce();
  });

  it("says what the user should know though it works, once there is a picture", () => {
    open();
    engine().report({ type: "remark", text: "View only" });
    engine().report(LIVE);
    expect(root().find("rfb-status").textContent).toBe("Waiting for the first frame…");
    engine().report(frame(20, 10));
    expect(root().find("rfb-status").textContent).toBe("View only");
  });
});

describe("the handle of a view with a height", () => {
  it("changes the height as it is dragged, no less than 48, and tells it at the end", () => {
    const onHeight = vi.fn();
    open({ height: 300, onHeight });
    page.resize(400, 300);
    const handle = root().find("rfb-handle");
    const heights = [];
    fire(handle, "pointerdown", { clientY: 310, pointerId: 1 });
    for (const clientY of [360, 20]) {
      fire(handle, "pointermove", { clientY });
      heights.push(root().style.height);
    }
    expect([heights, onHeight.mock.calls]).toEqual([["350px", "48px"], []]);
    page.resize(400, 48);
    fire(handle, "pointerup");
    fire(handle, "pointermove", { clientY: 500 });
    expect([root().style.height, onHeight.mock.calls]).toEqual(["48px", [[48]]]);
  });

  it("takes the arrow keys, and leaves all others to the page", () => {
    const onHeight = vi.fn();
    open({ height: 300, onHeight });
    page.resize(400, 300);
    const handle = root().find("rfb-handle");
    expect([fire(handle, "keydown", { key: "Tab" }), onHeight.mock.calls]).toEqual([true, []]);
    expect([fire(handle, "keydown", { key: "ArrowUp" }), root().style.height, onHeight.mock.calls.length]).toEqual([false, "284px", 1]);
    view.setHeight("auto");
    expect(root().style.height).toBe("");
  });
});

describe("what may change while a view is shown", () => {
  it("is when touches act in the picture", () => {
    open();
    const touchAction = () => root().find("rfb-stage").style.touchAction;
    const before = touchAction();
    view.setTouch("always");
    const always = touchAction();
    view.setTouch("never");
    root().find("rfb-keys").focus();
    expect([before, always, touchAction()]).toEqual(["auto", "none", "auto"]);
  });

  it("is who gets Control and wheel: the view, which zooms, or the application", () => {
    open({ pinch: "view" });
    page.resize(400, 300);
    engine().report(frame(400, 300));
    const stage = root().find("rfb-stage");
    root().find("rfb-keys").focus();
    const wheel = { clientX: 200, clientY: 150, ctrlKey: true, deltaX: 0, deltaY: -300, deltaMode: 0, buttons: 0, getModifierState: () => false };
    fire(stage, "wheel", wheel);
    expect([types().includes("wheel"), Number.parseFloat(view.canvas.style.width) > 1000]).toEqual([false, true]);
    view.setPinch("application");
    fire(stage, "wheel", wheel);
    page.frame();
    expect(events().at(-1)).toMatchObject({ type: "wheel", dy: -300, pixel_ratio: 1 });
  });
});

describe("what the application exchanges", () => {
  it("is sent only while a hub takes messages, the latest in place of one that waits", () => {
    open();
    expect(view.send("a", 1)).toBe(false);
    engine().report({ type: "features", channelBytes: 100, clipboard: false });
    expect([view.send("a", 1), view.send("a", 2, { latest: true })]).toEqual([true, true]);
    expect(posted("enqueue").map(({ latestOf }) => latestOf)).toEqual(["", "a"]);
    expect(() => view.send("a", "x".repeat(200))).toThrow(RangeError);
    engine().report({ type: "features", channelBytes: 0, clipboard: false });
    expect(view.send("a", 1)).toBe(false);
  });

  it("comes to all listeners of its channel until they stop", () => {
    open();
    const [first, second, other] = [vi.fn(), vi.fn(), vi.fn()];
    const stop = view.onMessage("a", first);
    view.onMessage("a", second);
    view.onMessage("b", other);
    engine().report({ type: "message", channel: "a", data: 1 });
    stop();
    engine().report({ type: "message", channel: "a", data: 2 });
    expect([first.mock.calls, second.mock.calls, other.mock.calls]).toEqual([[[1]], [[1], [2]], []]);
  });

  it("sets the pointer, and the clipboard only where the hub may", async () => {
    open();
    const writeText = vi.spyOn(navigator.clipboard, "writeText");
    engine().report({ type: "cursor", cursor: "crosshair" });
    expect(root().find("rfb-stage").style.cursor).toBe("crosshair");
    root().find("rfb-keys").focus();
    engine().report({ type: "clipboard", text: "no" });
    expect(writeText).not.toHaveBeenCalled();
    engine().report({ type: "features", channelBytes: 0, clipboard: true });
    engine().report({ type: "clipboard", text: "yes" });
    expect(writeText.mock.calls).toEqual([["yes"]]);
    root().find("rfb-keys").blur();
    engine().report({ type: "clipboard", text: "waits for the next click" });
    engine().report({ type: "features", channelBytes: 0, clipboard: false });
    fire(root().find("rfb-stage"), "pointerup");
    expect(writeText.mock.calls.length).toBe(1);
  });
});

describe("the page around", () => {
  it("hides and shows the view, by scrolling or by another tab", () => {
    open();
    page.scroll(true);
    page.scroll(false);
    page.scroll(true);
    Object.assign(page.document, { visibilityState: "hidden", hidden: true });
    fire(page.document, "visibilitychange");
    expect(types()).toEqual(["hide", "show", "hide"]);
    expect(posted("wake")).toEqual([]);
    Object.assign(page.document, { visibilityState: "visible", hidden: false });
    fire(page.document, "visibilitychange");
    fire(page.window, "online");
    expect([types().at(-1), posted("wake").length]).toEqual(["show", 2]);
  });

  it("that is left breaks the connection at once, and begins anew with another canvas when it comes back", () => {
    open();
    page.resize(400, 300);
    const [old, { canvas }] = [engine(), view];
    fire(page.window, "pagehide");
    expect(old.disposed).toEqual([{ atOnce: true }]);
    fire(page.window, "pageshow", { persisted: true });
    expect([engines.length, view.canvas === canvas]).toEqual([2, false]);
    expect(posted("send").map(({ message }) => message.type)).toEqual(["set_viewport", "event"]);
  });

  it("begins anew with another canvas when its worker has died", () => {
    open();
    const [old, { canvas }] = [engine(), view];
    old.report({ type: "died" });
    expect([engines.length, view.canvas === canvas, old.disposed.length]).toEqual([2, false, 1]);
  });

  it("hears nothing of a view that was disposed of", () => {
    const onState = vi.fn();
    open({ onState });
    view.dispose();
    engine().report(LIVE);
    fire(page.window, "online");
    page.scroll(false);
    expect([onState.mock.calls, posted("wake"), types(), page.body.children, page.observers()]).toEqual([[], [], [], [], 0]);
    expect([engine().disposed.length, vi.getTimerCount()]).toEqual([1, 0]);
  });
});

describe("keys and buttons that are held", () => {
  it("come up when the connection is lost", () => {
    open();
    page.resize(400, 300);
    const keys = root().find("rfb-keys");
    keys.focus();
    const modifiers = { shiftKey: false, ctrlKey: false, altKey: false, metaKey: false, getModifierState: () => false };
    fire(keys, "keydown", { key: "a", code: "KeyA", repeat: false, ...modifiers });
    engine().report({ type: "state", state: "reconnecting", message: "" });
    expect(types()).toEqual(["resize", "focus_in", "key_down", "key_up"]);
  });
});

it("shows statistics, and gives them to the page", () => {
  const onFigures = vi.fn();
  open({ showStats: true, onFigures });
  engine().report(frame(640, 480));
  const stats = { fps: 29.6, targetFps: 60, megabitsPerSecond: 8.04, targetMegabitsPerSecond: 0, decodeMs: 2, encodeMs: 0, roundTripMs: 0, format: "h264", note: "" };
  engine().report({ type: "stats", stats });
  expect(onFigures).toHaveBeenCalledWith(stats);
  const panel = root().find("rfb-stats");
  expect(panel.hidden).toBe(false);
  expect(panel.find("rfb-details").textContent).toBe("decode 2.0 ms\n640×480 h264");
  view.setStats(false);
  expect(panel.hidden).toBe(true);
});

it("makes a picture of what is shown, and none before there is one", async () => {
  open();
  const made = vi.spyOn(document, "createElement");
  root().button("Save picture").click();
  await vi.advanceTimersByTimeAsync(0);
  expect(made).not.toHaveBeenCalled();
  engine().report(frame(20, 10));
  expect((await view.screenshot()).size).toBeGreaterThan(0);
  expect(made.mock.results[0]!.value).toMatchObject({ tagName: "canvas", width: 20, height: 10 });
});
