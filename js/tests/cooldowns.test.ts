import { describe, expect, it } from "vitest";
import type { WayName } from "../src/net/candidates";
import { Patience } from "../src/net/cooldowns";
import type { Answer, Failure } from "../src/net/diagnosis";

const DAY_MS = 86_400_000;
const DIRECT = { name: "direct" as WayName, url: "ws://127.0.0.1:5000/s", proof: true };
const ROUTE = { name: "route" as WayName, url: "ws://localhost:8888/pdum-rfb/h/s", proof: false };

function failed(way: typeof ROUTE, answer: Answer | null, fault: Failure["end"]["fault"] = "unreachable"): Failure {
  return { way, end: { fault, code: 1006, reason: "" }, answer, status: 404, said: "" };
}

/** How often ROUTE is asked in a day, when it is asked as soon as it may, and at least every five seconds. */
function asked(patience: Patience, answer: Answer | null, fault?: Failure["end"]["fault"]): number {
  let count = 0;
  for (let now = 0; now < DAY_MS; now += Math.max(5000, patience.wait([ROUTE], now))) {
    if (!patience.due([ROUTE], now).length) continue;
    patience.heed([failed(ROUTE, answer, fault)], now);
    count++;
  }
  return count;
}

describe("Patience", () => {
  it.each(["unknown", "nothing", "elsewhere", "login", "foreign", "stripped"] as const)(
    "asks a server that answers as %s a dozen times a day at most",
    (answer) => expect(asked(new Patience(), answer)).toBeLessThanOrEqual(12),
  );

  it("comes back to a server that is away twice a minute", () => {
    expect(asked(new Patience(), "gone")).toBeCloseTo(DAY_MS / 30_000, -2);
  });

  it("goes on with what nobody has refused, such as a port that is yet to be forwarded", () => {
    expect(asked(new Patience(), null)).toBe(DAY_MS / 5000);
    const patience = new Patience();
    patience.heed([failed(DIRECT, null), failed(ROUTE, "unknown")], 0);
    expect(patience.due([DIRECT, ROUTE], 250)).toEqual([DIRECT]);
    expect(patience.wait([DIRECT, ROUTE], 250)).toBe(0);
  });

  it("asks no more what the page's policy forbids, not even when the page is back", () => {
    const patience = new Patience();
    expect(asked(patience, null, "forbidden")).toBe(1);
    patience.rouse();
    expect(patience.due([ROUTE], DAY_MS)).toEqual([]);
  });

  it("asks a way once more when the page is back, and as if for the first time when the user wants it", () => {
    const patience = new Patience();
    asked(patience, "unknown");
    expect(patience.wait([ROUTE], DAY_MS)).toBe(Infinity);
    patience.rouse();
    expect(patience.due([ROUTE], DAY_MS)).toEqual([ROUTE]);
    patience.heed([failed(ROUTE, "unknown")], DAY_MS);
    expect(patience.wait([ROUTE], DAY_MS)).toBe(Infinity);
    patience.forget();
    expect(asked(patience, "unknown")).toBeGreaterThan(8);
  });

  it("remembers why the ways failed that were not asked this time", () => {
    const patience = new Patience();
    patience.heed([failed(DIRECT, null), failed(ROUTE, "unknown")], 0);
    expect(patience.heed([failed(DIRECT, null)], 300).map(({ answer }) => answer)).toEqual([null, "unknown"]);
    expect(patience.heed([failed(ROUTE, "login")], 2000).map(({ answer }) => answer)).toEqual(["login"]);
  });
});
