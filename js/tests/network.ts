// The browser's WebSocket, in the test's hands: what it opens, hears and closes is said here.

import { vi } from "vitest";
import type { Candidate, CandidateName, Target } from "../src/net/candidates";

export class FakeWebSocket {
  static readonly OPEN = 1;
  static made: FakeWebSocket[] = [];
  readyState = 0;
  bufferedAmount = 0;
  binaryType = "";
  /** JSON as values. */
  sent: any[] = [];
  closedWith: number | null = null;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: (() => void) | null = null;

  constructor(readonly url: string) {
    FakeWebSocket.made.push(this);
  }

  send(message: string | Uint8Array): void {
    this.sent.push(typeof message === "string" ? JSON.parse(message) : message);
  }

  close(code: number): void {
    this.readyState = 3;
    this.closedWith = code;
  }

  // What the other side, or the network, does:

  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }

  receive(message: object | ArrayBuffer): void {
    this.onmessage?.({ data: message instanceof ArrayBuffer ? message : JSON.stringify(message) });
  }

  /** Without having been open, a browser says no more than 1006. */
  fail(code = 1006, reason = ""): void {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  /** The messages of one type that were sent. */
  said(type: string): any[] {
    return this.sent.filter((message) => message.type === type);
  }
}

/** Put it in place of the browser's, on a page of a notebook server. */
export function fakeNetwork(): void {
  FakeWebSocket.made = [];
  vi.stubGlobal("WebSocket", FakeWebSocket);
  vi.stubGlobal("location", { origin: "http://localhost:8888" });
  vi.stubGlobal("isSecureContext", true);
  vi.stubGlobal("fetch", async () => Promise.reject(new TypeError("nothing answers")));
}

export const CONFIG = { type: "config", transport: "image", width: 8, height: 8 };

const URLS: Partial<Record<CandidateName, string>> = {
  direct: "ws://127.0.0.1:5000/s",
  route: "ws://localhost:8888/pdum-rfb/h/s",
  proxy: "ws://localhost:8888/proxy/5000/s",
};

export function candidate(name: CandidateName, proof = false): Candidate {
  return { name, url: URLS[name]!, proof };
}

export function targetOf(candidates: Candidate[], more: Partial<Target> = {}): Target {
  return { candidates, stream: "s", port: 5000, machine: "", local: true, hubId: "hub", hubKey: "", token: "secret", cell: true, ...more };
}
