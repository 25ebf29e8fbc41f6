// A transport in memory: what one end sends, the test takes, and says when the network has room.

import type { Connect, Transport, TransportListener } from "../src/net/transport";

export class MemoryTransport implements Transport {
  waiting = 0;
  sent: (string | Uint8Array<ArrayBuffer>)[] = [];
  closed = false;

  constructor(readonly listener: TransportListener) {}

  send(message: string | Uint8Array<ArrayBuffer>): void {
    if (this.closed) return;
    this.sent.push(message);
    this.waiting += message.length;
  }

  /** All that was sent has left. */
  drain(): void {
    this.waiting = 0;
  }

  close(): void {
    this.closed = true;
  }
}

/** Connects to nobody; every transport that it makes is in *made*. */
export function memory(made: MemoryTransport[]): Connect {
  return (_url, listener) => {
    const transport = new MemoryTransport(listener);
    made.push(transport);
    return transport;
  };
}
