// One viewer: what the hub sends is decoded at once, drawn in order, and acknowledged when it is drawn.

import { decodeAll } from "../decode/decoder";
import type { Decoded } from "../decode/pixels";
import { probe } from "../decode/probe";
import { Queue } from "../decode/queue";
import { type AnyCanvas, Screen, spaceOf } from "../decode/screen";
import { Video } from "../decode/video";
import { Inbox } from "../net/channels";
import { versionNote } from "../net/diagnosis";
import { HubSocket } from "../net/socket";
import {
  asPiece,
  asVideo,
  type Config,
  type Header,
  type HubMessage,
  type ImageHeader,
  isBytes,
  isClipboardText,
  isConfig,
  isCursor,
  isMessage,
  isPicture,
  isStats,
  isTargets,
  parse,
  partsOf,
  type PieceHeader,
  SUPPORTED,
  type TilesHeader,
  unpack,
  type VideoHeader,
} from "../protocol";
import { VIEWER_VERSION } from "../version";
import { onBeat } from "./beat";
import type { Command, Report } from "./messages";
import { Meter, type Shown } from "./meter";

/** A tick so late means a machine that slept, not of a busy or a hidden page. */
const SLEPT_MS = 90_000;
const RESET_PAUSE_MS = 1000;
/** Pictures in a row that don't decode before the user sees an error. */
const FAILURES_TO_TELL = 3;
/** Decoders in a row that fail before pictures are asked for: those of hardware and of software, twice. */
const DECODERS_TO_TRY = 4;
/** Codecs by the first letters of their names in WebCodecs. */
const FORMATS: Record<string, string> = { avc1: "h264", avc3: "h264", vp09: "vp9", av01: "av1" };
const NO_WEBCODECS = "This page has no WebCodecs to decode it, which browsers have over https and on localhost only";

export class Player {
  #report: (report: Report) => void;
  #hub: HubSocket;
  #screen: Screen;
  #queue = new Queue();
  #inbox = new Inbox();
  #video: Video;
  /** The formats of video that are decoded here. */
  #offer: Promise<string[]>;
  #offered!: (video: string[]) => void;
  /** Why no decoder worked; empty while one may. */
  #decoderFault = "";
  #imageOnly = false;
  #config: Config | null = null;
  #drawnAt = 0;
  #failures = 0;
  #resetting: ReturnType<typeof setTimeout> | undefined;
  #meter = new Meter();
  #stopBeat: () => void;
  #tickedAt = Date.now();

  constructor(canvas: AnyCanvas, report: (report: Report) => void) {
    this.#report = report;
    this.#offer = new Promise((resolve) => (this.#offered = resolve));
    this.#screen = new Screen(canvas, (width, height, pixelRatio) => report({ type: "frame", width, height, pixelRatio }));
    this.#hub = new HubSocket({
      hello: async () => ({ supported: [...SUPPORTED, ...(await this.#videoOffer)], no_video: this.#noVideo || undefined }),
      onMessage: (data) => this.#receive(data),
      onDisconnect: () => this.#forgetConnection(),
      onState: (state, message) => report({ type: "state", state, message }),
      onTried: (tries, candidate) => report({ type: "tried", tries, candidate }),
    });
    this.#video = new Video({
      onKeyframeNeeded: (reason) => this.#hub.send({ type: "request_keyframe", reason }),
      onDecoderLost: (error, failures) => this.#replaceDecoder(error, failures),
    });
    this.#stopBeat = onBeat(() => this.#tick());
    canvas.addEventListener("contextrestored", () =>
      this.#hub.send({ type: "request_keyframe", reason: "the canvas was lost" }),
    );
  }

