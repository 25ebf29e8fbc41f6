import { describe, expect, it } from "vitest";
import { asVideo, type Header, isConfig, isPicture, parse, partsOf, unpack } from "../src/protocol";

function packed(header: string, payload: number[], length = header.length): ArrayBuffer {
  const bytes = new Uint8Array(4 + header.length + payload.length);
  new DataView(bytes.buffer).setUint32(0, length, true);
  bytes.set(new TextEncoder().encode(header), 4);
  bytes.set(payload, 4 + header.length);
  return bytes.buffer;
}

describe("unpack", () => {
  it("gives header and payload, the payload as a view", () => {
    const message = packed('{"type":"image_frame","seq":1,"width":2,"height":3,"mime":"image/png"}', [1, 2, 3]);
    const [header, payload] = unpack(message);
    expect(isPicture(header) && header.seq).toBe(1);
    expect([...payload]).toEqual([1, 2, 3]);
    expect(payload.buffer).toBe(message);
  });

  it.each([new ArrayBuffer(0), new ArrayBuffer(3), packed("{}", [], 99), packed("[]", []), packed('"x"', []), packed("{}", [])])(
    "refuses what is cut short or has no type",
    (message) => {
      expect(() => unpack(message)).toThrow(/cut short|without a type/);
    },
  );
});

describe("partsOf", () => {
  const frame = { seq: 1, width: 70, height: 64 };
  const payload = new Uint8Array([1, 2, 3, 4, 5]);

  it("cuts the payload where the header says", () => {
    const parts = partsOf(
      { type: "tiles", ...frame, parts: [[0, 0, 64, 64, "image/png", 3], [64, 0, 6, 64, "image/jpeg", 2]] },
      payload,
    );
    expect(parts.map(({ x, width, mime, data }) => [x, width, mime, [...data]])).toEqual([
      [0, 64, "image/png", [1, 2, 3]],
      [64, 6, "image/jpeg", [4, 5]],
    ]);
  });

  it("takes a whole picture as one part", () => {
    expect(partsOf({ type: "image_frame", ...frame, mime: "image/png" }, payload)).toEqual([
      { x: 0, y: 0, width: 70, height: 64, mime: "image/png", data: payload },
    ]);
  });

  it("refuses parts that don't add up to the payload", () => {
    const header = { type: "tiles" as const, ...frame, parts: [[0, 0, 64, 64, "image/png", 4]] as [number, number, number, number, string, number][] };
    expect(() => partsOf(header, payload)).toThrow(/cut short/);
  });
});

describe("asVideo", () => {
  const header = { type: "video_chunk", seq: 3, width: 64, height: 48, codec: "avc1.42c01f", bitstream: "annexb", keyframe: false };

  it("takes chunks with and without rectangles, and nothing else", () => {
    expect(asVideo(header)).toEqual(header);
    const more = { ...header, after: 2, rects: [[0, 0, 64, 48], [63, 47, 1, 1]] } as Header;
    expect(asVideo(more)).toEqual(more);
    expect(asVideo({ ...more, rects: [] } as Header)).not.toBeNull();
    expect(asVideo({ ...header, type: "tiles" })).toBeNull();
  });

  it.each<[object, RegExp]>([
    [{ seq: -1 }, /number/],
    [{ seq: "3" }, /number/],
    [{ after: 1.5 }, /number/],
    [{ width: 0 }, /size/],
    [{ height: undefined }, /size/],
    [{ codec: undefined }, /codec/],
    [{ keyframe: 1 }, /kind/],
    [{ bitstream: "avcc" }, /avcc/],
    [{ rects: [[0, 0, 65, 48]] }, /beside/],
    [{ rects: [[0, -1, 4, 4]] }, /beside/],
    [{ rects: [[0, 0, 4, 0]] }, /beside/],
    [{ rects: [[0, 0, 4]] }, /beside/],
    [{ rects: {} }, /beside/],
    [{ rects: [7] }, /beside/],
  ])("refuses %o", (wrong, why) => {
    expect(() => asVideo({ ...header, ...wrong })).toThrow(why);
  });
});

describe("parse", () => {
  it("knows config and lets unknown types pass", () => {
    expect(isConfig(parse('{"type":"config","transport":"image","width":1,"height":1}'))).toBe(true);
    expect(isConfig(parse('{"type":"from_the_future"}'))).toBe(false);
  });

  it("refuses what is no message", () => {
    expect(() => parse("[]")).toThrow(/without a type/);
    expect(() => parse("{")).toThrow();
  });
});
