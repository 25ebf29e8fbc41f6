import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Video } from "../src/decode/video";
import type { Color } from "../src/protocol";
import { chunk, FakeDecoder, fakeWebCodecs } from "./fakes";

const data = new Uint8Array(1);
let wanted: string[];
let lost: [string, number][];
let video: Video;

function decode(seq: number, more: Parameters<typeof chunk>[1] = {}, color?: Color) {
  return video.decode(chunk(seq, more), data, color);
}

function decoder(): FakeDecoder {
  return FakeDecoder.made.at(-1)!;
}

beforeEach(() => {
  vi.useFakeTimers();
  fakeWebCodecs();
  [wanted, lost] = [[], []];
  video = new Video({
    onKeyframeNeeded: (reason) => wanted.push(reason),
    onDecoderLost: (error, failures) => lost.push([error.message, failures]),
  });
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("what a decoder is given", () => {
  it("begins with a keyframe, and one is asked for once until it comes", () => {
    expect([decode(1), decode(2)]).toEqual([null, null]);
    expect(FakeDecoder.made).toEqual([]);
    expect(wanted.length).toBe(1);
    expect(decode(3, { keyframe: true })).not.toBeNull();
    expect(decoder().given).toEqual([3]);
    expect(decode(9, { after: 8 })).toBeNull();
    expect(wanted.length).toBe(2);
  });

  it("is nothing whose reference is missing, up to the next keyframe", () => {
    decode(1, { keyframe: true });
    decode(2, { after: 1 });
    expect([decode(5, { after: 3 }), decode(6, { after: 5 }), decode(7, { after: 2 }), decode(8)]).toEqual([null, null, null, null]);
    decode(9, { keyframe: true });
    decode(12, { after: 9 });
    expect(decoder().given).toEqual([1, 2, 9, 12]);
    expect(wanted).toEqual(["a chunk is missing"]);
  });

  it("is all that comes after a keyframe where the hub doesn't say what refers to what", () => {
    decode(1, { keyframe: true });
    for (const seq of [2, 5, 6]) expect(decode(seq)).not.toBeNull();
    expect(decoder().given).toEqual([1, 2, 5, 6]);
  });

  it("is told anew when codec, size or colour change, at the keyframe", () => {
    decode(1, { keyframe: true });
    decode(2, { keyframe: true });
    decode(3, { keyframe: true, width: 32 });
    decode(4, { keyframe: true, width: 32, codec: "avc1.F4001f" });
    decode(5, { keyframe: true, width: 32, codec: "vp09.00.10.08" }, { primaries: "smpte432", transfer: "srgb" });
    const spaces = decoder().configs.map(({ codec, colorSpace, optimizeForLatency }) => [codec, colorSpace, optimizeForLatency]);
    const light = { primaries: "bt709", transfer: "iec61966-2-1" };
    const yuv = { matrix: "smpte170m", fullRange: false };
    expect(spaces).toEqual([
      ["avc1.42c01f", { ...light, ...yuv }, true],
      ["avc1.42c01f", { ...light, ...yuv }, true],
      ["avc1.F4001f", light, true],
      ["vp09.00.10.08", { ...light, primaries: "smpte432", ...yuv }, true],
    ]);
  });
});

describe("what it gives", () => {
  it("belongs to its chunk, and its frame is closed", async () => {
    const pictures = [decode(4, { keyframe: true }), decode(7)];
    const frames = [decoder().output(4), decoder().output(7)];
    await Promise.all(pictures);
    expect(frames.every(({ closed }) => closed)).toBe(true);
    expect(lost).toEqual([]);
  });

  it("is closed when nobody waits for it any more", () => {
    decode(1, { keyframe: true });
    video.forget();
    expect(decoder().output(1).closed).toBe(true);
    expect(decode(2)).toBeNull();
    expect(wanted).toEqual([]);
  });

  it("is a failure where a picture is left out", async () => {
    const first = decode(1, { keyframe: true })!;
    decode(2);
    decoder().output(2);
    await expect(first).rejects.toThrow();
    expect(lost).toEqual([["the decoder left out a picture", 1]]);
  });
});

describe("a decoder that fails", () => {
  it("is replaced at the next keyframe, in software, and all that waited for it is rejected", async () => {
    const waiting = [decode(1, { keyframe: true })!, decode(2)!];
    decoder().fail();
    for (const picture of waiting) await expect(picture).rejects.toThrow();
    expect(lost).toEqual([["broken", 1]]);
    expect(decode(3)).toBeNull();
    decode(4, { keyframe: true });
    expect(FakeDecoder.made.length).toBe(2);
    expect(decoder().configs[0]!.hardwareAcceleration).toBe("prefer-software");
    expect(wanted).toEqual([]);
  });

  it("counts as one in a row until a decoder has lasted", () => {
    for (let n = 1; n <= 3; n++) {
      decode(n, { keyframe: true });
      decoder().fail();
      expect(lost.at(-1)![1]).toBe(n);
    }
    decode(10, { keyframe: true });
    for (let seq = 11; seq < 80; seq++) {
      decoder().output(seq - 1);
      decode(seq);
    }
    decoder().fail();
    expect(lost.at(-1)![1]).toBe(1);
  });

  it("may fail at once", () => {
    expect(decode(1, { keyframe: true, codec: "nonsense" })).toBeNull();
    expect(lost).toEqual([["no such codec", 1]]);
  });
});

describe("a decoder that gives nothing", () => {
  it("is flushed after half a second, and replaced after another", () => {
    decode(1, { keyframe: true });
    decoder().output(1);
    decode(2);
    vi.advanceTimersByTime(490);
    expect(decoder().flushed).toEqual([]);
    vi.advanceTimersByTime(150);
    expect([decoder().flushed, lost]).toEqual([[2], []]);
    vi.advanceTimersByTime(625);
    expect(lost).toEqual([["the decoder is stuck", 1]]);
    expect(decoder().state).toBe("closed");
  });

  it("has more time for its first picture, and as much again after a flush", () => {
    decode(1, { keyframe: true });
    vi.advanceTimersByTime(1200);
    expect([decoder().flushed, lost]).toEqual([[], []]);
    vi.advanceTimersByTime(100);
    expect(decoder().flushed).toEqual([1]);
    vi.advanceTimersByTime(1100);
    expect(lost).toEqual([]);
    vi.advanceTimersByTime(200);
    expect(lost).toEqual([["the decoder is stuck", 1]]);
    decode(2, { keyframe: true });
    vi.advanceTimersByTime(1200);
    expect(decoder().flushed).toEqual([]);
  });

  /** Chunks that come out only by a flush. */
  function decodeHeld(seq: number, count = 2): void {
    for (let n = 0; n < count; n++) decode(seq + n, { keyframe: !n });
    const [held, flushes] = [decoder(), decoder().flushed.length];
    for (let n = 0; n < 20 && held.state === "configured" && held.flushed.length === flushes; n++) vi.advanceTimersByTime(125);
    if (held.state === "closed") return;
    for (let n = 0; n < count; n++) held.output(seq + n);
  }

  it("outputs by a flush what it held back, and takes a keyframe next", () => {
    decodeHeld(1);
    expect([decoder().flushed, lost]).toEqual([[2], []]);
    expect(decode(3)).toBeNull();
    expect(wanted.length).toBe(1);
  });

  it("is replaced after two flushes without pictures in between, and the next decoder is not flushed at all", () => {
    for (let round = 0; round < 3; round++) decodeHeld(10 * round);
    expect(decoder().flushed).toEqual([1, 11]);
    expect(lost).toEqual([["the decoder holds pictures back", 2]]);
    decodeHeld(30);
    expect([FakeDecoder.made.length, decoder().flushed]).toEqual([2, []]);
    expect(lost.at(-1)).toEqual(["the decoder holds pictures back", 4]);
  });

  it("holds back too much however many pictures a flush forces out", () => {
    for (let round = 0; round < 3; round++) decodeHeld(100 * round, 20);
    expect(lost).toEqual([["the decoder holds pictures back", 2]]);
  });

  it("is flushed again for the next connection", () => {
    for (let round = 0; round < 2; round++) decodeHeld(10 * round);
    video.restart();
    decodeHeld(20);
    expect([decoder().flushed, lost]).toEqual([[21], []]);
  });

  it("is flushed as often as it rests, if ten pictures come by themselves in between", () => {
    for (let round = 0; round < 6; round++) {
      decode(100 * round, { keyframe: true });
      for (let at = 1; at < 12; at++) {
        decode(100 * round + at);
        decoder().output(100 * round + at - 1);
      }
      vi.advanceTimersByTime(700);
      decoder().output(100 * round + 11);
    }
    expect([decoder().flushed.length, lost]).toEqual([6, []]);
  });

  it("is not stuck while there is nothing to decode, nor when pictures keep coming", () => {
    decode(1, { keyframe: true });
    decoder().output(1);
    vi.advanceTimersByTime(10_000);
    for (let seq = 2; seq < 30; seq++) {
      decode(seq);
      vi.advanceTimersByTime(300);
      decoder().output(seq);
    }
    expect(lost).toEqual([]);
    expect(vi.getTimerCount()).toBeLessThanOrEqual(1);
    vi.advanceTimersByTime(1000);
    expect(vi.getTimerCount()).toBe(0);
  });
});

it("begins anew with a connection: no decoder, no keyframe, no request made", () => {
  decode(1, { keyframe: true });
  video.restart();
  expect(decoder().state).toBe("closed");
  expect(decode(2)).toBeNull();
  expect(wanted.length).toBe(1);
  expect(vi.getTimerCount()).toBe(0);
});
