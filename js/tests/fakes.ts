// A decoder that does what a test tells it, in place of the browser's.

import { vi } from "vitest";
import type { VideoHeader } from "../src/protocol";

export class FakeFrame {
  closed = false;
  displayWidth = 64;
  displayHeight = 64;
  visibleRect = { x: 0, y: 0 };

  constructor(readonly timestamp: number) {}

  allocationSize(options: { format: string }): number {
    return options.format.length;
  }

  async copyTo(): Promise<void> {}

  close(): void {
    this.closed = true;
  }
}

export class FakeDecoder {
  static made: FakeDecoder[] = [];
  state = "configured";
  configs: VideoDecoderConfig[] = [];
  given: number[] = [];
  frames: FakeFrame[] = [];
  /** The last chunk before each flush. */
  flushed: number[] = [];
  #init: VideoDecoderInit;

  constructor(init: VideoDecoderInit) {
    this.#init = init;
    FakeDecoder.made.push(this);
  }

  configure(config: VideoDecoderConfig): void {
    if (config.codec === "nonsense") throw new TypeError("no such codec");
    this.configs.push(config);
  }

  decode(chunk: { timestamp: number }): void {
    this.given.push(chunk.timestamp);
  }

  async flush(): Promise<void> {
    this.flushed.push(this.given.at(-1)!);
  }

  output(timestamp: number): FakeFrame {
    const frame = new FakeFrame(timestamp);
    this.frames.push(frame);
    this.#init.output(frame as unknown as VideoFrame);
    return frame;
  }

  fail(): void {
    this.state = "closed";
    this.#init.error(new DOMException("broken", "EncodingError"));
  }

  close(): void {
    this.state = "closed";
  }
}

export function fakeWebCodecs(): void {
  FakeDecoder.made = [];
  vi.stubGlobal("VideoDecoder", FakeDecoder);
  vi.stubGlobal("EncodedVideoChunk", class { constructor(init: object) { Object.assign(this, init); } });
  vi.stubGlobal("ImageData", class { constructor(readonly data: unknown, readonly width: number, readonly height: number) {} });
}

export function chunk(seq: number, more: Partial<VideoHeader> = {}): VideoHeader {
  const header = { type: "video_chunk", seq, width: 64, height: 64, codec: "avc1.42c01f", bitstream: "annexb", keyframe: false };
  return { ...header, ...more } as VideoHeader;
}
