// Owns the socket, the decoding and the canvas: what the hub sends is decoded at once, drawn in order, acknowledged when drawn.

import { afterClose } from "../connection";
import {
  type Config,
  type HubMessage,
  type ImageHeader,
  isConfig,
  isPicture,
  isStats,
  type Part,
  parse,
  partsOf,
  SUPPORTED,
  type TilesHeader,
  unpack,
  type ViewerMessage,
} from "../protocol";
import { close, type Decoded, decodeAll } from "./decoder";
import type { Command, Report } from "./messages";

type AnyCanvas = OffscreenCanvas | HTMLCanvasElement;
type Context = OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D;

const RESET_PAUSE_MS = 1000;
/** A connection that lasted this long was a good one: the next loss begins with a quick attempt. */
const STABLE_AFTER_MS = 5000;
/** Pictures in a row that don't decode before the user is told. */
const FAILURES_TO_TELL = 3;
const NO_WEBCODECS = "This page has no WebCodecs to decode it, which browsers have over https and on localhost only";

export class Player {
  #canvas: AnyCanvas;
  #context: Context | null = null;
  #report: (report: Report) => void;
  #hub: { url: string; token: string; ratio: number } | null = null;
  #socket: WebSocket | null = null;
  #attempt = 0;
  #liveSince: number | null = null;
  #failures = 0;
  /** The size that the page was told of. */
  #told = "";
  #timer: ReturnType<typeof setTimeout> | undefined;
  #drawn: Promise<void> = Promise.resolve();
  #queued = 0;
  #drawnAt = 0;
  // Said again after a reconnection: the hub knows nothing of the viewer before.
  #size: ViewerMessage[] = [];
  #hidden = false;
  #meter = new Meter();
  #beat: ReturnType<typeof setInterval>;

  constructor(canvas: AnyCanvas, report: (report: Report) => void) {
    this.#canvas = canvas;
    this.#report = report;
    this.#beat = setInterval(() => this.#reportFigures(), 1000);
    canvas.addEventListener("contextrestored", () =>
      this.#say(this.#socket, { type: "request_keyframe", reason: "the canvas was lost" }),
    );
  }

  handle(command: Command): void {
    switch (command.type) {
      case "open":
        this.#hub = command;
        this.#start();
        break;
      case "retry":
        this.#start();
        break;
      case "say":
        this.#remember(command.message);
        this.#say(this.#socket, command.message);
        break;
      case "close":
        this.#end();
    }
  }

