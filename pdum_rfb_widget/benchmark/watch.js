// The benchmark's eyes: opens a view, or the floor, and notes at every animation frame which number its canvas shows.

import { openBare } from "./bare.js";
import { RemoteFramebufferView } from "./widget.js";

const BLOCK = 16;
const COLUMNS = 8;
const ROWS = 2;
/**
 * Into an animation frame, when it is read. At its very start a worker's picture arrives at the same moment, before or
 * after by chance, so that numbers which were shown would be missed: up to 7 % of them, against none at 3 to 9 ms.
 */
const READ_AFTER_MS = 6;
/** Pixels a side of what is compared before the whole picture is. */
const PATCH = 32;

const now = () => performance.timeOrigin + performance.now();

let canvas;
let place = [0, 0];
let decode = fromBlocks;
let readings = [];
let frames = [];
let awaited = null;
let exactAt = null;
let guarded = null;
let readEvery = 1;
let frameCount = 0;

const numberReader = reader(COLUMNS, ROWS);
const patchReader = reader(PATCH, PATCH);
let wholeReader = null;

window.bench = {
  /** The package's own view of a stream, whose frames hold their numbers at x, y. */
  openView(url, token, x, y) {
    const options = { url, token, showToolbar: false, showStats: false };
    canvas = new RemoteFramebufferView(document.getElementById("stage"), options).canvas;
    place = [x, y];
    look();
  },

  /** The least that any view would have to do: a worker draws one rectangle for each message of eight bytes. */
  openFloor(url, width, height) {
    addCanvas(width, height);
    const offscreen = canvas.transferControlToOffscreen();
    new Worker("floor.js").postMessage({ url, canvas: offscreen }, [offscreen]);
    decode = fromColor;
    look();
  },

  /** The bare pipeline, whose frames hold their numbers at x, y. */
  openBare(url, width, height, x, y) {
    addCanvas(width, height);
    openBare(url, canvas);
    place = [x, y];
    look();
  },

  /** Answers the harness's questions for this page's time, in milliseconds. */
  openClock(url) {
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(url);
      socket.onopen = () => resolve();
      socket.onerror = () => reject(new Error("the harness can't be reached"));
      socket.onmessage = () => socket.send(String(now()));
    });
  },

  /** Read the canvas in two animation frames of so many; 1 for in all, 0 for never. */
  readEvery(count) {
    readEvery = count;
  },

  /**
   * Since the last call: of each reading the number, its time and whether the frame before was read too, which tells
   * that a new number was there for the first time; and the times of all animation frames.
   */
  take: () => ({ readings: readings.splice(0), frames: frames.splice(0) }),

  /** Load the pixels of the frame *number*, RGBA, to be recognized in the canvas. */
  async expect(url, number, width, height) {
    const pixels = new Uint32Array(await (await fetch(url)).arrayBuffer());
    if (wholeReader?.canvas.width !== width || wholeReader.canvas.height !== height) wholeReader = reader(width, height);
    exactAt = new Promise((resolve) => (awaited = { number, pixels, width, height, resolve }));
  },

  /** Load the pixels of the part at x, y, RGBA; once the canvas shows it exactly, it is to stay so. */
  async guard(url, x, y, width, height) {
    const pixels = new Uint32Array(await (await fetch(url)).arrayBuffer());
    guarded = { pixels, reader: reader(width, height), x, y, exact: false, readings: 0, changed: 0 };
  },

  /** How often the guarded part was read since it was exact, and how many of its pixels were another, all together. */
  guarded: () => ({ readings: guarded.readings, changed: guarded.changed }),

  /** When the canvas first showed exactly what is expected; null if it doesn't within so many milliseconds. */
  exact: (patience) => Promise.race([exactAt, new Promise((resolve) => setTimeout(() => resolve(null), patience))]),
};

function addCanvas(width, height) {
  canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  document.getElementById("stage").append(canvas);
}

function look() {
  requestAnimationFrame(look);
  frames.push(now());
  const turn = readEvery && frameCount++ % readEvery;
  if (readEvery && turn < 2) setTimeout(() => read(readEvery === 1 || turn === 1), READ_AFTER_MS);
}

/** Reading any of a canvas that a worker draws copies all of it: 4 ms at 1080p, so it is done once a frame. */
function read(follows) {
  const at = now();
  if (!awaited?.shown) note(at, follows);
  if (guarded) check(guarded);
  if (awaited?.shown && showsExactly(awaited)) {
    awaited.resolve(at);
    awaited = null;
  }
}

function note(at, follows) {
  numberReader.drawImage(canvas, ...place, COLUMNS * BLOCK, ROWS * BLOCK, 0, 0, COLUMNS, ROWS);
  const number = decode(numberReader.getImageData(0, 0, COLUMNS, ROWS).data);
  readings.push([number, at, follows]);
  if (awaited) awaited.shown = awaited.number === number;
}

function check(part) {
  const { width, height } = part.reader.canvas;
  part.reader.drawImage(canvas, part.x, part.y, width, height, 0, 0, width, height);
  const shown = new Uint32Array(part.reader.getImageData(0, 0, width, height).data.buffer);
  let changed = 0;
  for (let place = 0; place < shown.length; place++) if (shown[place] !== part.pixels[place]) changed++;
  part.exact ||= changed === 0;
  if (!part.exact) return;
  part.readings++;
  part.changed += changed;
}

function fromBlocks(data) {
  let number = 0;
  for (let bit = 0; bit < COLUMNS * ROWS; bit++) if (data[4 * bit] > 127) number |= 1 << bit;
  return number;
}

function fromColor(data) {
  return (data[0] << 8) | data[1];
}

/** Where it was wrong the last time comes first: while it still is, that costs a fraction of comparing all. */
function showsExactly({ pixels, width, height, wrong }) {
  if (canvas.width !== width || canvas.height !== height) return false;
  if (wrong && firstDifference(patchReader, ...wrong, pixels, width)) return false;
  const difference = firstDifference(wholeReader, 0, 0, pixels, width);
  if (!difference) return true;
  const [x, y] = difference;
  awaited.wrong = [Math.min(x, Math.max(0, width - PATCH)), Math.min(y, Math.max(0, height - PATCH))];
  return false;
}

/** Where the canvas from left, top on, as far as the reader reaches, isn't as in pixels; null if it is nowhere. */
function firstDifference(reader, left, top, pixels, width) {
  const w = Math.min(reader.canvas.width, width - left);
  const h = Math.min(reader.canvas.height, pixels.length / width - top);
  reader.drawImage(canvas, left, top, w, h, 0, 0, w, h);
  const shown = new Uint32Array(reader.getImageData(0, 0, w, h).data.buffer);
  for (let y = h - 1; y >= 0; y--)
    for (let x = 0; x < w; x++) if (shown[y * w + x] !== pixels[(top + y) * width + left + x]) return [left + x, top + y];
  return null;
}

function reader(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  return context;
}
