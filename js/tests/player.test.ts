import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { pack } from "../src/protocol";
import type { Report } from "../src/worker/messages";
import { Player } from "../src/worker/player";
import { chunk, FakeDecoder, fakeWebCodecs } from "./fakes";
import { candidate, CONFIG, FakeWebSocket, fakeNetwork, targetOf } from "./network";

/** A picture that is being decoded. */
class Decoding {
  static begun: Decoding[] = [];
  closed = false;
  #settle!: { resolve: (bitmap: unknown) => void; reject: (error: Error) => void };
  readonly result = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));

  constructor(readonly mime: string) {
    Decoding.begun.push(this);
  }

  async done(): Promise<void> {
    this.#settle.resolve({ name: this.mime, close: () => (this.closed = true) });
    await vi.advanceTimersByTimeAsync(0);
  }

  async fail(): Promise<void> {
    this.#settle.reject(new Error("broken"));
    await vi.advanceTimersByTimeAsync(0);
  }
}

class FakeCanvas extends EventTarget {
  width = 300;
  height = 150;
  drawn: string[] = [];
  options: object[] = [];

  getContext(_kind: "2d", options: object) {
    this.options.push(options);
    return { clearRect() {}, putImageData: () => this.drawn.push("pixels"), drawImage: ({ name }: { name: string }) => this.drawn.push(name) };
  }
}

let canvas: FakeCanvas;
let player: Player;
let reports: Report[];

const socket = () => FakeWebSocket.made.at(-1)!;
const acked = () => socket().said("ack").map(({ seq }) => seq);
const states = () => reported("state").map(({ state, message }) => (message ? `${state}: ${message}` : state));

function reported<T extends Report["type"]>(type: T): Extract<Report, { type: T }>[] {
  return reports.filter((one): one is Extract<Report, { type: T }> => one.type === type);
}

function send(header: object, payload = new Uint8Array(1)): void {
  socket().receive(pack(header as { type: string }, payload).buffer);
}

function image(seq: number, more: object = {}): Decoding {
  send({ type: "image_frame", seq, width: 8, height: 8, mime: `image/${seq}`, ...more });
  return Decoding.begun.at(-1)!;
}

function video(seq: number, more: object = {}): void {
  send(chunk(seq, more));
}

async function connect(config: object = {}, imageOnly = false): Promise<void> {
  player.handle({ type: "open", target: targetOf([candidate("direct")]), ratio: 1, imageOnly });
  await greet(config);
}

async function greet(config: object = {}): Promise<void> {
  socket().open();
  await vi.advanceTimersByTimeAsync(0);
  socket().receive({ ...CONFIG, ...config });
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(console, "warn").mockImplementation(() => {});
  fakeNetwork();
  Decoding.begun = [];
  vi.stubGlobal("createImageBitmap", ({ type }: Blob) => new Decoding(type).result);
  canvas = new FakeCanvas();
  reports = [];
  player = new Player(canvas as unknown as HTMLCanvasElement, (one) => reports.push(one));
  player.handle({ type: "offer", video: ["webcodecs/h264-annexb"] });
});

