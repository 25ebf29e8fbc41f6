import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { WORKER_FORBIDDEN, WORKER_MISSING } from "../src/net/diagnosis";
import type { Engine, startEngine } from "../src/worker/engine";
import type { Command, Report } from "../src/worker/messages";
import { candidate, FakeWebSocket, fakeNetwork, targetOf } from "./network";

class FakeWorker {
  static made: FakeWorker[] = [];
  static forbidden = false;
  got: (Command | { canvas: unknown })[] = [];
  terminated = false;
  onerror: (() => void) | null = null;
  onmessage: ((event: { data: Report | "ready" }) => void) | null = null;

  constructor() {
    if (FakeWorker.forbidden) throw new DOMException("not here", "SecurityError");
    FakeWorker.made.push(this);
  }

  postMessage(message: Command | { canvas: unknown }): void {
    this.got.push(message);
  }

  terminate(): void {
    this.terminated = true;
  }

  report(data: Report | "ready"): void {
    this.onmessage?.({ data });
  }

  get types(): string[] {
    return this.got.map((one) => ("canvas" in one ? "canvas" : one.type));
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
  delete (globalThis as Record<symbol, unknown>)[Symbol.for("pdum_rfb_widget.probing.1")];
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
    worker.report("ready");
    engine.post({ type: "wake" });
    expect(worker.types).toEqual(["canvas", "probe", "open", "wake"]);
    worker.report({ type: "state", state: "live", message: "" });
    expect(reports).toEqual([{ type: "state", state: "live", message: "" }]);
  });

  it("finds out what is decoded once for all views of the page", () => {
    const [first, second] = [start().worker, start().worker];
    for (const worker of [first, second]) worker.report("ready");
    expect([first.types, second.types]).toEqual([["canvas", "probe"], ["canvas"]]);
    first.report({ type: "probed", video: ["rfb/av1"] });
    expect(second.got.at(-1)).toEqual({ type: "offer", video: ["rfb/av1"] });
    expect(reports).toEqual([]);
    const { worker: late } = start();
    late.report("ready");
    expect(late.got.at(-1)).toEqual({ type: "offer", video: ["rfb/av1"] });
  });

  it("lets it say goodbye, and ends it then", () => {
    const { engine, worker } = start();
    worker.report("ready");
    engine.dispose();
    expect([worker.types.at(-1), worker.terminated]).toEqual(["close", false]);
    vi.advanceTimersByTime(500);
    expect(worker.terminated).toBe(true);
  });

  it.each([[true, true], [false, false]])("ends it at once where that is wanted (%s), or it has not begun", (ready, atOnce) => {
    const { engine, worker } = start();
    if (ready) worker.report("ready");
    engine.dispose({ atOnce });
    expect([worker.terminated, vi.getTimerCount()]).toEqual([true, 0]);
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
