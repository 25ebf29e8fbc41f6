// Access units of video in, pictures out. It guards what must not go into a decoder, and replaces one that fails or sticks.

import type { Box, Color, VideoHeader } from "../protocol";
import { copyOut, type Decoded } from "./pixels";
import { spaceOf } from "./screen";

export interface VideoListener {
  /** A chunk was lost, or the first one was no keyframe; called once until a keyframe comes. */
  onKeyframeNeeded(reason: string): void;
  /**
   * The decoder failed and is gone, with all that it held; the next one, *failures* in a row after the last that lasted,
   * begins with a keyframe.
   */
  onDecoderLost(error: Error, failures: number): void;
}

/**
 * A decoder that has something to decode gets so many looks without a picture, and as many again after a flush; more for its
 * first one, since some hardware takes long to start. Looks, not a time: a page that slept finds its timers due before its pictures.
 */
const LOOK_EVERY_MS = 125;
const STUCK_LOOKS = 5;
const STARTING_LOOKS = 10;
/**
 * It is flushed because some hardware outputs a picture only when the next chunks come, which they don't at rest, or while the hub
 * waits for acknowledgements. So many flushes in a row, without so many pictures that came unaided in between, cost more than video
 * gains. They are counted across decoders: when the hardware's holds pictures back, the one in software has to do without.
 */
const MOST_FLUSHES = 2;
const UNAIDED_PICTURES = 10;
/** Pictures after which a decoder has proved itself. */
const STEADY_AFTER = 60;

interface Waiting {
  resolve(frame: VideoFrame): void;
  reject(error: Error): void;
}

export class Video {
  #listener: VideoListener;
  #decoder: VideoDecoder | null = null;
  #configured = "";
  /** Of the chunk that the decoder was given last; null when only a keyframe will do. */
  #last: number | null = null;
  #asked = false;
  #waiting = new Map<number, Waiting>();
  #pictures = 0;
  #failures = 0;
  /** Where the hardware has failed, software may not, and the other way round. */
  #software = false;
  #looks = 0;
  #flushes = 0;
  #flushed = false;
  /** Since the last flush; below zero while those that it forced out are still to come. */
  #unaided = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(listener: VideoListener) {
    this.#listener = listener;
  }

  /** The picture to be, or null for a chunk that can't be decoded: what it refers to is not there. */
  decode(chunk: VideoHeader, data: Uint8Array<ArrayBuffer>, color: Color | undefined): Promise<Decoded> | null {
    const { seq, keyframe, after } = chunk;
    if (!keyframe && (this.#last === null || (after ?? this.#last) !== this.#last)) {
      this.#wantKeyframe(this.#last === null ? "the stream doesn't begin with one" : "a chunk is missing");
      return null;
    }
    const frame = new Promise<VideoFrame>((resolve, reject) => this.#waiting.set(seq, { resolve, reject }));
    const picture = frame.then((decoded) => pictureOf(decoded, chunk, spaceOf(color)));
    picture.catch(() => {}); // whoever takes it looks at it in its turn
    try {
      if (keyframe) this.#begin(chunk, color);
      // Not the hub's times: seq grows, and is not given twice.
      const type = keyframe ? "key" : "delta";
      this.#decoder!.decode(new EncodedVideoChunk({ type, timestamp: seq, data }));
      this.#last = seq;
      this.#timer ??= setTimeout(() => this.#look(), LOOK_EVERY_MS);
    } catch (error) {
      this.#fail(error as Error);
      return null;
    }
    return picture;
  }

  /** What is on its way is not wanted; the hub sends a keyframe without being asked. */
  forget(): void {
    this.#last = null;
    this.#asked = true;
    for (const { reject } of this.#waiting.values()) reject(new Error("not wanted any more"));
    this.#waiting.clear();
  }

  /** A connection begins: the hub owes a keyframe, and gets a request if it forgot. */
  restart(): void {
    this.forget();
    this.#asked = false;
    this.#failures = this.#flushes = 0;
    this.#close();
  }

  #begin({ codec, width, height }: VideoHeader, color: Color | undefined): void {
    this.#asked = false;
    const colorSpace = colorSpaceOf(codec, color);
    const wanted = JSON.stringify([codec, width, height, colorSpace]);
    if (wanted === this.#configured) return;
    this.#decoder ??= this.#open();
    this.#configured = wanted;
    this.#pictures = 0;
    this.#decoder.configure({
      codec,
      colorSpace,
      optimizeForLatency: true,
      hardwareAcceleration: this.#software ? "prefer-software" : "no-preference",
    });
  }

  #open(): VideoDecoder {
    const decoder: VideoDecoder = new VideoDecoder({
      output: (frame) => this.#take(frame),
      error: (error) => {
        if (decoder === this.#decoder) this.#fail(error);
      },
    });
    return decoder;
  }

  #take(frame: VideoFrame): void {
    this.#looks = 0;
    this.#flushed = false;
    if (++this.#pictures >= STEADY_AFTER) this.#failures = 0;
    if (++this.#unaided >= UNAIDED_PICTURES) this.#flushes = 0;
    const waiting = this.#waiting.get(frame.timestamp);
    if (!waiting) return frame.close();
    const [oldest] = this.#waiting.keys();
    this.#waiting.delete(frame.timestamp);
    waiting.resolve(frame);
    // Streams without reordering give one picture for each chunk: what lies before this one won't come.
    if (oldest !== frame.timestamp) this.#fail(new Error("the decoder left out a picture"));
  }

  #look(): void {
    this.#timer = undefined;
    if (!this.#waiting.size) {
      this.#looks = 0;
      return;
    }
    if (++this.#looks >= (this.#pictures || this.#flushes === MOST_FLUSHES ? STUCK_LOOKS : STARTING_LOOKS)) {
      if (this.#flushed) return this.#fail(new Error("the decoder is stuck"));
      if (this.#flushes === MOST_FLUSHES) return this.#fail(new Error("the decoder holds pictures back"), 2);
      this.#flush();
    }
    this.#timer = setTimeout(() => this.#look(), LOOK_EVERY_MS);
  }

  #flush(): void {
    this.#flushes++;
    this.#unaided = -this.#waiting.size;
    this.#flushed = true;
    this.#looks = 0;
    this.#last = null; // only a keyframe may follow
    this.#decoder!.flush().catch(() => {}); // it fails as all that it does
  }

  #wantKeyframe(reason: string): void {
    this.#last = null;
    if (!this.#asked) this.#listener.onKeyframeNeeded(reason);
    this.#asked = true;
  }

  #fail(error: Error, failures = 1): void {
    this.#close();
    this.#failures += failures;
    this.#software = !this.#software;
    this.forget();
    this.#listener.onDecoderLost(error, this.#failures);
  }

  #close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#looks = this.#pictures = this.#unaided = 0;
    this.#flushed = false;
    this.#configured = "";
    const decoder = this.#decoder;
    this.#decoder = null;
    if (decoder && decoder.state !== "closed") decoder.close();
  }
}

