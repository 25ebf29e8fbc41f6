// The connection to the hub: found, greeted, and found again when it was lost.

import type { Hello, ViewerMessage } from "../protocol";
import type { Attempt } from "./attempt";
import type { Candidate, CandidateName, Target } from "./candidates";
import { Outbox } from "./channels";
import { afterClose, type State } from "./connection";
import { Cooldowns } from "./cooldowns";
import { explain, type Failure, type Try, withoutCell } from "./diagnosis";
import { Race } from "./race";
import { turns } from "./turns";

export interface Listener {
  /** What hello holds besides size and token; the hub waits ten seconds for it. */
  hello(): Promise<Pick<Hello, "supported" | "no_video">>;
  onMessage(data: string | ArrayBuffer): void;
  /** Nothing of this connection is valid any more. */
  onDisconnect(): void;
  onState(state: State, message: string): void;
  /** All that was tried lately, oldest first, and the candidate that works now. */
  onTried(tries: Try[], candidate: CandidateName | null): void;
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
  #endTurn = () => {};
  #race: Race | null = null;
  #cooldowns = new Cooldowns();
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
  #receivedAt = 0;
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
      send: (message) => this.#hub?.sendRaw(message),
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
    this.#cooldowns.clear();
    this.#connect();
  }

  /** The page is back from somewhere: don't wait any longer, and don't believe in a connection that may have died meanwhile. */
  wake(): void {
    this.#cooldowns.expire();
    if (this.#waiting) return this.#connect();
    this.#doubted = true;
    this.#examine();
  }

  /** Size and visibility of the view are kept while there is no connection; all else is lost then. */
  send(message: ViewerMessage): void {
    const lasting = this.#remember(message);
    const recipients = this.#hub ? [this.#hub] : lasting ? this.#greeted : [];
    for (const attempt of recipients) if (this.#greeted.has(attempt)) attempt.send(message);
    if (message.type === "event" && message.event.type === "show") this.#examine();
  }

  /** Send a message of the application's once those before it are sent. Lost while there is no connection. */
  enqueue(message: string | Uint8Array<ArrayBuffer>, latestOf: string): void {
    if (this.#hub && !this.#outbox.enqueue(message, latestOf)) console.warn("rfb: a message was left out: 8 MiB wait already");
  }

  /** The hub has answered. */
  live(): void {
    if (this.#liveSince !== null) return;
    this.#liveSince = performance.now();
    this.#listener.onState("live", "");
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
    this.#listener.onState("failed", message);
  }

  end(): void {
    this.send({ type: "event", event: { type: "close", timestamp: Date.now() / 1000 } });
    this.#target = null;
    this.#drop("");
  }

  #connect(): void {
    this.#drop("tried anew");
    const target = this.#target;
    if (!target) return;
    if (this.#attempt === 0) this.#listener.onState("connecting", "");
    const candidates = this.#cooldowns.due(target.candidates, Date.now());
    if (!candidates.length) return this.#fail([]);
    this.#endTurn = turns.take(() => !this.#hidden, () => this.#begin(candidates, target));
  }

  #begin(candidates: Candidate[], target: Target): void {
    this.#race = new Race(candidates, target, {
      sendHello: (attempt) => void this.#sendHello(attempt),
      onWin: (attempt) => this.#keep(attempt),
      onMessage: (data) => {
        this.#receivedAt = Date.now();
        this.#listener.onMessage(data);
      },
      onLost: (end) => this.#lose(end.code, end.reason),
      onFailed: (failures) => this.#fail(failures),
    });
  }

  async #sendHello(attempt: Attempt): Promise<void> {
    const race = this.#race;
    const hello = await this.#listener.hello();
    if (!this.#target || race !== this.#race) return;
    const { token } = this.#target;
    const [viewport] = this.#size;
    const device_pixel_ratio = viewport?.type === "set_viewport" ? viewport.ratio : this.#ratio;
    attempt.send({ type: "hello", ...hello, device_pixel_ratio, token });
    for (const message of this.#size) attempt.send(message);
    if (this.#hidden) attempt.send({ type: "event", event: { type: "hide", timestamp: Date.now() / 1000 } });
    this.#greeted.add(attempt);
  }

  #keep(attempt: Attempt): void {
    this.#endTurn();
    this.#hub = attempt;
    this.#cooldowns.clear();
    const { candidates } = this.#target!;
    this.#target = { ...this.#target!, candidates: [attempt.candidate, ...candidates.filter((candidate) => candidate !== attempt.candidate)] };
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
    const verdict = explain(this.#cooldowns.record(failures, now), target, this.#seen, this.#attempt++, Math.random());
    const wait = this.#cooldowns.wait(target.candidates, now);
    // Once no candidate is asked any more, the page may still come back, as from sleep.
    if (wait === Infinity) verdict.state = "failed";
    if (verdict.retryIn !== null) verdict.retryIn = Math.max(verdict.retryIn, wait);
    this.#settle(verdict);
  }

  #settle(verdict: ReturnType<typeof explain>): void {
    this.#report();
    this.#listener.onState(verdict.state, this.#target?.cell ? verdict.message : withoutCell(verdict.message));
    if (verdict.retryIn === null) return;
    this.#waiting = true;
    if (verdict.retryIn < Infinity) this.#timer = setTimeout(() => this.#connect(), verdict.retryIn);
  }

  /** A dead connection looks like one at rest, and browsers can't ping: a picture is asked for. */
  #examine(): void {
    if (!this.#doubted || this.#hidden || !this.#shown) return;
    this.#doubted = false;
    if (this.#probe !== undefined || Date.now() - this.#receivedAt < SILENT_MS) return;
    const asked = Date.now();
    this.send({ type: "request_keyframe", reason: "the page has slept" });
    this.#probe = setTimeout(() => {
      this.#probe = undefined;
      if (this.#receivedAt >= asked) return;
      this.#attempt = 0;
      this.#connect();
    }, SILENT_MS);
  }

  #drop(outcome: string): void {
    this.#endTurn();
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
    this.#listener.onDisconnect();
  }

  #report(): void {
    const tries = [...this.#tries, ...(this.#race?.tries ?? [])];
    this.#listener.onTried(tries.map((one) => ({ ...one })), this.#hub?.candidate.name ?? null);
  }

  /** Whether it holds for connections to come, too. */
  #remember(message: ViewerMessage): boolean {
    const kind = message.type === "event" ? message.event.type : message.type;
    if (kind === "set_viewport") this.#size = [message];
    else if (kind === "resize") this.#size = [...this.#size.slice(0, 1), message];
    else if (kind === "hide" || kind === "show") this.#hidden = kind === "hide";
    else return false;
    return true;
  }
}