afterEach(() => {
  player.handle({ type: "close" });
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

describe("pictures", () => {
  it("are drawn, closed and acknowledged in the order in which they came, whatever is decoded first", async () => {
    await connect();
    const [first, second] = [image(1), image(2)];
    await second.done();
    expect([canvas.drawn, acked()]).toEqual([[], []]);
    await first.done();
    expect([canvas.drawn, acked()]).toEqual([["image/1", "image/2"], [1, 2]]);
    expect([first.closed, second.closed]).toEqual([true, true]);
  });

  it("are acknowledged with the time that each took, and that it waited for the one before", async () => {
    await connect();
    const [first, second] = [image(1), image(2)];
    await vi.advanceTimersByTimeAsync(30);
    await first.done();
    await vi.advanceTimersByTimeAsync(10);
    await second.done();
    expect(socket().said("ack").map(({ draw_ms, wait_ms }) => [draw_ms, wait_ms])).toEqual([[30, 0], [10, 30]]);
  });

  it("size the canvas, and the page hears of each size once", async () => {
    await connect({ pixel_ratio: 2 });
    for (const [seq, width] of [[1, 8], [2, 8], [3, 16]] as const) await image(seq, { width }).done();
    expect([canvas.width, canvas.height]).toEqual([16, 8]);
    expect(reported("frame").map(({ width, pixelRatio }) => [width, pixelRatio])).toEqual([[8, 2], [16, 2]]);
  });

  it("of a connection that is over are not drawn any more", async () => {
    await connect();
    const late = image(1);
    socket().fail();
    await late.done();
    expect([canvas.drawn, late.closed]).toEqual([[], true]);
  });

  it("have the kind of context that the first config asks for", async () => {
    await connect({ alpha: true, color: { primaries: "smpte432", transfer: "srgb" } });
    socket().receive({ ...CONFIG, alpha: false });
    expect(canvas.options).toEqual([{ alpha: true, colorSpace: "display-p3" }]);
  });

  it("are asked for anew when the browser has lost the canvas", async () => {
    await connect();
    canvas.dispatchEvent(new Event("contextrestored"));
    expect(socket().said("request_keyframe")).toEqual([{ type: "request_keyframe", reason: "the canvas was lost" }]);
  });
});

describe("a picture that can't be shown", () => {
  it("costs one reset for all that fail within a second, and what came before is not drawn", async () => {
    await connect();
    const [first, second, third] = [image(1), image(2), image(3)];
    await first.fail();
    await second.fail();
    await vi.advanceTimersByTimeAsync(1000);
    expect(socket().said("decoder_reset").length).toBe(1);
    await third.done();
    expect([canvas.drawn, acked()]).toEqual([[], []]);
  });

  it("is an error to the user at the third in a row, until one is shown", async () => {
    await connect();
    for (const seq of [1, 2, 3]) await image(seq).fail();
    expect(states().at(-1)).toBe("failed: The pictures that the hub sends can't be shown: broken");
    await vi.advanceTimersByTimeAsync(1000);
    await image(4).done();
    expect(states().at(-1)).toBe("live");
  });

  it("may be one whose header is nonsense", async () => {
    await connect();
    socket().receive(new ArrayBuffer(2));
    send({ type: "tiles", seq: 1, width: 8, height: 8, parts: [[0, 0, 8, 8, "image/png", 500]] });
    await vi.advanceTimersByTimeAsync(1000);
    expect(socket().said("decoder_reset").length).toBe(1);
  });
});

describe("video", () => {
  const H264 = { transport: "webcodecs" };

  it("is refused in words where the page has no WebCodecs, and not asked for", async () => {
    await connect(H264);
    expect(socket().said("hello")[0].no_video).toMatch(/^no WebCodecs/);
    expect(states().at(-1)).toBe(
      "failed: The hub sends webcodecs. This page has no WebCodecs to decode it, which browsers have over https and on localhost only.",
    );
  });

  it("is not asked for where the user wants images only", async () => {
    fakeWebCodecs();
    await connect({}, true);
    const [hello] = socket().said("hello");
    expect([hello.supported.includes("webcodecs/h264-annexb"), hello.no_video]).toEqual([false, "image_only is set"]);
  });

  it("is offered as far as the page has found out, and hello waits for that", async () => {
    fakeWebCodecs();
    player.handle({ type: "close" });
    player = new Player(canvas as unknown as HTMLCanvasElement, () => {});
    player.handle({ type: "open", target: targetOf([candidate("direct")]), ratio: 1, imageOnly: false });
    socket().open();
    await vi.advanceTimersByTimeAsync(500);
    expect(socket().sent).toEqual([]);
    player.handle({ type: "offer", video: ["rfb/vp9"] });
    await vi.advanceTimersByTimeAsync(0);
    const [hello] = socket().said("hello");
    expect(hello.supported).toEqual(expect.arrayContaining(["image/png", "rfb/vp9"]));
    expect(hello).not.toHaveProperty("no_video");
  });

  it("is drawn among images in the order in which both came", async () => {
    fakeWebCodecs();
    await connect(H264);
    video(1, { keyframe: true });
    const picture = image(2);
    await picture.done();
    expect(canvas.drawn).toEqual([]);
    FakeDecoder.made[0]!.output(1);
    await vi.advanceTimersByTimeAsync(0);
    expect([canvas.drawn, acked()]).toEqual([["pixels", "image/2"], [1, 2]]);
  });

  it("begins with a keyframe, which is asked for", async () => {
    fakeWebCodecs();
    await connect(H264);
    video(1);
    expect(socket().said("request_keyframe").length).toBe(1);
  });

  it("is given up for images once no decoder lasts, and the hub is told why", async () => {
    fakeWebCodecs();
    await connect(H264);
    for (let seq = 1; seq <= 4; seq++) {
      video(seq, { keyframe: true });
      FakeDecoder.made.at(-1)!.fail();
      await vi.advanceTimersByTimeAsync(1000);
      expect(FakeWebSocket.made[0]!.said("decoder_reset").length).toBe(Math.min(seq, 3));
    }
    expect(FakeWebSocket.made.length).toBe(2);
    await greet();
    const [hello] = socket().said("hello");
    expect([hello.supported.includes("webcodecs/h264-annexb"), hello.no_video]).toEqual([false, "video can't be decoded here (broken)"]);
    await image(1).done();
    await vi.advanceTimersByTimeAsync(1000);
    expect(reported("stats").at(-1)!.stats.note).toBe("video can't be decoded here (broken): images only");
  });
});

describe("what else the hub sends", () => {
  it("goes to the page: messages as text and bytes, cursor, clipboard and features", async () => {
    await connect({ features: ["rfb/channels", "rfb/clipboard"], channel_bytes: 99 });
    socket().receive({ type: "message", channel: "a", data: { x: 1 } });
    send({ type: "message", channel: "a" }, new Uint8Array([1, 2]));
    socket().receive({ type: "cursor", cursor: "crosshair" });
    socket().receive({ type: "clipboard", text: "copied" });
    socket().receive({ type: "of a later protocol" });
    expect(reported("message").map(({ data }) => data)).toEqual([{ x: 1 }, new Uint8Array([1, 2])]);
    expect(reported("cursor").map(({ cursor }) => cursor)).toEqual([null, "crosshair"]);
    expect(reported("clipboard")).toEqual([{ type: "clipboard", text: "copied" }]);
    expect(reported("features").at(-1)).toMatchObject({ channelBytes: 99, clipboard: true });
    socket().fail();
    expect(reported("features").at(-1)).toMatchObject({ channelBytes: 0, clipboard: false });
  });

  it("is joined where it comes in pieces, each of which is confirmed", async () => {
    await connect();
    const whole = pack({ type: "message", channel: "a" }, new Uint8Array([7]));
    send({ type: "piece", piece: 1, of: 1, text: false, last: false }, whole.subarray(0, 9));
    expect(reported("message")).toEqual([]);
    send({ type: "piece", piece: 2, of: 1, text: false, last: true }, whole.subarray(9));
    expect(reported("message").map(({ data }) => data)).toEqual([new Uint8Array([7])]);
    expect(socket().said("got").map(({ piece }) => piece)).toEqual([1, 2]);
  });

  it("says once whether the view only looks, and the shape of frames to come", async () => {
    await connect({ view_only: true, width: 80, height: 60, pixel_ratio: 2, resize_policy: "match_client" });
    socket().receive({ ...CONFIG, width: 40 });
    expect(reported("remark")).toEqual([{ type: "remark", text: "View only" }]);
    expect(reported("shape").map(({ width, matched }) => [width, matched])).toEqual([[40, true], [40, false]]);
  });
});

it("reports statistics once a second while pictures come, and once more at rest", async () => {
  await connect();
  for (let seq = 1; seq <= 3; seq++) await image(seq).done();
  await vi.advanceTimersByTimeAsync(5000);
  expect(reported("stats").map(({ stats }) => [stats.fps > 0, stats.format])).toEqual([[true, "3"], [false, "3"]]);
});

it("asks a hub for a picture after the machine has slept", async () => {
  await connect();
  await image(1).done();
  await vi.advanceTimersByTimeAsync(10_000);
  vi.setSystemTime(Date.now() + 3_600_000);
  await vi.advanceTimersByTimeAsync(1000);
  expect(socket().said("request_keyframe").map(({ reason }) => reason)).toEqual(["the page has slept"]);
});
