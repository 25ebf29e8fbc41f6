// The way to the hub: opened, greeted, and opened again when it was lost.

import { afterClose, type State } from "../connection";
import type { ViewerMessage } from "../protocol";

export interface Hub {
  url: string;
  token: string;
  /** Of the page's screen. */
  ratio: number;
}

export interface Listener {
  /** What to say in hello; the hub waits ten seconds for it. */
  supported(): Promise<string[]>;
  heard(data: string | ArrayBuffer): void;
  /** Nothing of this connection is valid any more. */
  left(): void;
  state(state: State, message: string): void;
}

/** A connection that lasted this long was a good one: the next loss begins with a quick attempt. */
const STABLE_AFTER_MS = 5000;

export class HubSocket {
  #listener: Listener;
  #hub: Hub | null = null;
  #socket: WebSocket | null = null;
  #greeted = false;
  #liveSince: number | null = null;
  #attempt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  // Said again after a reconnection: the hub knows nothing of the viewer before.
  #size: ViewerMessage[] = [];
  #hidden = false;

  constructor(listener: Listener) {
    this.#listener = listener;
  }

  open(hub: Hub): void {
    this.#hub = hub;
    this.retry();
  }

  /** Connect anew, as if for the first time. */
  retry(): void {
    this.#attempt = 0;
    this.#connect();
  }

  /** What says where and how large the view is, is kept while there is no connection; all else is lost then. */
  say(message: ViewerMessage): void {
    this.#remember(message);
    if (this.#greeted) this.#send(message);
  }

  /** The hub has answered. */
  live(): void {
    if (this.#liveSince !== null) return;
    this.#liveSince = performance.now();
    this.#listener.state("live", "");
  }

  /** Leave for good, for the reason in *message*, until `retry`. */
  refuse(message: string): void {
    this.#drop();
    this.#listener.state("failed", message);
  }

  end(): void {
    this.say({ type: "event", event: { type: "close", timestamp: Date.now() / 1000 } });
    this.#hub = null;
    this.#drop();
  }

  #connect(): void {
    this.#drop();
    if (!this.#hub) return;
    const { url } = this.#hub;
    if (this.#attempt === 0) this.#listener.state("connecting", "");
    let socket: WebSocket;
    try {
      socket = new WebSocket(url);
    } catch (error) {
      this.#listener.state("failed", `This page can't open ${url}: ${(error as Error).message}`);
      return;
    }
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => void this.#greet(socket);
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      if (socket === this.#socket) this.#listener.heard(data);
    };
    socket.onclose = ({ code, reason }) => {
      if (socket === this.#socket) this.#lost(code, reason, url);
    };
  }

  async #greet(socket: WebSocket): Promise<void> {
    const supported = await this.#listener.supported();
    if (socket !== this.#socket || !this.#hub) return;
    this.#greeted = true;
    const { token, ratio } = this.#hub;
    const [viewport] = this.#size;
    const device_pixel_ratio = viewport?.type === "set_viewport" ? viewport.ratio : ratio;
    this.#send({ type: "hello", supported, device_pixel_ratio, token });
    for (const message of this.#size) this.#send(message);
    if (this.#hidden) this.#send({ type: "event", event: { type: "hide", timestamp: Date.now() / 1000 } });
  }

  #lost(code: number, reason: string, url: string): void {
    if (this.#liveSince !== null && performance.now() - this.#liveSince > STABLE_AFTER_MS) this.#attempt = 0;
    this.#drop();
    const verdict = afterClose(code, reason, this.#attempt++, url, Math.random());
    this.#listener.state(verdict.state, verdict.message);
    if (verdict.retryIn !== null) this.#timer = setTimeout(() => this.#connect(), verdict.retryIn);
  }

  #drop(): void {
    clearTimeout(this.#timer);
    this.#liveSince = null;
    this.#greeted = false;
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000);
    this.#listener.left();
  }

  #send(message: ViewerMessage): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #remember(message: ViewerMessage): void {
    if (message.type === "set_viewport") this.#size = [message];
    if (message.type !== "event") return;
    if (message.event.type === "resize") this.#size = [...this.#size.slice(0, 1), message];
    if (message.event.type === "hide") this.#hidden = true;
    if (message.event.type === "show") this.#hidden = false;
  }
}
