import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { WORKER_FORBIDDEN, WORKER_MISSING } from "../src/net/diagnosis";
import type { Engine, startEngine } from "../src/worker/engine";
import type { Command, FromWorker, Report, ToWorker } from "../src/worker/messages";
import { candidate, FakeWebSocket, fakeNetwork, targetOf } from "./network";

class FakeWorker {
  static made: FakeWorker[] = [];
  static forbidden = false;
  got: ToWorker[] = [];
  terminated = false;
  onerror: (() => void) | null = null;
  onmessage: ((event: { data: FromWorker }) => void) | null = null;

  constructor() {
    if (FakeWorker.forbidden) throw new DOMException("not here", "SecurityError");
    FakeWorker.made.push(this);
  }

  postMessage(message: ToWorker): void {
    this.got.push(message);
  }

  terminate(): void {
    this.terminated = true;
  }

  says(data: FromWorker): void {
    this.onmessage?.({ data });
  }

  /** What the player of *view* got, or the worker itself. */
  gotFor(view: number): string[] {
    return this.got.flatMap((one) => (one === "alive?" || one.view !== view ? [] : ["canvas" in one ? "canvas" : one.command.type]));
  }
}

const OPEN: Command = { type: "open", target: targetOf([candidate("direct")]), ratio: 1, imageOnly: true };
let begin: typeof startEngine;
let violated: ((event: object) => void)[];
let engines: Engine[];
let reports: Report[];

function start(onThisThread = false): { engine: Engine; worker: FakeWorker } {
  const canvas = { addEventListener() {}, transferControlToOffscreen: () => "the canvas" };
  const engine = begin(canvas as unknown as HTMLCanvasElement, onThisThread, (one) => reports.push(one));
  engines.push(engine);
  return { engine, worker: FakeWorker.made.at(-1)! };
}

const reasons = () => reports.flatMap((one) => (one.type === "onThisThread" ? [one.why] : []));

beforeEach(async () => {
  vi.useFakeTimers();
  fakeNetwork();
  vi.stubGlobal("Worker", FakeWorker);
  FakeWorker.made = [];
  FakeWorker.forbidden = false;
  [engines, reports, violated] = [[], [], []];
  vi.stubGlobal("addEventListener", (_: string, listener: (event: object) => void) => violated.push(listener));
  // What the page has found out, and what its policy has refused, is kept with the page.
  for (const name of ["probing", "workers"]) delete (globalThis as Record<symbol, unknown>)[Symbol.for(`pdum_rfb_widget.${name}.1`)];
  vi.stubGlobal("navigator", { hardwareConcurrency: 2 });
  vi.resetModules();
  ({ startEngine: begin } = await import("../src/worker/engine"));
});

