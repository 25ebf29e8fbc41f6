// The seam between a viewer and the network: whole messages both ways, in order. The WebSocket that does it.

export interface Transport {
  /** Bytes that were sent and have not left this machine yet. */
  readonly waiting: number;
  /** Before `opened` and after the end it does nothing. */
  send(message: string | Uint8Array<ArrayBuffer>): void;
  /** End it; the listener hears no more. */
  close(): void;
}

export interface TransportListener {
  opened(): void;
  heard(message: string | ArrayBuffer): void;
  /** The peer, or the network, has ended it. */
  closed(code: number, reason: string): void;
}

/** Begin to connect to *url*; throws where that is no address, or none that this page may name. */
export type Connect = (url: string, listener: TransportListener) => Transport;

export const connectWebSocket: Connect = (url, listener) => {
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => listener.opened();
  socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => listener.heard(data);
  socket.onclose = ({ code, reason }) => listener.closed(code, reason);
  return {
    get waiting() {
      return socket.bufferedAmount;
    },
    send(message) {
      if (socket.readyState === WebSocket.OPEN) socket.send(message);
    },
    close() {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(1000);
    },
  };
};
