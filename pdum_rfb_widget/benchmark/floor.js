// The floor of all latencies: a number comes over a WebSocket, and is drawn as the colour of one rectangle.

onmessage = ({ data: { url, canvas } }) => {
  const context = canvas.getContext("2d", { alpha: false });
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => {
    const number = new DataView(data).getUint32(0, true);
    context.fillStyle = `rgb(${number >> 8}, ${number & 255}, 77)`;
    context.fillRect(0, 0, 128, 32);
  };
};
