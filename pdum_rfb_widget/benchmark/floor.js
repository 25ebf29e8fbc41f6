// The floor of all latencies: a number comes over a WebSocket, and is drawn as the colour of one rectangle.

importScripts("eyes.js");

onmessage = ({ data: { url, canvas, eyes } }) => {
  const context = canvas.getContext("2d", { alpha: false });
  openEyes(canvas, [0, 0], eyes, (data) => (data[0] << 8) | data[1]);
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => {
    const number = new DataView(data).getUint32(0, true);
    context.fillStyle = `rgb(${number >> 8}, ${number & 255}, 77)`;
    context.fillRect(0, 0, 128, 32);
  };
};
