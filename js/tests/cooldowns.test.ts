import { describe, expect, it } from "vitest";
import type { CandidateName } from "../src/net/candidates";
import { Cooldowns } from "../src/net/cooldowns";
import type { Answer, Failure } from "../src/net/diagnosis";

const DAY_MS = 86_400_000;
const DIRECT = { name: "direct" as CandidateName, url: "ws://127.0.0.1:5000/s", proof: true };
const ROUTE = { name: "route" as CandidateName, url: "ws://localhost:8888/pdum-rfb/h/s", proof: false };

function failed(candidate: typeof ROUTE, answer: Answer | null, fault: Failure["end"]["fault"] = "unreachable"): Failure {
  return { candidate, end: { fault, code: 1006, reason: "" }, answer, status: 404, body: "" };
}

/** How often ROUTE is asked in a day, when it is asked as soon as it may, and at least every five seconds. */
function asked(cooldowns: Cooldowns, answer: Answer | null, fault?: Failure["end"]["fault"]): number {
  let count = 0;
  for (let now = 0; now < DAY_MS; now += Math.max(5000, cooldowns.wait([ROUTE], now))) {
    if (!cooldowns.due([ROUTE], now).length) continue;
    cooldowns.record([failed(ROUTE, answer, fault)], now);
    count++;
  }
  return count;
}

describe("Cooldowns", () => {
  it.each(["unknown", "nothing", "elsewhere", "login", "foreign", "stripped"] as const)(
    "asks a server that answers as %s a dozen times a day at most",
    (answer) => expect(asked(new Cooldowns(), answer)).toBeLessThanOrEqual(12),
  );

  it("comes back to a server that is away twice a minute", () => {
    expect(asked(new Cooldowns(), "gone")).toBeCloseTo(DAY_MS / 30_000, -2);
  });

  it("goes on with what nobody has refused, such as a port that is yet to be forwarded", () => {
    expect(asked(new Cooldowns(), null)).toBe(DAY_MS / 5000);
    const cooldowns = new Cooldowns();
    cooldowns.record([failed(DIRECT, null), failed(ROUTE, "unknown")], 0);
    expect(cooldowns.due([DIRECT, ROUTE], 250)).toEqual([DIRECT]);
    expect(cooldowns.wait([DIRECT, ROUTE], 250)).toBe(0);
  });

  it("asks no more what the page's policy forbids, not even when the page is back", () => {
    const cooldowns = new Cooldowns();
    expect(asked(cooldowns, null, "forbidden")).toBe(1);
    cooldowns.expire();
    expect(cooldowns.due([ROUTE], DAY_MS)).toEqual([]);
  });

  it("asks a candidate once more when the page is back, and as if for the first time when the user wants it", () => {
    const cooldowns = new Cooldowns();
    asked(cooldowns, "unknown");
    expect(cooldowns.wait([ROUTE], DAY_MS)).toBe(Infinity);
    cooldowns.expire();
    expect(cooldowns.due([ROUTE], DAY_MS)).toEqual([ROUTE]);
    cooldowns.record([failed(ROUTE, "unknown")], DAY_MS);
    expect(cooldowns.wait([ROUTE], DAY_MS)).toBe(Infinity);
    cooldowns.clear();
    expect(asked(cooldowns, "unknown")).toBeGreaterThan(8);
  });

  it("remembers why the candidates failed that were not asked this time", () => {
    const cooldowns = new Cooldowns();
    cooldowns.record([failed(DIRECT, null), failed(ROUTE, "unknown")], 0);
    expect(cooldowns.record([failed(DIRECT, null)], 300).map(({ answer }) => answer)).toEqual([null, "unknown"]);
    expect(cooldowns.record([failed(ROUTE, "login")], 2000).map(({ answer }) => answer)).toEqual(["login"]);
  });
});
