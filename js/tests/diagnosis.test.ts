import { beforeAll, describe, expect, it, vi } from "vitest";
import type { CandidateName } from "../src/net/candidates";
import { afterClose } from "../src/net/connection";
import { type Answer, type End, explain, type Failure, meaningOf, outcomeOf, policyForbids, versionNote, withoutCell } from "../src/net/diagnosis";

beforeAll(() => vi.stubGlobal("location", { origin: "http://localhost:8888" }));

const NO_HUB = "this user has no such hub: its kernel was restarted";
const URLS: Partial<Record<CandidateName, string>> = { direct: "ws://127.0.0.1:5000/s", route: "ws://localhost:8888/pdum-rfb/h/s?token=x" };

function failure(name: CandidateName, answer: Answer | null = null, more: Partial<Failure> = {}): Failure {
  const end: End = { fault: "unreachable", code: 1006, reason: "" };
  return { candidate: { name, url: URLS[name] ?? "ws://localhost:8888/x", proof: false }, end, answer, status: 0, body: "", ...more };
}

const HERE = { stream: "a b", port: 5000, machine: "faraway", local: true };
const ELSEWHERE = { ...HERE, local: false };
const message = (answer: Answer) => explain([failure("route", answer)], HERE, true, 2, 0.5).message;

describe("withoutCell", () => {
  it.each(["unknown", "gone", "nothing", "login"] as Answer[])("speaks of no cell, kernel or notebook where a candidate says %s", (answer) => {
    expect(withoutCell(message(answer))).not.toMatch(/cell|kernel|notebook/);
  });

  it("says what to do instead", () => {
    expect(withoutCell(message("gone"))).toContain("has ended: start it again, and open the page anew.");
    const refused = afterClose(4401, "", 0, 0.5).message;
    expect(withoutCell(refused)).toBe("The hub refused the token. It is from an earlier run of the program: open the page anew.");
    expect(withoutCell(afterClose(4404, "no stream 'a'", 0, 0.5).message)).toBe("No stream 'a'. Serve it again.");
  });
});

const told = (failures: Failure[], seen = false, attempt = 0, where = HERE) => explain(failures, where, seen, attempt, 0.5).message;

describe("meaningOf", () => {
  it.each([
    [404, NO_HUB, "unknown"],
    [404, "", "nothing"],
    [502, "the kernel runs on a, this server on b", "elsewhere"],
    [502, "the process of this hub has ended", "gone"],
    [503, "", "gone"],
    [403, "log in to this server first", "login"],
    [403, "this hub does not know the name lab.example; pass origins=['http://lab.example'] to allow it", "foreign"],
    [0, "", "login"],
    [401, "the token is missing or not this hub's", "stripped"],
    [426, "", "stripped"],
    [400, "", "stripped"],
    [200, "", "stripped"],
  ])("tells what %i with %j means", (status, said, meaning) => expect(meaningOf(status, said)).toBe(meaning));
});

