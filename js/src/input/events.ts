// What the user does over the picture, as events of the renderview vocabulary (pygfx/renderview, src/spec.md).

import { Keyboard } from "./held";
import type { InputHost } from "./host";
import { Keys } from "./keys";
import { Pointers } from "./pointers";
import { Markers } from "./quad";
import { EventQueue } from "./queue";

/** Emits what happens to its host until a signal aborts. */
export class Input {
  #host: InputHost;
  #queue: EventQueue;
  #keys: Keys;
  #pointers: Pointers;

  constructor(host: InputHost, signal: AbortSignal) {
    this.#host = host;
    this.#queue = new EventQueue((event) => host.emit(event));
    const keyboard = new Keyboard(/^(Mac|iP)/.test(navigator.platform));
    const context = { host, keyboard, queue: this.#queue, markers: new Markers(host.stage), signal };
    this.#keys = new Keys(context, () => this.showTouch());
    this.#pointers = new Pointers(context, this.#keys);
    const release = () => this.release();
    window.addEventListener("blur", release, { signal });
    window.addEventListener("pagehide", release, { signal });
    document.addEventListener("visibilitychange", () => document.hidden && release(), { signal });
    signal.addEventListener("abort", release);
    this.showTouch();
  }

  /** The focus, or who gets touches, has changed: browsers are told before a touch begins whether they may scroll with it. */
  showTouch(): void {
    this.#host.stage.style.touchAction = this.#pointers.wantsTouches ? "none" : "auto";
  }

  /** Nothing stays down: the user is elsewhere, or nobody listens. */
  release(): void {
    this.#pointers.release();
    this.#keys.release();
    this.#queue.flush();
  }
}
