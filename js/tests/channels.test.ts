import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Attempt, type AttemptListener } from "../src/net/attempt";
import { Inbox, Outbox } from "../src/net/channels";
import { channelMessage, type Header, isCursor, pack, type PieceHeader, unpack } from "../src/protocol";
import { memory, MemoryTransport } from "./memory";

const K = 1024;
const nothing = { onOpen() {}, onMessage() {}, onClose() {} };

function opened(message: string | Uint8Array<ArrayBuffer>): [Header, Uint8Array<ArrayBuffer>] {
  if (typeof message === "string") throw new Error(`a text: ${message.slice(0, 40)}`);
  return unpack(message.buffer);
}

function joined(messages: (string | Uint8Array<ArrayBuffer>)[]): (string | ArrayBuffer)[] {
  const inbox = new Inbox();
  return messages.flatMap((message) => {
    if (typeof message === "string") return [message];
    const [header, data] = opened(message);
    const whole = header.type === "piece" ? inbox.take(header as PieceHeader, data) : message.buffer;
    return whole === null ? [] : [whole];
  });
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe("Outbox", () => {
  it("sends what is short as it is, and what is long in pieces that make the same again", () => {
    const line = new MemoryTransport(nothing);
    const outbox = new Outbox(line);
    const text = JSON.stringify("\u2603".repeat(20 * K));
    const bytes = new Uint8Array(100 * K).map((_, i) => i * 7);
    for (const message of ["short", text, bytes]) expect(outbox.enqueue(message)).toBe(true);
    for (let round = 0; round < 20; round++) {
      line.drain();
      vi.advanceTimersByTime(5);
    }
    expect(Math.max(...line.sent.map(({ length }) => length))).toBeLessThan(17 * K);
    const [first, second, third] = joined(line.sent);
    expect([first, second]).toEqual(["short", text]);
    expect(new Uint8Array(third as ArrayBuffer)).toEqual(bytes);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("leaves the connection room: what is sent past it waits for two pieces at most", () => {
    const line = new MemoryTransport(nothing);
    const outbox = new Outbox(line);
    outbox.enqueue(new Uint8Array(1000 * K));
    expect(line.waiting).toBeLessThan(34 * K);
    vi.advanceTimersByTime(1000);
    expect(line.sent.length).toBe(2);
  });

  it("sends the latest of a channel in place of what still waits, and finishes what has begun", () => {
    const line = new MemoryTransport(nothing);
    const outbox = new Outbox(line);
    const full = () => (line.waiting = 1000 * K);
    outbox.enqueue("x".repeat(20 * K), "a");
    full();
    for (const message of ["old", "older", "newest"]) outbox.enqueue(message, "a");
    outbox.enqueue("kept");
    outbox.enqueue("other", "b");
    for (let round = 0; round < 5; round++) {
      line.drain();
      vi.advanceTimersByTime(5);
    }
    expect(joined(line.sent)).toEqual(["x".repeat(20 * K), "newest", "kept", "other"]);
  });

  it("takes no more than 8 MiB for a hub that does not read, and all again for the next connection", () => {
    const line = new MemoryTransport(nothing);
    const outbox = new Outbox(line);
    const taken = Array.from({ length: 10 }, () => outbox.enqueue(new Uint8Array(1000 * K)));
    expect(taken).toEqual([...Array(8).fill(true), false, false]);
    outbox.forget();
    line.drain();
    line.sent = [];
    expect(outbox.enqueue("fresh")).toBe(true);
    vi.advanceTimersByTime(100);
    expect(line.sent).toEqual(["fresh"]);
  });
});

describe("Inbox", () => {
  const piece = (of: number, last: boolean, text = false): PieceHeader => ({ type: "piece", piece: 1, of, text, last });

  it("joins the pieces of several messages that come in turns", () => {
    const inbox = new Inbox();
    const snowman = new TextEncoder().encode("\u2603");
    expect(inbox.take(piece(1, false), new Uint8Array([1, 2]))).toBe(null);
    expect(inbox.take(piece(2, false, true), snowman.subarray(0, 1))).toBe(null);
    expect(inbox.take(piece(1, true), new Uint8Array([3]))).toEqual(new Uint8Array([1, 2, 3]).buffer);
    expect(inbox.take(piece(2, true, true), snowman.subarray(1))).toBe("\u2603");
  });

  it("knows nothing of a connection before", () => {
    const inbox = new Inbox();
    inbox.take(piece(1, false), new Uint8Array([1]));
    inbox.forget();
    expect(inbox.take(piece(1, true), new Uint8Array([2]))).toEqual(new Uint8Array([2]).buffer);
  });
});

describe("channelMessage", () => {
  it("is JSON for what JSON can say, and else the bytes with a header", () => {
    expect(channelMessage("a.b", { x: [1, null] }, 100)).toBe('{"type":"message","channel":"a.b","data":{"x":[1,null]}}');
    const view = new Uint8Array([9, 1, 2, 9]).subarray(1, 3);
    const [header, data] = opened(channelMessage("a", view, 100));
    expect([header, [...data]]).toEqual([{ type: "message", channel: "a" }, [1, 2]]);
  });

  it("refuses what has no name, is no JSON, or is too long", () => {
    expect(() => channelMessage("a/b", 1, 100)).toThrow(/a channel's name is .* not "a\/b"/);
    expect(() => channelMessage("a", undefined, 100)).toThrow(/what JSON can say, not undefined/);
    expect(() => channelMessage("a", "\u2603".repeat(33), 100)).toThrow(/at most 100 bytes, not 101/);
  });
});

it("takes a keyword for a cursor, and nothing that names an address", () => {
  const cursors = ["crosshair", "nw-resize", null, "url(http://a/b), auto", "", 3, undefined];
  expect(cursors.map((cursor) => isCursor({ type: "cursor", cursor } as Header))).toEqual([true, true, true, false, false, false, false]);
});

describe("Attempt over any transport", () => {
  function attempt(proof: boolean) {
    const made: MemoryTransport[] = [];
    const log: unknown[] = [];
    const listener: AttemptListener = {
      sendHello: (attempt) => attempt.send({ type: "hello", supported: [], device_pixel_ratio: 1, token: "t" }),
      onWin: () => log.push("won"),
      onMessage: (data) => log.push(data),
      onEnd: (_, end) => log.push(end),
    };
    const target = { candidates: [], stream: "s", port: 0, machine: "", local: true, hubId: "", hubKey: "", token: "t" };
    const one = new Attempt({ name: "url", url: "ws://x/s", proof }, target, listener, memory(made));
    return { one, log, transport: made[0]! };
  }

  it("greets, wins with a config, hears text and bytes in order, and tells code and reason of the end", () => {
    const { log, transport } = attempt(false);
    transport.listener.onOpen();
    expect(transport.sent).toEqual(['{"type":"hello","supported":[],"device_pixel_ratio":1,"token":"t"}']);
    const config = '{"type":"config","transport":"image","width":1,"height":1}';
    const bytes = pack({ type: "message", channel: "a" }, new Uint8Array(1)).buffer;
    for (const message of [config, bytes, "{}"]) transport.listener.onMessage(message);
    transport.listener.onClose(4429, "too slow");
    expect(log).toEqual(["won", config, bytes, "{}", { fault: "closed", code: 4429, reason: "too slow" }]);
    expect(transport.closed).toBe(true);
  });

  it.each([
    [4401, "the token is missing", { fault: "unverified", code: 0, reason: "another hub answered" }],
    [4429, "too many wait", { fault: "closed", code: 4429, reason: "too many wait" }],
    [4403, "not from there", { fault: "closed", code: 4403, reason: "not from there" }],
  ])("takes a close with %i before the proof for what it is", (code, reason, end) => {
    const { log, transport } = attempt(true);
    transport.listener.onOpen();
    transport.listener.onClose(code, reason);
    expect(log).toEqual([end]);
  });

  it("says its token to nobody that has not proved itself, and nothing once it was left", () => {
    const { one, log, transport } = attempt(true);
    transport.listener.onOpen();
    expect(transport.sent.join()).not.toContain("token");
    one.leave("another way was faster");
    one.send({ type: "decoder_reset" });
    expect(transport.sent.length).toBe(1);
    expect(transport.closed).toBe(true);
    expect(log).toEqual([]);
  });
});
