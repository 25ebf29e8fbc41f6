// The page's workers: as many as the machine has processors at most, each with the players of several views.

import { trusted } from "../net/policy";
import type { Command, FromWorker, Report, ToWorker } from "./messages";

const START_TIMEOUT_MS = 3000;
/** For what the last view still has to send. */
const CLOSE_GRACE_MS = 500;
/** A worker that doesn't answer for so long is dead, or as good as dead. */
const ANSWER_MS = 5000;
/** Each has a heap and buffers of its own. */
const MOST_WORKERS = 8;

/** A view whose player runs in a worker. */
export interface Tenant {
  /** The worker is up: it may be given the canvas. */
  onReady(): void;
  /** It didn't come up. */
  onFailed(): void;
  onReport(report: Report): void;
  /** It ended, and the canvas with it. */
  onDied(): void;
}

/** One worker, and the views whose players it runs. */
export class PlayerWorker {
  #tenants = new Map<number, Tenant>();
  #joined = 0;
  #worker: Worker | null = null;
  #ready = false;
  /** It was asked whether it lives. */
  #asked = false;
  /** For its start, for an answer, or for its end. */
  #timer: ReturnType<typeof setTimeout>;
  #url: string;
  #onOver: (worker: PlayerWorker) => void;

  /** *onOver* is called when no more views may join. */
  constructor(url: string, onOver: (worker: PlayerWorker) => void) {
    this.#url = url;
    this.#onOver = onOver;
    // A policy that forbids Blob workers throws in one browser, sends an error in the next, and is silent in a third.
    this.#timer = setTimeout(() => this.#end("onFailed"), START_TIMEOUT_MS);
    try {
      this.#worker = new Worker(url);
    } catch {
      queueMicrotask(() => this.#end("onFailed")); // once the view that wanted it has joined
      return;
    }
    this.#worker.onerror = () => (this.#ready ? this.#examine() : this.#end("onFailed"));
    this.#worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#take(data);
  }

  get views(): number {
    return this.#tenants.size;
  }

  get ready(): boolean {
    return this.#ready;
  }

  /** The number by which the worker knows the view of *tenant*. */
  join(tenant: Tenant): number {
    if (this.#ready && !this.views) clearTimeout(this.#timer);
    this.#tenants.set(++this.#joined, tenant);
    return this.#joined;
  }

  give(view: number, canvas: OffscreenCanvas): void {
    this.#worker?.postMessage({ view, canvas } satisfies ToWorker, [canvas]);
  }

  post(view: number, command: Command): void {
    this.#worker?.postMessage({ view, command } satisfies ToWorker);
    if (command.type === "wake" || command.type === "retry") this.#examine();
  }

  /** The worker ends with its last view: with *atOnce* before it could send anything more. */
  leave(view: number, atOnce: boolean): void {
    if (!this.#tenants.delete(view) || this.views) return;
    if (!this.#ready || atOnce) return this.#end();
    clearTimeout(this.#timer);
    this.#asked = false;
    this.#timer = setTimeout(() => this.#end(), CLOSE_GRACE_MS);
  }

  #take(data: FromWorker): void {
    if (data === "ready") {
      this.#ready = true;
      clearTimeout(this.#timer);
      URL.revokeObjectURL(this.#url);
      for (const tenant of [...this.#tenants.values()]) tenant.onReady();
    } else if (data === "alive") {
      if (this.#asked) clearTimeout(this.#timer);
      this.#asked = false;
    } else {
      this.#tenants.get(data.view)?.onReport(data.report);
    }
  }

  /** Browsers tell nobody that a worker ended: it is asked when something failed, or after the page was away. */
  #examine(): void {
    if (!this.#ready || this.#asked || !this.views) return;
    this.#asked = true;
    this.#worker?.postMessage("alive?" satisfies ToWorker);
    this.#timer = setTimeout(() => this.#end("onDied"), ANSWER_MS);
  }

  #end(why?: "onFailed" | "onDied"): void {
    clearTimeout(this.#timer);
    URL.revokeObjectURL(this.#url);
    this.#worker?.terminate();
    this.#worker = null;
    this.#ready = false;
    this.#onOver(this);
    const tenants = [...this.#tenants.values()];
    this.#tenants.clear();
    if (why) for (const tenant of tenants) tenant[why]();
  }
}

/** All workers of one source. */
export class Workers {
  #all = new Set<PlayerWorker>();
  #address: () => string;

  constructor(source: string) {
    this.#address = trusted(() => URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  }

  /** The one with the fewest views, to be joined at once. */
  pick(): PlayerWorker {
    const [least] = [...this.#all].sort((a, b) => a.views - b.views);
    const most = Math.min(MOST_WORKERS, navigator.hardwareConcurrency || 2);
    if (least && (!least.views || this.#all.size >= most)) return least;
    const worker = new PlayerWorker(this.#address(), (over) => this.#all.delete(over));
    this.#all.add(worker);
    return worker;
  }
}

/** Notebooks load this module once for each widget: what is the page's own lies with the page. The number is that of the shape. */
const key = Symbol.for("pdum_rfb_widget.workers.1");
const page = globalThis as { [key]?: Map<string, Workers> };

/** The page's workers of this *source*; another version's are others. */
export function workersOf(source: string): Workers {
  const bySource = (page[key] ??= new Map<string, Workers>());
  const workers = bySource.get(source) ?? new Workers(source);
  bySource.set(source, workers);
  return workers;
}
