// Starts a player for a canvas, in a worker where that is possible, else on this thread.

import workerSource from "inline:./main.ts";
import { WORKER_FORBIDDEN, WORKER_MISSING, WORKER_UNTRUSTED } from "../net/diagnosis";
import { refusedBy, trusted } from "../net/policy";
import type { Command, Report } from "./messages";
import { Player } from "./player";
import { probing } from "./probing";

const START_TIMEOUT_MS = 3000;
/** For what a closing worker still has to send. */
const CLOSE_GRACE_MS = 500;

const workerAddress = trusted(() => URL.createObjectURL(new Blob([workerSource], { type: "text/javascript" })));

export interface Engine {
  /** May be called at once; what comes before the player has started waits for it. */
  post(command: Command): void;
  /** With *atOnce* nothing more is sent to the hub: its connection breaks. */
  dispose(how?: { atOnce: boolean }): void;
}

/** With *onThisThread* no worker is tried. */
export function startEngine(canvas: HTMLCanvasElement, onThisThread: boolean, report: (report: Report) => void): Engine {
  const onReport = (one: Report) => (one.type === "probed" ? probing.found(one.video) : report(one));
  const local = onThisThread || typeof Worker === "undefined" || !("transferControlToOffscreen" in canvas);
  const engine = local ? new LocalEngine(canvas, onReport) : new WorkerEngine(canvas, onReport);
  const post = (command: Command) => engine.post(command);
  probing.join(post);
  return {
    post,
    dispose(how) {
      probing.leave(post);
      engine.dispose(how);
    },
  };
}

class LocalEngine implements Engine {
  #player: Player;

  constructor(canvas: HTMLCanvasElement, report: (report: Report) => void) {
    this.#player = new Player(canvas, report);
  }

  post(command: Command): void {
    this.#player.handle(command);
  }

  dispose(): void {
    this.#player.handle({ type: "close" });
  }
}

/** Falls back to the page's own thread where the worker doesn't come up. */
class WorkerEngine implements Engine {
  #canvas: HTMLCanvasElement;
  #report: (report: Report) => void;
  #waiting: Command[] | null = [];
  #worker: Worker | null = null;
  #fallback: LocalEngine | null = null;
  #source = workerAddress();
  #timer: ReturnType<typeof setTimeout>;

  constructor(canvas: HTMLCanvasElement, report: (report: Report) => void) {
    this.#canvas = canvas;
    this.#report = report;
    // A policy that forbids Blob workers throws in one browser, sends an error in the next, and is silent in a third.
    this.#timer = setTimeout(() => this.#fail(), START_TIMEOUT_MS);
    try {
      this.#worker = new Worker(this.#source);
    } catch {
      this.#fail();
      return;
    }
    this.#worker.onerror = () => this.#fail();
    this.#worker.onmessage = ({ data }: MessageEvent<Report | "ready">) => {
      if (data === "ready") this.#ready(this.#worker!);
      else this.#report(data);
    };
  }

  post(command: Command): void {
    if (this.#waiting) this.#waiting.push(command);
    else if (this.#fallback) this.#fallback.post(command);
    else this.#worker?.postMessage(command);
  }

  dispose({ atOnce } = { atOnce: false }): void {
    const worker = this.#worker;
    if (this.#waiting || atOnce) worker?.terminate();
    else setTimeout(() => worker?.terminate(), CLOSE_GRACE_MS);
    this.post({ type: "close" });
    this.#settle();
    this.#fallback = this.#worker = null;
  }

  #ready(worker: Worker): void {
    const waiting = this.#settle();
    const offscreen = this.#canvas.transferControlToOffscreen();
    worker.postMessage({ canvas: offscreen }, [offscreen]);
    for (const command of waiting) worker.postMessage(command);
  }

  #fail(): void {
    if (!this.#waiting) return;
    this.#worker?.terminate();
    this.#worker = null;
    void whyNoWorker().then((why) => this.#report({ type: "onThisThread", why }));
    this.#fallback = new LocalEngine(this.#canvas, this.#report);
    for (const command of this.#settle()) this.#fallback.post(command);
  }

  /** The start is over; what was waiting for it. */
  #settle(): Command[] {
    clearTimeout(this.#timer);
    URL.revokeObjectURL(this.#source);
    const waiting = this.#waiting ?? [];
    this.#waiting = null;
    return waiting;
  }
}

async function whyNoWorker(): Promise<string> {
  const directive = await refusedBy(["worker-src", "child-src", "script-src", "require-trusted-types-for"]);
  if (!directive) return WORKER_MISSING;
  return directive === "require-trusted-types-for" ? WORKER_UNTRUSTED : WORKER_FORBIDDEN;
}
