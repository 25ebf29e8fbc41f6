// The page's side of the bare pipeline: JPEGs come over a WebSocket, are decoded, drawn in their order and acknowledged.

export function openBare(url, canvas) {
  const context = canvas.getContext("2d", { alpha: false });
  const socket = new WebSocket(url);
  let drawn = Promise.resolve();
  socket.onmessage = ({ data }) => {
    const decoding = createImageBitmap(data);
    drawn = drawn.then(async () => {
      const bitmap = await decoding;
      context.drawImage(bitmap, 0, 0);
      bitmap.close();
      socket.send("");
    });
  };
}
