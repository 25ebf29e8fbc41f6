// The connection to the hub: found, greeted, and found again when it was lost.

import type { Hello, ViewerMessage } from "../protocol";
import type { Attempt } from "./attempt";
import type { Target, WayName } from "./candidates";
import { Outbox } from "./channels";
import { afterClose, type State } from "./connection";
import { Patience } from "./cooldowns";
import { explain, type Failure, type Try, withoutCell } from "./diagnosis";
import { Race } from "./race";

export interface Listener {
  /** What to say in hello besides size and token; the hub waits ten seconds for it. */
  hello(): Promise<Pick<Hello, "supported" | "no_video">>;
  heard(data: string | ArrayBuffer): void;
  /** Nothing of this connection is valid any more. */
  left(): void;
  state(state: State, message: string): void;
  /** All that was tried lately, oldest first, and the way that works now. */
  tried(tries: Try[], way: WayName | null): void;
}

/** A connection that lasted this long was a good one: the next loss begins with a quick attempt. */
const STABLE_AFTER_MS = 5000;
/** After sleep, a hub that has said nothing for so long is asked for a picture, and has as long again to send it. */
const SILENT_MS = 3000;
const MAX_TRIES = 24;

export class HubSocket {
  #listener: Listener;
  #target: Target | null = null;
  #ratio = 1;
  #race: Race | null = null;
  #patience = new Patience();
  #hub: Attempt | null = null;
  #outbox: Outbox;
  #greeted = new Set<Attempt>();
  #liveSince: number | null = null;
  /** This connection has shown a picture; any connection has. */
  #shown = false;
  #seen = false;
  #attempt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #waiting = false;
  #heardAt = 0;
  #probe: ReturnType<typeof setTimeout> | undefined;
  /** The page slept, and it is not known yet whether the connection has outlived that. */
  #doubted = false;
  /** Of the races before this one. */
  #tries: Try[] = [];
  // Said again after a reconnection: the hub knows nothing of the viewer before.
  #size: ViewerMessage[] = [];
  #hidden = false;

