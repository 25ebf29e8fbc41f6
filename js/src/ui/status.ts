// What is known of the connection, and how the view shows it: in words, to screen readers, and as a list of attempts.

import type { State } from "../net/connection";
import type { Try } from "../net/diagnosis";
import type { Chrome } from "./chrome";
import type { ViewOptions } from "./options";

export class Status {
  #root: HTMLElement;
  #chrome: Chrome;
  #options: ViewOptions;
  #describe: (words: string) => void;
  #state: State = "connecting";
  #message = "";
  #label = "";
  #tries: Try[] = [];
  #workerTry: Try[] = [];
  /** The picture is of the hub that is connected now. */
  #fresh = false;

  /** *describe* gets the label and the state in words, for screen readers. */
  constructor(root: HTMLElement, chrome: Chrome, options: ViewOptions, describe: (words: string) => void) {
    this.#root = root;
    this.#chrome = chrome;
    this.#options = options;
    this.#describe = describe;
  }

  get state(): State {
    return this.#state;
  }

  /** Oldest first. */
  get tries(): Try[] {
    return [...this.#workerTry, ...this.#tries];
  }

  setLabel(label: string): void {
    this.#label = label;
    this.#show();
  }

  setState(state: State, message: string): void {
    [this.#state, this.#message] = [state, message];
    if (state !== "live") this.#fresh = false;
    this.#show();
    this.#options.onState?.(state, message);
  }

  /** The connection has shown a frame. */
  setFresh(): void {
    if (this.#fresh) return;
    this.#fresh = true;
    this.#show();
    this.#options.onPicture?.();
  }

  setTries(tries: Try[]): void {
    this.#tries = tries;
    this.#showTries();
  }

  /** There is no worker, and *why*. */
  setNoWorker(why: string): void {
    const now = Date.now();
    this.#workerTry = [{ way: "worker", url: "", started: now, ended: now, outcome: why }];
    this.#showTries();
  }

  #showTries(): void {
    this.#chrome.showTries(this.tries);
    this.#options.onTried?.(this.tries);
  }

  #show(): void {
    this.#root.dataset.state = this.#state === "live" && !this.#fresh ? "waiting" : this.#state;
    const words = this.#chrome.showState(this.#state, this.#message, this.#fresh, this.#label);
    this.#describe(`${this.#label}: ${words}`);
  }
}
