// The benchmark's page: opens a view, the floor or the bare pipeline, and tells which numbers its canvas showed, and when.

import "./eyes.js";
import { openBare } from "./bare.js";
import { RemoteFramebufferView } from "./widget.js";

/** Into an animation frame, when the canvas is compared: a worker's picture arrives here just after the frame's start. */
const COMPARE_AFTER_MS = 6;
/** Pixels a side of what is compared before the whole picture is. */
const PATCH = 32;

const now = () => performance.timeOrigin + performance.now();

/** The channel to the eyes, which are in the thread that draws. */
const EYES = crypto.randomUUID();
const eyes = new BroadcastChannel(EYES);

let canvas;
let awaited = null;
let exactAt = null;
let guarded = null;

const patchReader = reader(PATCH, PATCH);
let wholeReader = null;

window.bench = {
  /** The package's own view of a stream, whose frames hold their numbers at x, y. */
  openView(url, token, x, y) {
    const options = { url, token, showToolbar: false, showStats: false };
    openEyesInWorker([x, y]);
    canvas = new RemoteFramebufferView(document.getElementById("stage"), options).canvas;
    look();
  },

  /** The least that any view would have to do: a worker draws one rectangle for each message of eight bytes. */
  openFloor(url, width, height) {
    addCanvas(width, height);
    const offscreen = canvas.transferControlToOffscreen();
    new Worker("floor.js").postMessage({ url, canvas: offscreen, eyes: EYES }, [offscreen]);
  },

  /** The bare pipeline, whose frames hold their numbers at x, y. */
  openBare(url, width, height, x, y) {
    addCanvas(width, height);
    openBare(url, canvas);
    openEyes(canvas, [x, y], EYES);
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

  /** Whether numbers are read. */
  openEyes: (open) => eyes.postMessage({ open }),

  /** Since the last call: the number shown in each animation frame, and its time. */
  take() {
    eyes.postMessage({});
    return new Promise((resolve) => (eyes.onmessage = ({ data }) => resolve(data)));
  },

  /** Load the pixels of a frame, RGBA, to be recognized in the canvas. */
  async expect(url, width, height) {
    const pixels = new Uint32Array(await (await fetch(url)).arrayBuffer());
    if (wholeReader?.canvas.width !== width || wholeReader.canvas.height !== height) wholeReader = reader(width, height);
    exactAt = new Promise((resolve) => (awaited = { pixels, width, height, resolve }));
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

/** The view draws in a worker of its own making: its program gets the eyes before all else. */
function openEyesInWorker(place) {
  const { createObjectURL } = URL;
  const how = JSON.stringify([place, EYES]).slice(1, -1);
  const opens = `importScripts("${new URL("eyes.js", location)}"); openEyesOnFirstCanvas(${how});\n`;
  URL.createObjectURL = (blob) =>
    createObjectURL.call(URL, blob.type === "text/javascript" ? new Blob([opens, blob], { type: blob.type }) : blob);
}

function look() {
  requestAnimationFrame(look);
  if (awaited || guarded) setTimeout(compare, COMPARE_AFTER_MS);
}

function compare() {
  const at = now();
  if (guarded) check(guarded);
  if (awaited && showsExactly(awaited)) {
    awaited.resolve(at);
    awaited = null;
  }
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
