// What goes over one connection besides pictures: the application's messages, and large ones of any kind in pieces.

import { assert } from "../assert";
import { pack, type PieceHeader } from "../protocol";

/** Bytes of a message that is not cut, and of a piece of one that is. */
const PIECE = 16 * 1024;
/** Bytes that may wait in the socket before input: what a home's line sends in some 20 ms. */
const ROOM = 2 * PIECE;
/** Browsers don't tell when a socket has room again. */
const LOOK_MS = 5;
/** Bytes of messages that wait for a hub that doesn't read. */
const MOST = 8 * 1024 * 1024;

const utf8 = new TextDecoder("utf-8", { fatal: true });

export interface Line {
  readonly waiting: number;
  send(message: string | Uint8Array<ArrayBuffer>): void;
}

interface Waiting {
  size: number;
  /** The channel of which it is the latest; empty for one that may not be left out. */
  latestOf: string;
  begun: boolean;
  /** What of it is still to be sent. */
  rest: Generator<string | Uint8Array<ArrayBuffer>>;
}

/** The application's messages, in order. They wait until the connection has room, so that input does not. */
export class Outbox {
  #line: Line;
  #waiting: Waiting[] = [];
  #bytes = 0;
  #cut = 0;
  #pieces = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(line: Line) {
    this.#line = line;
  }

  /** With *latestOf* it replaces what waits as the latest of that channel. False, and it isn't sent, where too much waits. */
  enqueue(message: string | Uint8Array<ArrayBuffer>, latestOf = ""): boolean {
    const size = message.length;
    const older = this.#waiting.find((one) => latestOf && one.latestOf === latestOf && !one.begun);
    if (older) this.#remove(older);
    if (this.#bytes + size > MOST) return false;
    this.#waiting.push({ size, latestOf, begun: false, rest: this.#cutUp(message) });
    this.#bytes += size;
    this.#send();
    return true;
  }

  /** What waits is for a connection that is over. */
  forget(): void {
    clearTimeout(this.#timer);
    this.#waiting = [];
    this.#bytes = this.#cut = this.#pieces = 0;
  }

  *#cutUp(message: string | Uint8Array<ArrayBuffer>): Generator<string | Uint8Array<ArrayBuffer>> {
    if (message.length <= PIECE) return yield message;
    const text = typeof message === "string";
    const bytes = text ? new TextEncoder().encode(message) : message;
    const of = ++this.#cut;
    for (let start = 0; start < bytes.length; start += PIECE) {
      const last = start + PIECE >= bytes.length;
      yield pack({ type: "piece", piece: ++this.#pieces, of, text, last }, bytes.subarray(start, start + PIECE));
    }
  }

  #send(): void {
    clearTimeout(this.#timer);
    while (this.#waiting.length && this.#line.waiting < ROOM) {
      const first = this.#waiting[0]!;
      first.begun = true;
      const { value, done } = first.rest.next();
      if (done) this.#remove(first);
      else this.#line.send(value);
    }
    if (this.#waiting.length) this.#timer = setTimeout(() => this.#send(), LOOK_MS);
  }

  #remove(one: Waiting): void {
    this.#waiting.splice(this.#waiting.indexOf(one), 1);
    this.#bytes -= one.size;
  }
}

/** Joins what the hub sends in pieces. */
export class Inbox {
  #begun = new Map<number, Uint8Array[]>();

  /** The whole message, if this piece completes it. */
  take({ of, text, last }: PieceHeader, data: Uint8Array): string | ArrayBuffer | null {
    const parts = this.#begun.get(of) ?? [];
    parts.push(data);
    this.#begun.set(of, parts);
    if (!last) return null;
    this.#begun.delete(of);
    const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let end = 0;
    for (const part of parts) {
      whole.set(part, end);
      end += part.length;
    }
    assert(whole.length, "the hub sent a message in pieces that is empty");
    return text ? utf8.decode(whole) : whole.buffer;
  }

  forget(): void {
    this.#begun.clear();
  }
}
