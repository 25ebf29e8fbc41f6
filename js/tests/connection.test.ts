import { describe, expect, it } from "vitest";
import { afterClose, backoff } from "../src/connection";

describe("backoff", () => {
  it("doubles from a quarter of a second to five, give or take thirty percent", () => {
    expect([0, 1, 2, 3, 4, 5, 50].map((attempt) => backoff(attempt, 0.5))).toEqual([250, 500, 1000, 2000, 4000, 5000, 5000]);
    expect(backoff(0, 0)).toBeCloseTo(175);
    expect(backoff(0, 1)).toBeCloseTo(325);
  });
});

describe("afterClose", () => {
  const verdict = (code: number, reason = "", attempt = 0) => afterClose(code, reason, attempt, 0.5);

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

  it("says that it is lost again and again, and goes on trying", () => {
    expect(verdict(1006, "", 3)).toMatchObject({ state: "reconnecting", message: "The connection is lost again and again.", retryIn: 2000 });
  });

  it("gives the hub's own reason", () => {
    expect(verdict(4408, "nothing was acknowledged for 30 s").message).toContain("Nothing was acknowledged for 30 s.");
  });
});
