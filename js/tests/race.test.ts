import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Candidate, Target } from "../src/net/candidates";
import { type End, type Failure, LOCAL_FORBIDDEN, MIXED_FORBIDDEN } from "../src/net/diagnosis";
import { macOf } from "../src/net/proof";
import { Race } from "../src/net/race";
import { candidate, CONFIG, FakeWebSocket, fakeNetwork, targetOf } from "./network";

const [DIRECT, ROUTE, PROXY] = [candidate("direct"), candidate("route"), candidate("proxy")];
const KEY = "ab".repeat(32);

function start(candidates: Candidate[], more: Partial<Target> = {}) {
  const log: [string, unknown][] = [];
  const failures: Failure[][] = [];
  const race = new Race(candidates, targetOf(candidates, more), {
    sendHello: ({ candidate }) => log.push(["hello", candidate.name]),
    onWin: ({ candidate }) => log.push(["win", candidate.name]),
    onMessage: (data) => log.push(["message", data]),
    onLost: (end: End) => log.push(["lost", end.code]),
    onFailed: (all) => failures.push(all),
  });
  return { race, log, failures, sockets: FakeWebSocket.made };
}

const settle = () => vi.advanceTimersByTimeAsync(1000);

beforeEach(() => {
  vi.useFakeTimers();
  fakeNetwork();
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("a race", () => {
  it("starts the next candidate a quarter of a second later, or as soon as one has failed", () => {
    const { sockets } = start([DIRECT, ROUTE, PROXY]);
    expect(sockets.map(({ url }) => url)).toEqual([DIRECT.url]);
    vi.advanceTimersByTime(250);
    expect(sockets.length).toBe(2);
    sockets[0]!.fail();
    expect(sockets.map(({ url }) => url)).toEqual([DIRECT.url, ROUTE.url, PROXY.url]);
  });

  it("is won by the first that a hub answers on, and the others are closed", () => {
    const { race, log, sockets } = start([DIRECT, ROUTE, PROXY]);
    vi.advanceTimersByTime(250);
    for (const socket of sockets) socket.open();
    sockets[1]!.receive(CONFIG);
    vi.advanceTimersByTime(20_000);
    expect(log).toEqual([["hello", "direct"], ["hello", "route"], ["win", "route"], ["message", JSON.stringify(CONFIG)]]);
    expect(sockets.map(({ closedWith }) => closedWith)).toEqual([1000, null]);
    expect(race.tries.map(({ way, outcome }) => [way, outcome])).toEqual([["direct", "another way was faster"], ["route", "answered"]]);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("is not won by another hub", () => {
    const { race, log, sockets } = start([DIRECT, ROUTE]);
    sockets[0]!.open();
    sockets[0]!.receive({ ...CONFIG, hub: "another" });
    expect([log, race.tries[0]!.outcome]).toEqual([[["hello", "direct"]], "another hub answered"]);
    sockets[1]!.open();
    sockets[1]!.receive({ ...CONFIG, hub: "hub" });
    expect(log.at(-2)).toEqual(["win", "route"]);
  });

  it.each([true, false])("sends the token to a hub that proves itself, and to no other: %s", (right) => {
    const { log, sockets } = start([candidate("direct", true)], { hubKey: KEY });
    const [socket] = sockets as [FakeWebSocket];
    socket.open();
    const [{ nonce, ...hello }] = socket.sent;
    expect(hello).toEqual({ type: "hello", supported: ["rfb/proof"], device_pixel_ratio: 1 });
    socket.receive({ type: "proof", nonce: "n", mac: macOf(right ? KEY : "cd".repeat(32), nonce, "n", "hub", "s") });
    expect(log).toEqual(right ? [["win", "direct"], ["hello", "direct"]] : []);
  });

  it("gives up a candidate whose handshake takes five seconds, or whose hub is silent for ten", async () => {
    const { failures, sockets } = start([DIRECT, ROUTE]);
    vi.advanceTimersByTime(250);
    sockets[1]!.open();
    vi.advanceTimersByTime(4750);
    expect(sockets.map(({ closedWith }) => closedWith)).toEqual([1000, null]);
    await vi.advanceTimersByTimeAsync(5250);
    expect(failures[0]!.map(({ end }) => end.reason)).toEqual(["no answer in 5 s", "no answer in 10 s"]);
  });

  it("says why the connection that had won is over", () => {
    const { race, log, sockets } = start([DIRECT]);
    sockets[0]!.open();
    sockets[0]!.receive(CONFIG);
    sockets[0]!.fail(4408, "nothing was acknowledged");
    expect(log.at(-1)).toEqual(["lost", 4408]);
    expect(race.tries[0]!.outcome).toBe("answered; closed with 4408: nothing was acknowledged");
  });

  it("says nothing more once it was closed", async () => {
    const { race, log, failures, sockets } = start([DIRECT, ROUTE]);
    sockets[0]!.fail();
    sockets[1]!.fail();
    race.close("tried anew");
    await settle();
    expect([log, failures, vi.getTimerCount()]).toEqual([[], [], 0]);
  });
});

describe("a race that all have lost", () => {
  async function failureOf(one: Candidate): Promise<Failure> {
    const { failures, sockets } = start([one]);
    sockets[0]?.fail();
    await settle();
    return failures[0]![0]!;
  }

  it.each([
    [404, "text/plain", "no such hub on gate: run the cell", "unknown", "refused with 404: no such hub on gate: run the cell"],
    [404, "text/html", "<h1>Not found</h1>", "nothing", "refused with 404"],
    [200, "text/html", "<h1>Hello</h1>", "stripped", "answers 200, but opens no WebSocket"],
    [403, "text/html", "", "login", "refused with 403"],
  ])("asks the page's own server by HTTP, %i as %s", async (status, type, body, answer, outcome) => {
    const asked = vi.fn(async () => ({ status, headers: new Headers({ "Content-Type": type }), text: async () => body }));
    vi.stubGlobal("fetch", asked);
    const { failures, race, sockets } = start([ROUTE]);
    sockets[0]!.fail();
    await settle();
    expect(asked).toHaveBeenCalledWith("http://localhost:8888/pdum-rfb/h/s", expect.objectContaining({ redirect: "manual" }));
    expect([failures[0]![0]!.answer, race.tries[0]!.outcome]).toEqual([answer, outcome]);
  });

  it("asks no other server", async () => {
    const asked = vi.fn();
    vi.stubGlobal("fetch", asked);
    expect((await failureOf(DIRECT)).answer).toBeNull();
    expect(asked).not.toHaveBeenCalled();
  });

  it("knows no answer where the server gives none", async () => {
    expect(await failureOf(ROUTE)).toMatchObject({ answer: null, status: 0, end: { fault: "unreachable", code: 1006 } });
  });

  it("says that the browser opens no ws:// for a page of https", async () => {
    vi.stubGlobal("location", { origin: "https://notebooks.example" });
    vi.stubGlobal("WebSocket", class { constructor() { throw new DOMException("insecure", "SecurityError"); } });
    expect((await failureOf(DIRECT)).end).toEqual({ fault: "blocked", code: 0, reason: MIXED_FORBIDDEN });
  });

  it.each([["denied", LOCAL_FORBIDDEN], ["granted", ""]])("says that the browser keeps the page from this computer: %s", async (state, reason) => {
    vi.stubGlobal("navigator", { permissions: { query: async () => ({ state }) } });
    expect((await failureOf(DIRECT)).end.reason).toBe(reason);
  });
});
