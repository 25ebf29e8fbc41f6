// One attempt to connect to one candidate: a connection that counts only once the hub has said who it is, since proxies open it before they
// have looked whether there is a hub.

import { type Config, isConfig, isProof, parse, type ViewerMessage } from "../protocol";
import { type Candidate, type Target, withoutSecrets } from "./candidates";
import type { End, Try } from "./diagnosis";
import { macOf, newNonce, PROOF } from "./proof";
import { type Connect, connectWebSocket, type Transport } from "./transport";

export interface AttemptListener {
  /** Say the whole hello, with the token. */
  sendHello(attempt: Attempt): void;
  /** It is the hub. Before `sendHello` where it has proved so, else after. */
  onWin(attempt: Attempt): void;
  onMessage(data: string | ArrayBuffer): void;
  /** It is over, whether it had won or not; not said after `leave`. */
  onEnd(attempt: Attempt, end: End): void;
}

/** Browsers open one WebSocket at a time to a server, so a handshake that isn't answered holds up all other candidates there. */
const HANDSHAKE_MS = 5000;
/** For a kernel that holds the GIL; the hub gives up after as long. */
const ANSWER_MS = 10_000;

export class Attempt {
  readonly candidate: Candidate;
  readonly log: Try;
  #target: Target;
  #listener: AttemptListener;
  #connect: Connect;
  #transport: Transport | null = null;
  #opened = false;
  #won = false;
  #over = false;
  #nonce = "";
  #timer: ReturnType<typeof setTimeout>;

  constructor(candidate: Candidate, target: Target, listener: AttemptListener, connect = connectWebSocket) {
    this.#connect = connect;
    this.candidate = candidate;
    this.#target = target;
    this.#listener = listener;
    this.log = { way: candidate.name, url: withoutSecrets(candidate.url), started: Date.now(), ended: null, outcome: "" };
    this.#timer = this.#wait(HANDSHAKE_MS);
    this.#open();
  }

  get won(): boolean {
    return this.#won;
  }

  /** Bytes that were sent and have not left yet. */
  get waiting(): number {
    return this.#transport?.waiting ?? 0;
  }

  send(message: ViewerMessage): void {
    this.sendRaw(JSON.stringify(message));
  }

  /** One whole message, as it goes. */
  sendRaw(message: string | Uint8Array<ArrayBuffer>): void {
    this.#transport?.send(message);
  }

  /** Close it for the reason in *outcome*. */
  leave(outcome: string): void {
    this.#finish();
    this.log.ended ??= Date.now();
    this.log.outcome ||= outcome;
  }

  #wait(ms: number): ReturnType<typeof setTimeout> {
    return setTimeout(() => this.#end("silent", 0, `no answer in ${ms / 1000} s`), ms);
  }

  #open(): void {
    const listener = {
      onOpen: () => this.#onOpen(),
      onMessage: (data: string | ArrayBuffer) => this.#take(data),
      onClose: (code: number, reason: string) => this.#end(this.#opened ? "closed" : "unreachable", code, reason),
    };
    try {
      this.#transport = this.#connect(this.candidate.url, listener);
    } catch (error) {
      queueMicrotask(() => this.#end("blocked", 0, (error as Error).message));
    }
  }

  #onOpen(): void {
    this.#opened = true;
    clearTimeout(this.#timer);
    this.#timer = this.#wait(ANSWER_MS);
    if (this.candidate.proof) this.#askForProof();
    else this.#listener.sendHello(this);
  }

  #askForProof(): void {
    this.#nonce = newNonce();
    this.send({ type: "hello", supported: [PROOF], device_pixel_ratio: 1, nonce: this.#nonce });
  }

  #take(data: string | ArrayBuffer): void {
    if (this.#won) return this.#listener.onMessage(data);
    if (typeof data !== "string") return;
    const message = tryParse(data);
    if (this.candidate.proof) {
      const { hubKey, hubId, stream } = this.#target;
      const proof = message && isProof(message) ? message : null;
      const proved = !!hubKey && proof?.mac === macOf(hubKey, this.#nonce, proof?.nonce ?? "", hubId, stream);
      if (!proved) return this.#end("unverified", 0, "another hub answered, or one that can't prove itself");
      this.#win("proved");
      this.#listener.sendHello(this);
    } else if (message && isConfig(message)) {
      if (this.#isAnotherHub(message)) return this.#end("unverified", 0, "another hub answered");
      this.#win("answered");
      this.#listener.onMessage(data);
    }
  }

  #isAnotherHub({ hub }: Config): boolean {
    return !!hub && !!this.#target.hubId && hub !== this.#target.hubId;
  }

  #win(outcome: string): void {
    clearTimeout(this.#timer);
    this.#won = true;
    this.log.outcome = outcome;
    this.#listener.onWin(this);
  }

  #end(fault: End["fault"], code: number, reason: string): void {
    if (this.#over) return;
    this.#finish();
    this.log.ended = Date.now();
    // Asked for a proof, hubs that know none miss the token. That a page may not come, or that too many have, is said before.
    const unproven = this.candidate.proof && !this.#won && code >= 4400 && code !== 4403 && code !== 4429;
    this.#listener.onEnd(this, unproven ? { fault: "unverified", code: 0, reason: "another hub answered" } : { fault, code, reason });
  }

  #finish(): void {
    this.#over = true;
    clearTimeout(this.#timer);
    this.#transport?.close();
    this.#transport = null;
  }
}

function tryParse(text: string): ReturnType<typeof parse> | null {
  try {
    return parse(text);
  } catch {
    return null;
  }
}
