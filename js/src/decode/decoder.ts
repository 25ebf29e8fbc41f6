// Encoded pictures in, something that can be painted out.

import type { Part } from "../protocol";
import { type Context, copyOut, type Decoded, readBack } from "./pixels";
import { type Way, Ways } from "./ways";

// Absent from lib.dom of TypeScript 7; the part of WebCodecs that is used here.
interface ImageDecoderLike {
  decode(): Promise<{ image: VideoFrame }>;
  close(): void;
}
type ImageDecoderClass = new (init: { data: BufferSource; type: string; colorSpaceConversion: "none" }) => ImageDecoderLike;

/** Pixels from which what a picture costs depends on its way onto the canvas. */
const LARGE = 1 << 16;
const LOSSY = ["image/jpeg", "image/webp"];

const ways = new Ways();

/** All parts, decoded side by side, to be painted at once; when one fails, the others are closed. */
export function decodeAll(parts: Part[], space: PredefinedColorSpace): Promise<Decoded> {
  const chosen = "ImageDecoder" in globalThis && space === "srgb" && parts.every(isLargeAndLossy);
  if (!chosen) return decodeBy((part) => wayOf(part, space), parts, space);
  const { measuring } = ways;
  const way = ways.next();
  return measuring ? timed(way, parts, space) : decodeBy(() => way, parts, space);
}

function isLargeAndLossy({ width, height, mime }: Part): boolean {
  return width * height >= LARGE && LOSSY.includes(mime);
}

/** `ImageDecoder` where the page has it (WebCodecs, secure contexts); what is exact is copied, as it stays so. */
function wayOf({ width, height }: Part, space: PredefinedColorSpace): Way {
  if (!("ImageDecoder" in globalThis)) return "bitmap";
  return space === "srgb" && width * height < LARGE ? "draw" : "copy";
}

/** Decode *parts* as a trial of *way*. */
async function timed(way: Way, parts: Part[], space: PredefinedColorSpace): Promise<Decoded> {
  const pixels = parts.reduce((sum, { width, height }) => sum + width * height, 0);
  const started = performance.now();
  const picture = await decodeBy(() => way, parts, space).catch(() => null);
  if (!picture) {
    ways.took(way, Infinity);
    return decodeBy((part) => wayOf(part, space), parts, space);
  }
  const decoded = performance.now();
  return {
    paint(context) {
      const turn = performance.now();
      picture.paint(context);
      rasterize(context);
      ways.took(way, (decoded - started + performance.now() - turn) / pixels);
    },
    close: picture.close,
  };
}

/** Browsers draw later what they are told to; not what is needed for a bitmap. Reading would move the canvas to software. */
function rasterize({ canvas }: Context): void {
  createImageBitmap(canvas, 0, 0, 1, 1).then(
    (bitmap) => bitmap.close(),
    () => {},
  );
}

async function decodeBy(wayOf: (part: Part) => Way, parts: Part[], space: PredefinedColorSpace): Promise<Decoded> {
  const results = await Promise.allSettled(parts.map((part) => decodePart(part, space, wayOf(part))));
  const pictures = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  const close = () => pictures.forEach((picture) => picture.close());
  const failure = results.find((result) => result.status === "rejected");
  if (failure) {
    close();
    throw failure.reason;
  }
  return { paint: (context) => pictures.forEach((picture) => picture.paint(context)), close };
}

async function decodePart(part: Part, space: PredefinedColorSpace, way: Way): Promise<Decoded> {
  const { data, mime } = part;
  if (way === "bitmap") {
    const bitmap = await createImageBitmap(new Blob([data], { type: mime }), { colorSpaceConversion: "none" });
    return drawable(bitmap, part, space);
  }
  const { ImageDecoder } = globalThis as unknown as { ImageDecoder: ImageDecoderClass };
  const decoder = new ImageDecoder({ data, type: mime, colorSpaceConversion: "none" });
  try {
    const { image } = await decoder.decode();
    return (way === "copy" && (await copied(image, part, space))) || drawable(image, part, space);
  } finally {
    decoder.close();
  }
}

/** The pixels of *frame*, which is closed then; null where drawing is all that the browser can do. */
async function copied(frame: VideoFrame, { x, y }: Part, space: PredefinedColorSpace): Promise<Decoded | null> {
  const { displayWidth: width, displayHeight: height } = frame;
  const pixels = await copyOut(frame, [0, 0, width, height], "srgb", space);
  if (!pixels) return null;
  frame.close();
  return { paint: (context) => context.putImageData(pixels.image, x, y), close: pixels.release };
}

/** Files don't say their color space: read as sRGB and put as *space*, their numbers stay as they are. */
function drawable(picture: ImageBitmap | VideoFrame, part: Part, space: PredefinedColorSpace): Decoded {
  const { x, y, width, height } = part;
  return {
    paint(context) {
      if (space !== "srgb") {
        const { data } = readBack(picture, width, height);
        return context.putImageData(new ImageData(data, width, height, { colorSpace: space }), x, y);
      }
      context.clearRect(x, y, width, height); // else an alpha channel would blend with what was there
      context.drawImage(picture, x, y, width, height);
    },
    close: () => picture.close(),
  };
}
