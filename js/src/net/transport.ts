// The seam between a viewer and the network: whole messages both ways, in order. The WebSocket that does it.

export interface Transport {
  /** Bytes that were sent and have not left this machine yet. */
  readonly waiting: number;
  /** Before `onOpen` and after the end it does nothing. */
  send(message: string | Uint8Array<ArrayBuffer>): void;
  /** End it; the listener is not called again. */
  close(): void;
}

export interface TransportListener {
  onOpen(): void;
  onMessage(message: string | ArrayBuffer): void;
  /** The peer, or the network, has ended it; with code 0 the browser has, before it asked anybody. */
  onClose(code: number, reason: string): void;
}

/** Begin to connect to *url*; throws where that is no address, or none that this page may name. */
export type Connect = (url: string, listener: TransportListener) => Transport;

export const connectWebSocket: Connect = (url, listener) => {
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => listener.onOpen();
  socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => listener.onMessage(data);
  let over = false;
  const end = (code: number, reason: string) => {
    if (!over) listener.onClose(code, reason);
    over = true;
  };
  socket.onclose = ({ code, reason }) => end(code, reason);
  // Chromium tells of an address that the page's policy forbids by an error alone; after any other error it closes.
  socket.onerror = () => setTimeout(() => end(0, ""));
  return {
    get waiting() {
      return socket.bufferedAmount;
    },
    send(message) {
      if (socket.readyState === WebSocket.OPEN) socket.send(message);
    },
    close() {
      over = true;
      socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
      socket.close(1000);
    },
  };
};
