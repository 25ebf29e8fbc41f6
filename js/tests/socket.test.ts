import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { InputEvent } from "../src/input_events";
import type { Candidate, Target } from "../src/net/candidates";
import type { Try } from "../src/net/diagnosis";
import { HubSocket } from "../src/net/socket";
import { candidate, CONFIG, FakeWebSocket, fakeNetwork, targetOf } from "./network";

const DIRECT = candidate("direct");
const SIZE = { type: "set_viewport", width: 300, height: 200, pwidth: 600, pheight: 400, ratio: 2 } as const;
const event = (type: InputEvent["type"]) => ({ type: "event", event: { type, timestamp: 1 } as InputEvent }) as const;

let states: string[];
let tried: { tries: Try[]; name: string | null };
let disconnects: number;
let hub: HubSocket;

const newest = () => FakeWebSocket.made.at(-1)!;
const hello = () => newest().said("hello")[0];

async function open(candidates: Candidate[] = [DIRECT], more: Partial<Target> = {}): Promise<void> {
  hub.open(targetOf(candidates, more), 1);
  await greet();
}

/** The hub answers the newest connection. */
async function greet(): Promise<void> {
  newest().open();
  await vi.advanceTimersByTimeAsync(0);
  newest().receive(CONFIG);
  hub.live();
}

/** The connection breaks, as if the network did, and the next attempt is made. */
async function breakOff(code = 1006, reason = ""): Promise<void> {
  newest().fail(code, reason);
  await vi.advanceTimersByTimeAsync(6000);
}

beforeEach(() => {
  vi.useFakeTimers();
  fakeNetwork();
  states = [];
  disconnects = 0;
  hub = new HubSocket({
    hello: async () => ({ supported: ["image/png"], no_video: "none here" }),
    onMessage: () => {},
    onDisconnect: () => disconnects++,
    onState: (state, message) => states.push(message ? `${state}: ${message}` : state),
    onTried: (tries, name) => (tried = { tries, name }),
  });
});

