// The candidates, tried one after the other without waiting for each to end: the first that reaches it wins.

import { Attempt } from "./attempt";
import { type Candidate, isLoopback, type Target } from "./candidates";
import { type End, type Failure, LOCAL_FORBIDDEN, meaningOf, MIXED_FORBIDDEN, outcomeOf, policyForbids, type Try } from "./diagnosis";
import { refusedBy } from "./policy";

export interface RaceListener {
  /** Say the whole hello there, with the token. */
  sendHello(attempt: Attempt): void;
  onWin(attempt: Attempt): void;
  onMessage(data: string | ArrayBuffer): void;
  /** The connection that had won is over. */
  onLost(end: End): void;
  /** All candidates have failed. */
  onFailed(failures: Failure[]): void;
}

/** What a local hub needs at most: a candidate that is slower than that has lost nothing but its head start. */
const STAGGER_MS = 250;
const ASK_TIMEOUT_MS = 3000;
/** Characters of an answer that are shown. */
const MAX_BODY = 300;

export class Race {
  #candidates: Candidate[];
  #target: Target;
  #listener: RaceListener;
  #running = new Set<Attempt>();
  #failures: { attempt: Attempt; end: End }[] = [];
  #attempts: Attempt[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #over = false;

  constructor(candidates: Candidate[], target: Target, listener: RaceListener) {
    this.#candidates = [...candidates];
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
    const candidate = this.#candidates.shift();
    if (candidate) {
      const attempt = new Attempt(candidate, this.#target, {
        sendHello: (attempt) => this.#listener.sendHello(attempt),
        onMessage: (data) => this.#listener.onMessage(data),
        onWin: (attempt) => this.#win(attempt),
        onEnd: (attempt, end) => this.#end(attempt, end),
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
    for (const attempt of this.#running) if (attempt !== winner) attempt.leave("another way was faster");
    this.#running = new Set([winner]);
    this.#listener.onWin(winner);
  }

  #end(attempt: Attempt, end: End): void {
    this.#running.delete(attempt);
    if (attempt.won) {
      attempt.log.outcome += `; ${outcomeOf(bare(attempt, end))}`;
      this.#listener.onLost(end);
      return;
    }
    attempt.log.outcome = outcomeOf(bare(attempt, end));
    this.#failures.push({ attempt, end });
    this.#startNext();
  }

  async #fail(): Promise<void> {
    const failures = await Promise.all(this.#failures.map(({ attempt, end }) => this.#examine(attempt, end)));
    if (!this.#over) this.#listener.onFailed(failures);
  }

  /**
   * A WebSocket that didn't come about says nothing but 1006, and one that jupyter-server-proxy closed nothing but 1005; the same
   * address, asked by HTTP, says why, or the browser does.
   */
  async #examine(attempt: Attempt, end: End): Promise<Failure> {
    const url = attempt.candidate.url.replace(/^ws/, "http");
    const failure = bare(attempt, end);
    const { origin, hostname } = new URL(url);
    const unreachable = end.fault === "unreachable";
    const directive = end.code === 0 && (unreachable || end.fault === "blocked") && (await refusedBy(["connect-src"], attempt.candidate.url));
    if (directive) {
      failure.end = { fault: "forbidden", code: 0, reason: policyForbids(directive, attempt.candidate.url) };
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

function bare({ candidate }: Attempt, end: End): Failure {
  return { candidate, end, answer: null, status: 0, body: "" };
}

/** Nothing, where nothing answers. */
async function ask(url: string): Promise<Partial<Failure>> {
  try {
    const signal = AbortSignal.timeout(ASK_TIMEOUT_MS);
    const response = await fetch(url, { redirect: "manual", cache: "no-store", signal });
    const plain = response.headers.get("Content-Type")?.startsWith("text/plain");
    const body = plain ? (await response.text()).trim().slice(0, MAX_BODY) : "";
    return { answer: meaningOf(response.status, body), status: response.status, body };
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