/**
 * What the hub's streams are, for decoders that don't read it there: BT.601 of limited range, as browsers agree on; but 4:4:4
 * may be RGB too, and only the stream knows.
 */
function colorSpaceOf(codec: string, color: Color | undefined): VideoColorSpaceInit {
  const { primaries, transfer } = color ?? { primaries: "bt709", transfer: "srgb" };
  const light = { primaries, transfer: transfer === "srgb" ? "iec61966-2-1" : transfer } as VideoColorSpaceInit;
  return /^avc1\.f4/i.test(codec) ? light : { ...light, matrix: "smpte170m", fullRange: false };
}

/** What is drawn of *frame*, copied where the browser can; the frame is closed then. */
async function pictureOf(frame: VideoFrame, chunk: VideoHeader, space: PredefinedColorSpace): Promise<Decoded> {
  // Frames of an odd size were padded.
  const width = Math.min(chunk.width, frame.displayWidth);
  const height = Math.min(chunk.height, frame.displayHeight);
  const boxes = clipped(chunk.rects ?? [[0, 0, width, height]], width, height);
  const around = enclosing(boxes);
  const [left, top] = around;
  const pixels = boxes.length ? await copyOut(frame, around, space) : null;
  if (!pixels) return drawable(frame, boxes);
  frame.close();
  return {
    paint(context) {
      for (const [x, y, w, h] of boxes) context.putImageData(pixels.image, left, top, x - left, y - top, w, h);
    },
    close: pixels.release,
  };
}

function clipped(boxes: Box[], width: number, height: number): Box[] {
  const cut = boxes.map(([x, y, w, h]): Box => [x, y, Math.min(w, width - x), Math.min(h, height - y)]);
  return cut.filter(([, , w, h]) => w > 0 && h > 0);
}

/** The smallest rectangle around *boxes* that begins at even pixels, where the planes of 4:2:0 have one too. */
function enclosing(boxes: Box[]): Box {
  const left = Math.min(...boxes.map(([x]) => x)) & ~1;
  const top = Math.min(...boxes.map(([, y]) => y)) & ~1;
  const right = Math.max(...boxes.map(([x, , w]) => x + w));
  const bottom = Math.max(...boxes.map(([, y, , h]) => y + h));
  return [left, top, right - left, bottom - top];
}

/** One drawImage under a clip: twelve of them, each of a part, take ten times as long. */
function drawable(frame: VideoFrame, boxes: Box[]): Decoded {
  return {
    paint(context) {
      context.save();
      context.beginPath();
      for (const box of boxes) context.rect(...box);
      context.clip();
      context.drawImage(frame, 0, 0);
      context.restore();
    },
    close: () => frame.close(),
  };
}
