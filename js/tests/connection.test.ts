import { describe, expect, it } from "vitest";
import { afterClose, backoff } from "../src/net/connection";

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

  it("names the origin that serve() would have to allow, and says where there is none", () => {
    expect(verdict(4403, "pages from https://a.example may not open this stream").message).toContain("origins=['https://a.example']");
    expect(verdict(4403, "pages from null may not open this stream").message).toContain("allow-same-origin");
  });

  it("blames the token of an earlier kernel for no other reason", () => {
    expect(verdict(4401, "the token is missing or not this hub's").message).toContain("earlier kernel");
    expect(verdict(4401, "the application's authenticator refused the viewer").message).toMatch(/refused the viewer\. Pass a token/);
    expect(verdict(4401, "the token was changed").message).toBe("The token was changed. Run the cell again.");
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
    expect(verdict(1006, "", 3)).toMatchObject({ state: "reconnecting", retryIn: 2000 });
    expect(verdict(1006, "", 3).message).toContain("lost again and again. Something on the way");
  });

  it("gives the hub's own reason", () => {
    expect(verdict(4408, "nothing was acknowledged for 30 s").message).toContain("Nothing was acknowledged for 30 s.");
  });
});