afterEach(() => {
  hub.end();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("a connection", () => {
  it("begins with hello: capabilities, the screen's ratio and the token", async () => {
    await open();
    expect(hello()).toEqual({ type: "hello", supported: ["image/png"], no_video: "none here", device_pixel_ratio: 1, token: "secret" });
    expect(states).toEqual(["connecting", "live"]);
    expect(tried).toMatchObject({ name: "direct", tries: [{ way: "direct", outcome: "answered" }] });
  });

  it("tells size and visibility of before again, the newest, and nothing else", async () => {
    for (const message of [{ ...SIZE, width: 1 }, SIZE, event("resize"), event("key_down"), event("hide")]) hub.send(message);
    hub.send({ type: "request_keyframe", reason: "lost" });
    await open();
    expect(hello().device_pixel_ratio).toBe(2);
    expect(newest().sent.slice(1)).toEqual([SIZE, event("resize"), expect.objectContaining({ event: expect.objectContaining({ type: "hide" }) })]);
    await breakOff();
    hub.send(event("show"));
    await greet();
    expect(newest().sent.slice(1)).toEqual([SIZE, event("resize")]);
  });

  it("carries messages of the application's, and loses them while there is none", async () => {
    hub.enqueue('{"type":"message","n":1}', "");
    await open();
    hub.enqueue('{"type":"message","n":2}', "");
    await vi.advanceTimersByTimeAsync(10);
    expect(newest().said("message")).toEqual([{ type: "message", n: 2 }]);
  });

  it("says in what was tried when the first picture was there, once", async () => {
    await open();
    await vi.advanceTimersByTimeAsync(40);
    hub.shown();
    hub.shown();
    expect(tried.tries[0]!.outcome).toBe("answered, first picture after 40 ms");
  });
});

describe("a connection that is lost", () => {
  it("is made anew after a moment, first with the candidate that had worked", async () => {
    hub.open(targetOf([candidate("route"), DIRECT]), 1);
    await vi.advanceTimersByTimeAsync(250);
    await greet();
    expect(tried.name).toBe("direct");
    newest().fail();
    expect(states.at(-1)).toBe("reconnecting");
    const made = FakeWebSocket.made.length;
    await vi.advanceTimersByTimeAsync(170);
    expect(FakeWebSocket.made.length).toBe(made);
    await vi.advanceTimersByTimeAsync(160);
    expect(newest().url).toBe(DIRECT.url);
    expect(disconnects).toBeGreaterThan(0);
  });

  it("is blamed on something in between when it is lost again and again, but not once it has lasted", async () => {
    await open();
    for (let n = 0; n < 3; n++) {
      await breakOff();
      await greet();
    }
    newest().fail();
    expect(states.at(-1)).toContain("reconnecting: The connection is lost again and again.");
    await vi.advanceTimersByTimeAsync(6000);
    await greet();
    await vi.advanceTimersByTimeAsync(5001);
    newest().fail();
    expect(states.at(-1)).toBe("reconnecting");
  });

  it.each([
    [true, "failed: The hub refused the token. It is from an earlier kernel: run the cell again."],
    [false, "failed: The hub refused the token. It is from an earlier run of the program: open the page anew."],
  ])("stays so when the hub refused the token, until the user retries; in a cell: %s", async (cell, message) => {
    await open([DIRECT], { cell });
    const made = FakeWebSocket.made.length;
    await breakOff(4401);
    expect([states.at(-1), FakeWebSocket.made.length]).toEqual([message, made]);
    hub.retry();
    await greet();
    expect(states.slice(-2)).toEqual(["connecting", "live"]);
  });

  it("keeps what was tried lately, and no more than 24 attempts", async () => {
    await open();
    for (let n = 0; n < 30; n++) await breakOff();
    expect(tried.tries.length).toBe(24);
    expect(tried.name).toBeNull();
  });
});

describe("a page that is back", () => {
  it("does not wait for its next attempt", async () => {
    await open();
    for (let n = 0; n < 4; n++) await breakOff();
    newest().fail();
    await vi.advanceTimersByTimeAsync(0);
    const made = FakeWebSocket.made.length;
    hub.wake();
    expect(FakeWebSocket.made.length).toBe(made + 1);
  });

  it("asks a hub that was silent for a picture, and leaves one that stays silent", async () => {
    await open();
    hub.shown();
    await vi.advanceTimersByTimeAsync(3000);
    hub.wake();
    const asked = newest();
    expect(asked.said("request_keyframe")).toEqual([{ type: "request_keyframe", reason: "the page has slept" }]);
    await vi.advanceTimersByTimeAsync(3000);
    expect([asked.closedWith, newest() === asked]).toEqual([1000, false]);
  });

  it("stays with a hub that answers, and asks none that has just sent something", async () => {
    await open();
    hub.shown();
    await vi.advanceTimersByTimeAsync(3000);
    hub.wake();
    newest().receive({ type: "stats" });
    await vi.advanceTimersByTimeAsync(4000);
    newest().receive({ type: "stats" });
    hub.wake();
    await vi.advanceTimersByTimeAsync(4000);
    expect([FakeWebSocket.made.length, newest().said("request_keyframe").length]).toEqual([1, 1]);
  });

  it("asks only once it is seen", async () => {
    await open();
    hub.shown();
    hub.send(event("hide"));
    await vi.advanceTimersByTimeAsync(3000);
    hub.wake();
    expect(newest().said("request_keyframe")).toEqual([]);
    hub.send(event("show"));
    expect(newest().said("request_keyframe").length).toBe(1);
  });
});

it("refuses a hub for good, in words", async () => {
  await open();
  const { length } = FakeWebSocket.made;
  hub.refuse("This hub sends what nobody knows.");
  await vi.advanceTimersByTimeAsync(60_000);
  expect([newest().closedWith, FakeWebSocket.made.length]).toEqual([1000, length]);
  expect(states.at(-1)).toBe("failed: This hub sends what nobody knows.");
});

it("says goodbye at its end, and leaves no timer", async () => {
  await open();
  hub.end();
  expect(newest().sent.at(-1)).toMatchObject({ type: "event", event: { type: "close" } });
  expect([newest().closedWith, vi.getTimerCount()]).toEqual([1000, 0]);
});