  #start(): void {
    this.#attempt = 0;
    this.#connect();
  }

  #end(): void {
    this.#hub = null;
    this.#say(this.#socket, { type: "event", event: { type: "close", timestamp: Date.now() / 1000 } });
    this.#drop();
    clearInterval(this.#beat);
  }

  #drop(): void {
    clearTimeout(this.#timer);
    this.#liveSince = null;
    this.#drawn = Promise.resolve();
    this.#queued = this.#failures = 0;
    this.#told = "";
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000);
  }

  // The socket -------------------------------------------------------------------------------------------------------

  #connect(): void {
    this.#drop();
    if (!this.#hub) return;
    const { url, token, ratio } = this.#hub;
    if (this.#attempt === 0) this.#report({ type: "state", state: "connecting", message: "" });
    let socket: WebSocket;
    try {
      socket = new WebSocket(url);
    } catch (error) {
      this.#report({ type: "state", state: "failed", message: `This page can't open ${url}: ${(error as Error).message}` });
      return;
    }
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.#say(socket, { type: "hello", supported: SUPPORTED, device_pixel_ratio: this.#ratio ?? ratio, token });
      for (const message of this.#size) this.#say(socket, message);
      if (this.#hidden) this.#say(socket, { type: "event", event: { type: "hide", timestamp: Date.now() / 1000 } });
    };
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      if (socket === this.#socket) this.#receive(socket, data);
    };
    socket.onclose = ({ code, reason }) => {
      if (socket === this.#socket) this.#lost(code, reason, url);
    };
  }

  get #ratio(): number | undefined {
    const [viewport] = this.#size;
    return viewport?.type === "set_viewport" ? viewport.ratio : undefined;
  }

  #lost(code: number, reason: string, url: string): void {
    if (this.#liveSince !== null && performance.now() - this.#liveSince > STABLE_AFTER_MS) this.#attempt = 0;
    this.#drop();
    const verdict = afterClose(code, reason, this.#attempt++, url, Math.random());
    this.#report({ type: "state", state: verdict.state, message: verdict.message });
    if (verdict.retryIn !== null) this.#timer = setTimeout(() => this.#connect(), verdict.retryIn);
  }

  #say(socket: WebSocket | null, message: ViewerMessage): void {
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  }

  #remember(message: ViewerMessage): void {
    if (message.type === "set_viewport") this.#size = [message];
    if (message.type !== "event") return;
    if (message.event.type === "resize") this.#size = [...this.#size.slice(0, 1), message];
    if (message.event.type === "hide") this.#hidden = true;
    if (message.event.type === "show") this.#hidden = false;
  }

  // What the hub says ------------------------------------------------------------------------------------------------

  #receive(socket: WebSocket, data: string | ArrayBuffer): void {
    try {
      if (typeof data === "string") return this.#heed(parse(data));
      const [header, payload] = unpack(data);
      if (isPicture(header)) this.#show(socket, header, partsOf(header, payload));
    } catch (error) {
      this.#fail(socket, error);
    }
  }

  #heed(message: HubMessage): void {
    if (isStats(message)) this.#meter.heard(message.rtt_ms ?? 0, message.encode_ms ?? 0);
    if (isConfig(message)) this.#configure(message);
  }

  #configure(config: Config): void {
    if (config.transport !== "image") {
      this.#drop();
      const why = "VideoDecoder" in globalThis ? "This viewer is older than its hub" : NO_WEBCODECS;
      this.#report({ type: "state", state: "failed", message: `The hub sends ${config.transport}. ${why}.` });
      return;
    }
    // The first config decides: a canvas has one kind of context for its life.
    if (!this.#context) {
      this.#context = this.#canvas.getContext("2d", { alpha: config.alpha ?? false }) as Context;
    }
    if (this.#liveSince !== null) return;
    this.#liveSince = performance.now();
    this.#report({ type: "state", state: "live", message: "" });
  }

  #show(socket: WebSocket, header: ImageHeader | TilesHeader, parts: Part[]): void {
    const started = performance.now();
    const decoding = decodeAll(parts);
    decoding.catch(() => {}); // awaited in its turn, below
    this.#queued++;
    // Decoded side by side, drawn one after the other: never an older frame after a newer one.
    this.#drawn = this.#drawn.then(async () => {
      try {
        const pictures = await decoding;
        if (socket !== this.#socket) return close(pictures);
        this.#draw(pictures, parts, header);
      } catch (error) {
        return this.#fail(socket, error);
      } finally {
        // The count is the connection's: what was left of an earlier one is not in it.
        if (socket === this.#socket) this.#queued--;
      }
      // Without the time that it waited for the picture before.
      const now = performance.now();
      const draw_ms = now - Math.max(started, this.#drawnAt);
      this.#drawnAt = now;
      this.#meter.drawn(draw_ms, parts);
      this.#say(socket, { type: "ack", seq: header.seq, decode_queue_size: this.#queued, displayed: true, draw_ms });
    });
  }

  /** All parts at once, so that no half frame shows. */
  #draw(pictures: Decoded[], parts: Part[], frame: ImageHeader | TilesHeader): void {
    const context = this.#context;
    try {
      if (!context) throw new Error("the hub sent a picture before its config");
      if (this.#canvas.width !== frame.width || this.#canvas.height !== frame.height) {
        this.#canvas.width = frame.width;
        this.#canvas.height = frame.height;
      }
      pictures.forEach((picture, n) => {
        const { x, y, width, height } = parts[n]!;
        picture.paint(context, x, y, width, height);
      });
    } finally {
      close(pictures);
    }
    if (this.#failures >= FAILURES_TO_TELL) {
      this.#report({ type: "state", state: "live", message: "" });
      this.#told = "";
    }
    this.#failures = 0;
    this.#tellSize(frame.width, frame.height, frame.pixel_ratio ?? 1);
  }

  /** Once, not at each frame: every message wakes the page's own thread. */
  #tellSize(width: number, height: number, pixelRatio: number): void {
    const size = `${width} ${height} ${pixelRatio}`;
    if (size !== this.#told) this.#report({ type: "frame", width, height, pixelRatio });
    this.#told = size;
  }

  #fail(socket: WebSocket, error: unknown): void {
    if (socket !== this.#socket) return;
    console.warn("rfb: a picture could not be shown", error);
    if (++this.#failures === FAILURES_TO_TELL) {
      const message = `The pictures that the hub sends can't be shown: ${(error as Error).message}`;
      this.#report({ type: "state", state: "failed", message });
    }
    setTimeout(() => this.#say(socket, { type: "decoder_reset" }), RESET_PAUSE_MS);
  }

  #reportFigures(): void {
    const figures = this.#meter.take();
    if (figures) this.#report({ type: "figures", figures });
  }
}

/** What is shown in the figures: sums of the running second. */
class Meter {
  #since = performance.now();
  #frames = 0;
  #bytes = 0;
  #decodeMs = 0;
  #roundTripMs = 0;
  #encodeMs = 0;
  #format = "";
  #resting = true;

  drawn(ms: number, parts: Part[]): void {
    this.#frames++;
    this.#decodeMs += ms;
    for (const { data } of parts) this.#bytes += data.byteLength;
    this.#format = [...new Set(parts.map(({ mime }) => mime.replace("image/", "")))].join("+");
  }

  heard(roundTripMs: number, encodeMs: number): void {
    this.#roundTripMs = roundTripMs;
    this.#encodeMs = encodeMs;
  }

  /** The figures since the last call; null when nothing came in this second nor the one before. */
  take() {
    const now = performance.now();
    const seconds = (now - this.#since) / 1000;
    const wasResting = this.#resting;
    this.#resting = this.#frames === 0;
    const figures = {
      fps: this.#frames / seconds,
      megabitsPerSecond: (this.#bytes * 8) / 1e6 / seconds,
      decodeMs: this.#frames ? this.#decodeMs / this.#frames : 0,
      encodeMs: this.#encodeMs,
      roundTripMs: this.#roundTripMs,
      format: this.#format,
    };
    this.#since = now;
    this.#frames = this.#bytes = this.#decodeMs = 0;
    return wasResting && this.#resting ? null : figures;
  }
}
