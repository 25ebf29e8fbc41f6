// The eyes of the thread that draws a canvas: in each animation frame, the number that the canvas shows in it.
//
// Reading any part of a canvas that a worker draws costs another thread a copy of it all: 4 ms at 1080p. And a canvas of the
// page's own would show, later in an animation frame, what is displayed with the next one only. The canvas's own context is
// asked: drawing a part of it elsewhere keeps the whole as it was, and the next change copies it all.

const BLOCK = 16;
const COLUMNS = 8;
const ROWS = 2;

/** Read the canvas, whose frames hold their numbers at x, y, from now on; the page asks by a channel of this name. */
self.openEyes = (canvas, [x, y], channelName, decode = fromBlocks) => {
  let open = true;
  let readings = [];
  const look = () => {
    requestAnimationFrame(look);
    if (!open) return;
    const { data } = canvas.getContext("2d").getImageData(x, y, COLUMNS * BLOCK, ROWS * BLOCK);
    const number = decode(data);
    readings.push([number, performance.timeOrigin + performance.now()]);
  };
  requestAnimationFrame(look);
  const channel = new BroadcastChannel(channelName);
  channel.onmessage = ({ data }) => {
    if ("open" in data) open = data.open;
    else channel.postMessage(readings.splice(0));
  };
};

/** The same for the first canvas that is going to be drawn in this worker, by code that knows nothing of it. */
self.openEyesOnFirstCanvas = (...how) => {
  const { getContext } = OffscreenCanvas.prototype;
  OffscreenCanvas.prototype.getContext = function (kind, options) {
    if (!options?.willReadFrequently) {
      OffscreenCanvas.prototype.getContext = getContext;
      self.openEyes(this, ...how);
    }
    return getContext.call(this, kind, options);
  };
};

function fromBlocks(data) {
  let number = 0;
  for (let bit = 0; bit < COLUMNS * ROWS; bit++) {
    const [column, row] = [bit % COLUMNS, Math.floor(bit / COLUMNS)];
    const place = (row * BLOCK + BLOCK / 2) * COLUMNS * BLOCK + column * BLOCK + BLOCK / 2;
    if (data[4 * place] > 127) number |= 1 << bit;
  }
  return number;
}
