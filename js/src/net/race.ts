// The ways to the hub, tried one after the other without waiting for each to end: the first that reaches it wins.

import { Attempt } from "./attempt";
import { isLoopback, type Target, type Way } from "./candidates";
import { type End, type Failure, LOCAL_FORBIDDEN, meaningOf, MIXED_FORBIDDEN, outcomeOf, policyForbids, type Try } from "./diagnosis";
import { refusedBy } from "./policy";

export interface RaceListener {
  /** Say the whole hello there, with the token. */
  greet(attempt: Attempt): void;
  won(attempt: Attempt): void;
  heard(data: string | ArrayBuffer): void;
  /** The connection that had won is over. */
  lost(end: End): void;
  /** All ways have failed. */
  failed(failures: Failure[]): void;
}

/** What a local hub needs at most: a way that is slower than that has lost nothing but its head start. */
const STAGGER_MS = 250;
const ASK_TIMEOUT_MS = 3000;
/** Characters of an answer that are shown. */
const MAX_SAID = 300;

export class Race {
  #ways: Way[];
  #target: Target;
  #listener: RaceListener;
  #running = new Set<Attempt>();
  #failures: { attempt: Attempt; end: End }[] = [];
  #attempts: Attempt[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #over = false;

  constructor(ways: Way[], target: Target, listener: RaceListener) {
    this.#ways = [...ways];
    this.#target = target;
    this.#listener = listener;
    this.#startNext();
  }

  get tries(): Try[] {
    return this.#attempts.map(({ log }) => log);
  }

  close(outcome: string): void {
    this.#over = true;
    clearTimeout(this.#timer);
    for (const attempt of this.#running) attempt.leave(outcome);
    this.#running.clear();
  }

  #startNext(): void {
    clearTimeout(this.#timer);
    const way = this.#ways.shift();
    if (way) {
      const attempt = new Attempt(way, this.#target, {
        greet: (attempt) => this.#listener.greet(attempt),
        heard: (data) => this.#listener.heard(data),
        won: (attempt) => this.#win(attempt),
        ended: (attempt, end) => this.#end(attempt, end),
      });
      this.#attempts.push(attempt);
      this.#running.add(attempt);
      this.#timer = setTimeout(() => this.#startNext(), STAGGER_MS);
    } else if (!this.#running.size) {
      void this.#fail();
    }
  }

  #win(winner: Attempt): void {
    clearTimeout(this.#timer);
    this.#ways = [];
    for (const attempt of this.#running) if (attempt !== winner) attempt.leave("another way was faster");
    this.#running = new Set([winner]);
    this.#listener.won(winner);
  }

  #end(attempt: Attempt, end: End): void {
    this.#running.delete(attempt);
    if (attempt.won) {
      attempt.log.outcome += `; ${outcomeOf(bare(attempt, end))}`;
      this.#listener.lost(end);
      return;
    }
    attempt.log.outcome = outcomeOf(bare(attempt, end));
    this.#failures.push({ attempt, end });
    this.#startNext();
  }

  async #fail(): Promise<void> {
    const failures = await Promise.all(this.#failures.map(({ attempt, end }) => this.#examine(attempt, end)));
    if (!this.#over) this.#listener.failed(failures);
  }

  /**
   * A WebSocket that didn't come about says nothing but 1006, and one that jupyter-server-proxy closed nothing but 1005; the same
   * address, asked by HTTP, says why, or the browser does.
   */
  async #examine(attempt: Attempt, end: End): Promise<Failure> {
    const url = attempt.way.url.replace(/^ws/, "http");
    const failure = bare(attempt, end);
    const { origin, hostname } = new URL(url);
    const unreachable = end.fault === "unreachable";
    const directive = end.code === 0 && (unreachable || end.fault === "blocked") && (await refusedBy(["connect-src"], attempt.way.url));
    if (directive) {
      failure.end = { fault: "forbidden", code: 0, reason: policyForbids(directive, attempt.way.url) };
    } else if (end.fault === "blocked" && url.startsWith("http:") && location.origin.startsWith("https:")) {
      failure.end = { ...end, reason: MIXED_FORBIDDEN };
    } else if (origin === location.origin) {
      if (unreachable || (end.fault === "closed" && end.code === 1005)) Object.assign(failure, await ask(url));
    } else if (unreachable && location.origin !== "null" && isLoopback(hostname) && (await isLocalForbidden())) {
      failure.end = { fault: "blocked", code: 0, reason: LOCAL_FORBIDDEN };
    }
    attempt.log.outcome = outcomeOf(failure);
    return failure;
  }
}

function bare({ way }: Attempt, end: End): Failure {
  return { way, end, answer: null, status: 0, said: "" };
}

/** Nothing, where nothing answers. */
async function ask(url: string): Promise<Partial<Failure>> {
  try {
    const signal = AbortSignal.timeout(ASK_TIMEOUT_MS);
    const response = await fetch(url, { redirect: "manual", cache: "no-store", signal });
    const plain = response.headers.get("Content-Type")?.startsWith("text/plain");
    const said = plain ? (await response.text()).trim().slice(0, MAX_SAID) : "";
    return { answer: meaningOf(response.status, said), status: response.status, said };
  } catch {
    return {};
  }
}

/** Whether the browser keeps this page from its own machine: some do with pages of another network, unless the user allows it. */
async function isLocalForbidden(): Promise<boolean> {
  // Chromium's name of it, now and before.
  for (const name of ["loopback-network", "local-network-access"] as unknown as PermissionName[]) {
    const status = await navigator.permissions?.query({ name }).catch(() => null);
    if (status) return status.state === "denied";
  }
  return false;
}
