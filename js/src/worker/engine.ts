// Starts a player for a canvas, in a worker where that is possible, else on this thread.

import workerSource from "inline:./main.ts";
import { WORKER_FORBIDDEN, WORKER_MISSING, WORKER_UNTRUSTED } from "../net/diagnosis";
import { refusedBy } from "../net/policy";
import type { Command, Report } from "./messages";
import { Player } from "./player";
import { probing } from "./probing";
import { type PlayerWorker, type Tenant, workersOf } from "./workers";

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
class WorkerEngine implements Engine, Tenant {
  #canvas: HTMLCanvasElement;
  #report: (report: Report) => void;
  #waiting: Command[] | null = [];
  #worker: PlayerWorker | null;
  #view: number;
  #fallback: LocalEngine | null = null;

  constructor(canvas: HTMLCanvasElement, report: (report: Report) => void) {
    this.#canvas = canvas;
    this.#report = report;
    this.#worker = workersOf(workerSource).pick();
    this.#view = this.#worker.join(this);
    if (this.#worker.ready) this.onReady();
  }

  post(command: Command): void {
    if (this.#waiting) this.#waiting.push(command);
    else if (this.#fallback) this.#fallback.post(command);
    else this.#worker?.post(this.#view, command);
  }

  dispose({ atOnce } = { atOnce: false }): void {
    this.#waiting = null;
    this.post({ type: "close" });
    this.#worker?.leave(this.#view, atOnce);
    this.#fallback = this.#worker = null;
  }

  onReady(): void {
    this.#worker!.give(this.#view, this.#canvas.transferControlToOffscreen());
    this.#postWaiting();
  }

  onFailed(): void {
    this.#worker = null;
    void whyNoWorker().then((why) => this.#report({ type: "onThisThread", why }));
    this.#fallback = new LocalEngine(this.#canvas, this.#report);
    this.#postWaiting();
  }

  onReport(report: Report): void {
    this.#report(report);
  }

  onDied(): void {
    this.#worker = null;
    this.#report({ type: "died" });
  }

  #postWaiting(): void {
    const waiting = this.#waiting ?? [];
    this.#waiting = null;
    for (const command of waiting) this.post(command);
  }
}

async function whyNoWorker(): Promise<string> {
  const directive = await refusedBy(["worker-src", "child-src", "script-src", "require-trusted-types-for"]);
  if (!directive) return WORKER_MISSING;
  return directive === "require-trusted-types-for" ? WORKER_UNTRUSTED : WORKER_FORBIDDEN;
}