describe("explain", () => {
  it.each([
    ["login", false, 0, "Log in again"],
    ["stripped", false, 0, "forward the headers Upgrade"],
    ["foreign", false, 0, "Pass origins=['http://localhost:8888']"],
    ["unknown", false, 0, "another machine"],
    ["nothing", false, 0, "pip install pdum-rfb-widget"],
    ["unknown", true, 2, "was restarted or has ended: run the cell again"],
    ["gone", true, 2, "was restarted or has ended: run the cell again"],
  ] as const)("says what to do when the server answers as %s, seen %s", (answer, seen, attempt, words) => {
    expect(told([failure("direct"), failure("route", answer, { status: 404 })], seen, attempt)).toContain(words);
  });

  it("gives the machine's names when the kernel is on another one", () => {
    const words = told([failure("route", "elsewhere", { status: 502, body: "the kernel runs on a, this server on b" })]);
    expect(words).toMatch(/^The kernel runs on a, this server on b\. Forward port 5000 of faraway to this computer/);
    expect(words).toContain("url='ws://127.0.0.1:5000/a%20b'");
  });

  it("names both machines where the server doesn't know the hub, and only the kernel's where it doesn't say its own", () => {
    const unknown = (body: string) => told([failure("direct"), failure("route", "unknown", { status: 404, body })]);
    expect(unknown("no such hub on gate: run")).toMatch(/^The kernel runs on faraway, and this page's server on gate, which doesn't reach it\./);
    for (const said of ["no such hub on faraway: run", NO_HUB]) {
      expect(unknown(said)).toMatch(/If the kernel was restarted, run the cell again\. If it runs on another machine .*\(it says faraway\)/);
    }
  });

  it.each(["unreachable", "silent", "closed"] as const)("says at once that Colab's proxy is no candidate, %s, and asks no more", (fault) => {
    const verdict = explain([failure("colab", null, { end: { fault, code: 1006, reason: "" } })], ELSEWHERE, false, 0, 0.5);
    expect(verdict).toMatchObject({ state: "failed", retryIn: null });
    expect(verdict.message).toMatch(/carries no WebSockets.*snapshot\(\)/);
  });

  it("says that there is no port to forward where the hub has none", () => {
    expect(told([failure("route", "unknown")], false, 0, { ...HERE, port: 0 })).toContain("serve it with a port");
  });

  it("names the port that would have to be forwarded, and what to do where it gets another number", () => {
    const words = told([failure("direct")], false, 2);
    expect(words).toContain("on another machine (it says faraway), forward its port 5000 to this computer (in VS Code: the Ports view)");
    expect(words).toContain("pass that as port=");
  });

  it("tells a hub that is too busy to answer from one that isn't there", () => {
    const end: End = { fault: "silent", code: 0, reason: "no answer in 10 s" };
    expect(told([failure("direct", null, { end }), failure("route")])).toMatch(/^ws:\/\/127.0.0.1:5000\/s gives no answer in 10 s\. .* too busy/);
  });

  it("stops at once where the page's policy forbids the only candidate", () => {
    const end: End = { fault: "forbidden", code: 0, reason: policyForbids("connect-src", "ws://127.0.0.1:5000/s?token=x") };
    const words = "This page can't open ws://127.0.0.1:5000/s: this page's policy doesn't allow it. Have the page's server add ws://127.0.0.1:5000";
    expect(told([failure("direct", null, { end })])).toContain(words);
  });

  it("says nothing of what is often a blink, and then says it without a token", () => {
    expect(told([failure("route")], true, 1)).toBe("");
    expect(told([failure("route")], true, 2)).toContain("Nothing answers at ws://localhost:8888/pdum-rfb/h/s.");
    expect(told([failure("direct")], false, 2)).toContain("Is the kernel running?");
  });

  it("gives the hub's own reason where one spoke", () => {
    const end: End = { fault: "closed", code: 4401, reason: "the token is not this hub's" };
    expect(explain([failure("route", null, { end })], HERE, false, 0, 0.5)).toMatchObject({ state: "failed", retryIn: null });
  });

  it("tells of a hub that has taken the place of ours", () => {
    const end: End = { fault: "unverified", code: 0, reason: "another hub answered" };
    expect(told([failure("direct", null, { end }), failure("route", "gone")], false, 2)).toContain("Another hub answers");
  });

  it("tells at once of a browser that forbids the only candidate, and not where another has failed for reasons of its own", () => {
    const denied = failure("direct", null, { end: { fault: "blocked", code: 0, reason: "not from here." } });
    expect(told([denied])).toBe("This page can't open ws://127.0.0.1:5000/s: not from here.");
    expect(told([denied, failure("route")], true, 2)).toContain("Nothing answers at ws://localhost:8888/pdum-rfb/h/s.");
  });

  it("leaves a page without any candidate to the user", () => {
    expect(explain([], HERE, false, 0, 0.5)).toMatchObject({ state: "failed", retryIn: null });
  });

  it("knows that a local address means the viewer's own computer when the page comes from elsewhere", () => {
    expect(told([failure("direct")], false, 3, ELSEWHERE)).toContain("the notebook comes from another one: forward the port");
  });
});

it("says how an attempt ended in a few words", () => {
  const end = (fault: End["fault"], code = 0, reason = "") => outcomeOf(failure("direct", null, { end: { fault, code, reason } }));
  expect(end("unreachable", 1006)).toBe("no connection");
  expect(end("closed", 1006)).toBe("closed with 1006");
  expect(end("closed", 4404, "no stream")).toBe("closed with 4404: no stream");
  expect(outcomeOf(failure("route", "unknown", { status: 404, body: NO_HUB }))).toBe(`refused with 404: ${NO_HUB}`);
  expect(outcomeOf(failure("route", "stripped", { status: 426 }))).toBe("answers 426, but opens no WebSocket");
});

it("notes another version of the hub, and none that says nothing", () => {
  expect(versionNote("1.0", "2.0")).toContain("reload the page");
  expect(versionNote("1.0", "1.0")).toBe("");
  expect(versionNote("1.0", undefined)).toBe("");
});
