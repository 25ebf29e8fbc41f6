import { beforeAll, describe, expect, it, vi } from "vitest";
import { addressOf, afterClose, backoff } from "../src/connection";

const LOCAL = "ws://127.0.0.1:8765/default";

beforeAll(() => vi.stubGlobal("location", { origin: "http://localhost:8888" }));

describe("addressOf", () => {
  it("is made of host, port and stream", () => {
    expect(addressOf({ url: "", host: "auto", port: 1234, stream: "cell-1" })).toBe("ws://127.0.0.1:1234/cell-1");
    expect(addressOf({ url: "", host: "::1", port: 1, stream: "a b" })).toBe("ws://[::1]:1/a%20b");
  });

  it("is the url where there is one", () => {
    expect(addressOf({ url: "wss://x/y", host: "h", port: 1, stream: "s" })).toBe("wss://x/y");
  });
});

describe("backoff", () => {
  it("doubles from a quarter of a second to five, give or take thirty percent", () => {
    expect([0, 1, 2, 3, 4, 5, 50].map((attempt) => backoff(attempt, 0.5))).toEqual([250, 500, 1000, 2000, 4000, 5000, 5000]);
    expect(backoff(0, 0)).toBeCloseTo(175);
    expect(backoff(0, 1)).toBeCloseTo(325);
  });
});

describe("afterClose", () => {
  const verdict = (code: number, reason = "", attempt = 0, address = LOCAL) => afterClose(code, reason, attempt, address, 0.5);

  it.each([
    [4401, "run the cell again"],
    [4403, "origins="],
    [4406, "can't show"],
  ])("leaves %i to the user, in words", (code, words) => {
    const { state, message, retryIn } = verdict(code, "the reason");
    expect(state).toBe("failed");
    expect(message).toContain(words);
    expect(retryIn).toBeNull();
  });

  it.each([1001, 4404])("waits for a stream that may come back after %i", (code) => {
    const { state, message, retryIn } = verdict(code, "there is no stream 'x'");
    expect(state).toBe("closed");
    expect(message).toContain("There is no stream 'x'.");
    expect(retryIn).toBeGreaterThanOrEqual(2000);
  });

  it("says nothing of a first loss, which is often a blink", () => {
    expect(verdict(1006)).toMatchObject({ state: "reconnecting", message: "", retryIn: 250 });
  });

  it("says what does not answer once it has tried again, and goes on trying", () => {
    const { state, message, retryIn } = verdict(1006, "", 3);
    expect(state).toBe("reconnecting");
    expect(message).toContain("127.0.0.1:8765");
    expect(message).toContain("run the cell again");
    expect(retryIn).toBe(2000);
  });

  it("says that a local address means the viewer's own computer when the page comes from elsewhere", () => {
    vi.stubGlobal("location", { origin: "https://hub.example" });
    expect(verdict(1006, "", 3).message).toContain("forward the port");
    vi.stubGlobal("location", { origin: "http://localhost:8888" });
  });

  it("gives the hub's own reason", () => {
    expect(verdict(4408, "nothing was acknowledged for 30 s").message).toContain("Nothing was acknowledged for 30 s.");
  });
});
