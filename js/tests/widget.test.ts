import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { InputEvent } from "../src/input_events";
import { store } from "../src/net/store";
import type { Traits } from "../src/notebook/traits";
import type { ViewOptions } from "../src/ui/options";
import { asModel, FakeModel } from "./model";

class FakeView {
  static made: FakeView[] = [];
  disposed = false;
  calls: unknown[][] = [];
  options: ViewOptions;

  constructor(_parent: HTMLElement, options: ViewOptions) {
    this.options = options;
    FakeView.made.push(this);
    for (const name of ["setFit", "setBackground", "setHeight", "setLabel", "setTouch", "setPinch", "setOnScreenKeyboard", "setToolbar", "setStats"]) {
      Object.assign(this, { [name]: (value: unknown) => this.calls.push([name, value]) });
    }
  }

  dispose(): void {
    this.disposed = true;
  }
}

vi.mock("../src/ui/view", () => ({ RemoteFramebufferView: FakeView }));
vi.mock("../src/notebook/page_environment", () => ({
  pageEnvironment: async () => ({ origin: "", href: "http://localhost/", local: true, bases: [], token: "", colab: "", last: "" }),
}));

const { default: widget } = await import("../src/notebook/widget");
const view = () => FakeView.made.at(-1)!;
const turn = () => new Promise<void>((resolve) => setTimeout(resolve));

function render(traits: Partial<Traits> = {}) {
  const model = new FakeModel({ token: "t", hub_key: "k", ...traits });
  const abort = new AbortController();
  const { initialize, render } = widget as any;
  initialize({ model: asModel(model) });
  const end: () => void = render({ model: asModel(model), el: { dataset: {} }, signal: abort.signal });
  return { model, end, abort };
}

beforeEach(() => {
  FakeView.made = [];
  store.secrets.clear();
});

afterEach(() => vi.unstubAllGlobals());

describe("a rendered widget", () => {
  it("makes a view of the traits, which finds the hub with secrets that the model no longer has", async () => {
    const { model } = render({ fit: "cover", height: 300, _shape: [4, 3], image_only: true });
    expect(view().options).toMatchObject({ fit: "cover", height: 300, shape: [4, 3], imageOnly: true, showToolbar: true });
    expect([model.get("token"), model.get("hub_key")]).toEqual(["", ""]);
    const target = await view().options.target!;
    expect(target).toMatchObject({ stream: "s", port: 5000, hubId: "hub", token: "t", hubKey: "k", cell: true });
    expect(target.candidates).toEqual([{ name: "direct", url: "ws://127.0.0.1:5000/s", proof: true }]);
  });

  it("follows traits that change without another view", () => {
    const { model } = render();
    model.set("fit", "fill");
    model.set("height", 200);
    model.set("show_stats", true);
    expect(view().calls).toEqual([["setFit", "fill"], ["setHeight", 200], ["setStats", true]]);
    expect(FakeView.made.length).toBe(1);
  });

  it("makes one new view for all traits of a new place that change together", async () => {
    const { model } = render();
    const [old] = FakeView.made;
    model.set("hub_id", "another");
    model.set("port", 6000);
    model.set("token", "t2");
    expect(FakeView.made.length).toBe(1);
    await turn();
    expect([FakeView.made.length, old!.disposed]).toEqual([2, true]);
    expect(await view().options.target).toMatchObject({ port: 6000, hubId: "another", token: "t2" });
    await turn();
    expect(FakeView.made.length).toBe(2);
  });

  it("makes a new view for a new token, and none because its own was blanked", async () => {
    const { model } = render();
    await turn();
    expect(FakeView.made.length).toBe(1);
    model.set("token", "newer");
    await turn();
    expect([FakeView.made.length, model.get("token")]).toEqual([2, ""]);
  });

  it.each(["the returned function", "the signal"])("ends by %s: no view, no listener, once", async (by) => {
    const { model, end, abort } = render();
    const listeners = model.listeners;
    expect(listeners).toBeGreaterThan(10);
    if (by === "the signal") abort.abort();
    else end();
    end();
    expect([view().disposed, model.listeners]).toEqual([true, 0]);
    model.set("port", 1);
    await turn();
    expect(FakeView.made.length).toBe(1);
  });
});

describe("what goes to the kernel", () => {
  it("is the view's status as numbered messages, by which an older one that comes later is known", () => {
    const { model } = render();
    view().options.onState!("live", "");
    view().options.onHeight!(210);
    view().options.onTried!([]);
    const [first, second, third] = model.sent;
    expect(first).toMatchObject({ type: "status", number: 1, state: "live", last_error: "" });
    expect(second).toEqual({ type: "status", number: 2, sender: first.sender, height: 210 });
    expect(third).toEqual({ type: "status", number: 3, sender: first.sender, diagnosis: [] });
    expect(model.saves).toBe(0);
  });

  it("is no event but those that were asked for, and no statistics unasked", () => {
    const { model } = render({ sync_events: ["pointer_down"] });
    const { onEvent, onFigures } = view().options;
    for (const type of ["hide", "pointer_down"] as const) onEvent!({ type } as InputEvent);
    onFigures!({} as Parameters<NonNullable<typeof onFigures>>[0]);
    expect([model.get("last_event"), model.get("stats"), model.saves]).toEqual([{ type: "pointer_down" }, undefined, 1]);
    model.set("sync_stats", true);
    onFigures!({ fps: 3 } as Parameters<NonNullable<typeof onFigures>>[0]);
    expect([model.get("stats").fps, model.saves]).toEqual([3, 2]);
  });
});