afterEach(() => {
  for (const engine of engines) engine.dispose();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("an engine with a worker", () => {
  it("gives it the canvas once it is ready, and then what was posted meanwhile", () => {
    const { engine, worker } = start();
    engine.post(OPEN);
    expect(worker.got).toEqual([]);
    worker.says("ready");
    engine.post({ type: "send", message: { type: "request_keyframe", reason: "" } });
    expect(worker.gotFor(1)).toEqual(["canvas", "probe", "open", "send"]);
    worker.says({ view: 1, report: { type: "state", state: "live", message: "" } });
    expect(reports).toEqual([{ type: "state", state: "live", message: "" }]);
  });

  it("finds out what is decoded once for all views of the page", () => {
    const [first, second] = [start().worker, start().worker];
    for (const worker of [first, second]) worker.says("ready");
    expect([first.gotFor(1), second.gotFor(1)]).toEqual([["canvas", "probe"], ["canvas"]]);
    first.says({ view: 1, report: { type: "probed", video: ["rfb/av1"] } });
    const offer = { type: "offer", video: ["rfb/av1"] };
    expect(second.got.at(-1)).toEqual({ view: 1, command: offer });
    expect(reports).toEqual([]);
    start();
    expect(first.got.at(-1)).toEqual({ view: 2, command: offer });
  });

  it("lets it say goodbye, and ends it then", () => {
    const { engine, worker } = start();
    worker.says("ready");
    engine.dispose();
    expect([worker.gotFor(1).at(-1), worker.terminated]).toEqual(["close", false]);
    vi.advanceTimersByTime(500);
    expect(worker.terminated).toBe(true);
  });

  it.each([[true, true], [false, false]])("ends it at once where that is wanted (%s), or it has not begun", (ready, atOnce) => {
    const { engine, worker } = start();
    if (ready) worker.says("ready");
    engine.dispose({ atOnce });
    expect([worker.terminated, vi.getTimerCount()]).toEqual([true, 0]);
  });
});

describe("engines of many views", () => {
  it("share as many workers as there are processors, also between copies of the module", async () => {
    for (let n = 0; n < 5; n++) start();
    vi.resetModules();
    ({ startEngine: begin } = await import("../src/worker/engine"));
    start();
    for (const worker of FakeWorker.made) worker.says("ready");
    const canvases = FakeWorker.made.map(({ got }) => got.filter((one) => one !== "alive?" && "canvas" in one).length);
    expect(canvases).toEqual([3, 3]);
    FakeWorker.made[1]!.says({ view: 2, report: { type: "remark", text: "of the second worker's second" } });
    expect(reports).toEqual([{ type: "remark", text: "of the second worker's second" }]);
  });

  it("keep their worker until the last of them is gone, and a new one takes it over meanwhile", () => {
    vi.stubGlobal("navigator", { hardwareConcurrency: 1 });
    const [first, second] = [start(), start()];
    first.worker.says("ready");
    first.engine.dispose();
    vi.advanceTimersByTime(1000);
    second.engine.dispose();
    vi.advanceTimersByTime(499);
    start();
    vi.advanceTimersByTime(1000);
    expect([FakeWorker.made.length, first.worker.terminated, first.worker.gotFor(3)]).toEqual([1, false, ["canvas", "probe"]]);
  });

  it("are all told of a worker that has failed and doesn't answer any more, and get another", () => {
    vi.stubGlobal("navigator", { hardwareConcurrency: 1 });
    const [first] = [start(), start()];
    const { worker } = first;
    worker.says("ready");
    worker.onerror!();
    first.engine.post({ type: "wake" });
    expect(worker.got.filter((one) => one === "alive?").length).toBe(1);
    worker.says("alive");
    vi.advanceTimersByTime(10_000);
    expect(reports).toEqual([]);
    first.engine.post({ type: "retry" });
    vi.advanceTimersByTime(5000);
    expect([reports, worker.terminated]).toEqual([[{ type: "died" }, { type: "died" }], true]);
    expect(start().worker).not.toBe(worker);
  });
});

describe("an engine whose worker doesn't come up", () => {
  async function expectThisThread(why: string): Promise<void> {
    await vi.advanceTimersByTimeAsync(300);
    expect([reasons(), FakeWebSocket.made.length]).toEqual([[why], 1]);
    expect(FakeWorker.made.every(({ terminated }) => terminated)).toBe(true);
  }

  it("goes on on the page's own thread when there is an error", async () => {
    const { engine, worker } = start();
    engine.post(OPEN);
    worker.onerror!();
    await expectThisThread(WORKER_MISSING);
  });

  it("does so when nothing comes for three seconds", async () => {
    start().engine.post(OPEN);
    await vi.advanceTimersByTimeAsync(2999);
    expect(FakeWebSocket.made).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    await expectThisThread(WORKER_MISSING);
  });

  it("does so when the page forbids it, and says what would allow it", async () => {
    FakeWorker.forbidden = true;
    start().engine.post(OPEN);
    for (const listener of violated) listener({ disposition: "enforce", effectiveDirective: "worker-src", blockedURI: "blob" });
    await expectThisThread(WORKER_FORBIDDEN);
  });
});

it("tries no worker where the page wants none, and says nothing of it", async () => {
  const { engine } = start(true);
  engine.post(OPEN);
  await vi.advanceTimersByTimeAsync(300);
  expect([FakeWorker.made, FakeWebSocket.made.length, reasons()]).toEqual([[], 1, []]);
});