  constructor(listener: Listener) {
    this.#listener = listener;
    const waiting = () => this.#hub?.waiting ?? 0;
    this.#outbox = new Outbox({
      get waiting() {
        return waiting();
      },
      send: (message) => this.#hub?.send(message),
    });
  }

  open(target: Target, ratio: number): void {
    this.#target = target;
    this.#ratio = ratio;
    this.retry();
  }

  /** Connect anew, as if for the first time. */
  retry(): void {
    this.#attempt = 0;
    this.#patience.forget();
    this.#connect();
  }

  /** The page is back from somewhere: don't wait any longer, and don't believe in a connection that may have died meanwhile. */
  wake(): void {
    this.#patience.rouse();
    if (this.#waiting) return this.#connect();
    this.#doubted = true;
    this.#examine();
  }

  /** What says where and how large the view is, is kept while there is no connection; all else is lost then. */
  say(message: ViewerMessage): void {
    const lasting = this.#remember(message);
    const hearers = this.#hub ? [this.#hub] : lasting ? this.#greeted : [];
    for (const attempt of hearers) if (this.#greeted.has(attempt)) attempt.say(message);
    if (message.type === "event" && message.event.type === "show") this.#examine();
  }

  /** Send a message of the application's after those before it. Lost while there is no connection. */
  tell(message: string | Uint8Array<ArrayBuffer>, latestOf: string): void {
    if (this.#hub && !this.#outbox.put(message, latestOf)) console.warn("rfb: a message was left out: 8 MiB wait already");
  }

  /** The hub has answered. */
  live(): void {
    if (this.#liveSince !== null) return;
    this.#liveSince = performance.now();
    this.#listener.state("live", "");
  }

  /** Its picture is drawn. */
  shown(): void {
    if (this.#shown || !this.#hub) return;
    this.#shown = this.#seen = true;
    const { log } = this.#hub;
    log.outcome += `, first picture after ${Date.now() - log.started} ms`;
    this.#report();
  }

  /** Leave for good, for the reason in *message*, until `retry`. */
  refuse(message: string): void {
    this.#drop(message);
    this.#report();
    this.#listener.state("failed", message);
  }

  end(): void {
    this.say({ type: "event", event: { type: "close", timestamp: Date.now() / 1000 } });
    this.#target = null;
    this.#drop("");
  }

  #connect(): void {
    this.#drop("tried anew");
    const target = this.#target;
    if (!target) return;
    if (this.#attempt === 0) this.#listener.state("connecting", "");
    const ways = this.#patience.due(target.ways, Date.now());
    if (!ways.length) return this.#fail([]);
    this.#race = new Race(ways, target, {
      greet: (attempt) => void this.#greet(attempt),
      won: (attempt) => this.#keep(attempt),
      heard: (data) => {
        this.#heardAt = Date.now();
        this.#listener.heard(data);
      },
      lost: (end) => this.#lose(end.code, end.reason),
      failed: (failures) => this.#fail(failures),
    });
  }

  async #greet(attempt: Attempt): Promise<void> {
    const race = this.#race;
    const hello = await this.#listener.hello();
    if (!this.#target || race !== this.#race) return;
    const { token } = this.#target;
    const [viewport] = this.#size;
    const device_pixel_ratio = viewport?.type === "set_viewport" ? viewport.ratio : this.#ratio;
    attempt.say({ type: "hello", ...hello, device_pixel_ratio, token });
    for (const message of this.#size) attempt.say(message);
    if (this.#hidden) attempt.say({ type: "event", event: { type: "hide", timestamp: Date.now() / 1000 } });
    this.#greeted.add(attempt);
  }

  #keep(attempt: Attempt): void {
    this.#hub = attempt;
    this.#patience.forget();
    const { ways } = this.#target!;
    this.#target = { ...this.#target!, ways: [attempt.way, ...ways.filter((way) => way !== attempt.way)] };
    this.#report();
  }

  #lose(code: number, reason: string): void {
    if (this.#liveSince !== null && performance.now() - this.#liveSince > STABLE_AFTER_MS) this.#attempt = 0;
    this.#drop("");
    this.#settle(afterClose(code, reason, this.#attempt++, Math.random()));
  }

  #fail(failures: Failure[]): void {
    this.#drop("");
    const [target, now] = [this.#target!, Date.now()];
    const verdict = explain(this.#patience.heed(failures, now), target, this.#seen, this.#attempt++, Math.random());
    const wait = this.#patience.wait(target.ways, now);
    // Once no way is asked any more, the page may still come back, as from sleep.
    if (wait === Infinity) verdict.state = "failed";
    if (verdict.retryIn !== null) verdict.retryIn = Math.max(verdict.retryIn, wait);
    this.#settle(verdict);
  }

  #settle(verdict: ReturnType<typeof explain>): void {
    this.#report();
    this.#listener.state(verdict.state, this.#target?.cell ? verdict.message : withoutCell(verdict.message));
    if (verdict.retryIn === null) return;
    this.#waiting = true;
    if (verdict.retryIn < Infinity) this.#timer = setTimeout(() => this.#connect(), verdict.retryIn);
  }

  /** A dead connection looks like one at rest, and browsers can't ping: a picture is asked for. */
  #examine(): void {
    if (!this.#doubted || this.#hidden || !this.#shown) return;
    this.#doubted = false;
    if (this.#probe !== undefined || Date.now() - this.#heardAt < SILENT_MS) return;
    const asked = Date.now();
    this.say({ type: "request_keyframe", reason: "the page has slept" });
    this.#probe = setTimeout(() => {
      this.#probe = undefined;
      if (this.#heardAt >= asked) return;
      this.#attempt = 0;
      this.#connect();
    }, SILENT_MS);
  }

  #drop(outcome: string): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#probe);
    this.#probe = undefined;
    this.#waiting = this.#shown = this.#doubted = false;
    this.#greeted.clear();
    this.#outbox.forget();
    this.#liveSince = this.#hub = null;
    const race = this.#race;
    this.#race = null;
    race?.close(outcome);
    this.#tries = [...this.#tries, ...(race?.tries ?? [])].slice(-MAX_TRIES);
    this.#listener.left();
  }

  #report(): void {
    const tries = [...this.#tries, ...(this.#race?.tries ?? [])];
    this.#listener.tried(tries.map((one) => ({ ...one })), this.#hub?.way.name ?? null);
  }

  /** Whether it says something that lasts. */
  #remember(message: ViewerMessage): boolean {
    const kind = message.type === "event" ? message.event.type : message.type;
    if (kind === "set_viewport") this.#size = [message];
    else if (kind === "resize") this.#size = [...this.#size.slice(0, 1), message];
    else if (kind === "hide" || kind === "show") this.#hidden = kind === "hide";
    else return false;
    return true;
  }
}