  handle(command: Command): void {
    switch (command.type) {
      case "open":
        this.#imageOnly = command.imageOnly;
        return this.#hub.open(command.target, command.ratio);
      case "probe":
        void probe(command.probes).then((video) => {
          this.#offered(video);
          this.#report({ type: "probed", video });
        });
        return;
      case "offer":
        return this.#offered(command.video);
      case "retry":
        return this.#hub.retry();
      case "wake":
        return this.#hub.wake();
      case "send":
        return this.#hub.send(command.message);
      case "enqueue":
        return this.#hub.enqueue(command.message, command.latestOf);
      case "close":
        this.#stopBeat();
        this.#hub.end();
    }
  }

  #forgetConnection(): void {
    clearTimeout(this.#resetting);
    this.#resetting = undefined;
    this.#queue.forget();
    this.#inbox.forget();
    this.#report({ type: "features", channelBytes: 0, clipboard: false });
    this.#video.restart();
    this.#screen.forget();
    this.#config = null;
    this.#failures = 0;
  }

  // Messages from the hub --------------------------------------------------------------------------------------------

  #receive(data: string | ArrayBuffer): void {
    try {
      if (typeof data === "string") return this.#onText(parse(data));
      const [header, payload] = unpack(data);
      const piece = asPiece(header);
      if (piece) return this.#join(piece, payload);
      if (isBytes(header)) this.#report({ type: "message", channel: header.channel, data: payload.slice() });
      else this.#show(header, payload);
    } catch (error) {
      this.#fail(error);
    }
  }

  #join(piece: PieceHeader, payload: Uint8Array<ArrayBuffer>): void {
    this.#hub.send({ type: "got", piece: piece.piece });
    const whole = this.#inbox.take(piece, payload);
    if (whole !== null) this.#receive(whole);
  }

  #onText(message: HubMessage): void {
    if (isStats(message)) this.#meter.onHubStats(message);
    if (isTargets(message)) this.#meter.onTargets(message);
    if (isConfig(message)) this.#configure(message);
    if (isMessage(message)) this.#report({ type: "message", channel: message.channel, data: message.data });
    if (isCursor(message)) this.#report({ type: "cursor", cursor: message.cursor });
    if (isClipboardText(message)) this.#report({ type: "clipboard", text: message.text });
  }

  #configure(config: Config): void {
    const { transport } = config;
    if (transport !== "image" && (transport !== "webcodecs" || this.#cantDecode)) {
      const why = transport === "webcodecs" ? this.#cantDecode : "This viewer is older than its hub";
      return this.#hub.refuse(`The hub sends ${transport}. ${why}.`);
    }
    if (!this.#config) {
      this.#report({ type: "remark", text: config.view_only ? "View only" : versionNote(VIEWER_VERSION, config.version) });
      this.#report({ type: "cursor", cursor: null });
    }
    this.#reportFeatures(config);
    this.#reportShape(config);
    this.#config = config;
    this.#screen.prepare(config);
    this.#hub.live();
  }

  #reportFeatures({ features = [], channel_bytes = 0 }: Config): void {
    const [channels, clipboard] = [features.includes("rfb/channels"), features.includes("rfb/clipboard")];
    this.#report({ type: "features", channelBytes: channels ? channel_bytes : 0, clipboard });
  }

  #reportShape({ width, height, pixel_ratio = 1, resize_policy }: Config): void {
    const matched = resize_policy === "match_client";
    this.#report({ type: "shape", width: width / pixel_ratio, height: height / pixel_ratio, matched });
  }

  get #videoOffer(): Promise<string[]> {
    return this.#imageOnly ? Promise.resolve([]) : this.#offer;
  }

  /** Why no video is decoded here; empty where it is. */
  get #cantDecode(): string {
    if (!("VideoDecoder" in globalThis)) return NO_WEBCODECS;
    return this.#decoderFault && `This browser could not decode it: ${this.#decoderFault}`;
  }

  #show(header: Header, payload: Uint8Array<ArrayBuffer>): void {
    const chunk = asVideo(header);
    if (chunk) {
      const decoding = this.#video.decode(chunk, payload, chunk.color ?? this.#config?.color);
      const format = FORMATS[chunk.codec.slice(0, 4)] ?? chunk.codec;
      if (decoding) this.#enqueue(chunk, decoding, { bytes: payload.byteLength, format, still: false });
    } else if (isPicture(header)) {
      const parts = partsOf(header, payload);
      const decoding = decodeAll(parts, spaceOf(header.color ?? this.#config?.color));
      const format = [...new Set(parts.map(({ mime }) => mime.replace("image/", "")))].join("+");
      const still = header.type === "tiles" && header.still === true;
      this.#enqueue(header, decoding, { bytes: payload.byteLength, format, still });
    }
  }

  #enqueue(header: ImageHeader | TilesHeader | VideoHeader, decoding: Promise<Decoded>, facts: Omit<Shown, "drawMs">): void {
    const started = performance.now();
    const { seq, width, height } = header;
    const pixelRatio = header.pixel_ratio ?? this.#config?.pixel_ratio ?? 1;
    const show = (picture: Decoded) => {
      this.#screen.show(picture, width, height, pixelRatio);
      this.#recover();
      this.#hub.shown();
      const now = performance.now();
      const wait_ms = Math.max(0, this.#drawnAt - started);
      const draw_ms = now - started - wait_ms;
      this.#drawnAt = now;
      this.#meter.shown({ drawMs: draw_ms, ...facts });
      this.#hub.send({ type: "ack", seq, decode_queue_size: this.#queue.waiting, displayed: true, draw_ms, wait_ms });
    };
    this.#queue.add(decoding, show, (error) => this.#fail(error));
  }

  // When it can't be shown -------------------------------------------------------------------------------------------

  #fail(error: unknown): void {
    console.warn("rfb: a picture could not be shown", error);
    if (++this.#failures === FAILURES_TO_TELL) {
      const message = `The pictures that the hub sends can't be shown: ${(error as Error).message}`;
      this.#report({ type: "state", state: "failed", message });
    }
    this.#reset(RESET_PAUSE_MS);
  }

  #recover(): void {
    if (this.#failures >= FAILURES_TO_TELL) {
      this.#report({ type: "state", state: "live", message: "" });
      this.#screen.forget();
    }
    this.#failures = 0;
  }

  /** The second decoder at once, and others after a pause: what fails at each keyframe must not ask for them without end. */
  #replaceDecoder(error: Error, failures: number): void {
    console.warn("rfb: a video decoder was replaced", error);
    this.#queue.forget();
    if (failures < DECODERS_TO_TRY) return this.#reset(failures > 2 ? RESET_PAUSE_MS : 0);
    this.#decoderFault = error.message;
    this.#offer = Promise.resolve([]);
    this.#hub.retry();
  }

  /** Have the hub begin anew, once for all that fails within *pause*. What came before is not drawn any more. */
  #reset(pause: number): void {
    this.#resetting ??= setTimeout(() => {
      this.#resetting = undefined;
      this.#queue.forget();
      this.#video.forget();
      this.#hub.send({ type: "decoder_reset" });
    }, pause);
  }

  #tick(): void {
    const now = Date.now();
    if (now - this.#tickedAt > SLEPT_MS) this.#hub.wake();
    this.#tickedAt = now;
    this.#reportStats();
  }

  #reportStats(): void {
    const stats = this.#meter.take();
    if (stats) this.#report({ type: "stats", stats: { ...stats, note: this.#noVideo && `${this.#noVideo}: images only` } });
  }

  /** Why this viewer asks for no video; empty where it does. */
  get #noVideo(): string {
    if (this.#imageOnly) return "image_only is set";
    if (this.#decoderFault) return `video can't be decoded here (${this.#decoderFault})`;
    if ("VideoDecoder" in globalThis) return "";
    return `no WebCodecs ${isSecureContext ? "in this browser" : "on this insecure page"}`;
  }
}
