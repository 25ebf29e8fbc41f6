// Encoded pictures in, something that can be painted out.

import type { Part } from "../protocol";
import { copyOut, type Decoded, readBack } from "./pixels";

// Absent from lib.dom of TypeScript 7; the part of WebCodecs that is used here.
interface ImageDecoderLike {
  decode(): Promise<{ image: VideoFrame }>;
  close(): void;
}
type ImageDecoderClass = new (init: { data: BufferSource; type: string; colorSpaceConversion: "none" }) => ImageDecoderLike;

/** Pixels from which it is faster to copy a picture than to draw it (1080p JPEG: 7 ms against 11). */
const COPIED_FROM = 1 << 16;

/** All parts, decoded side by side, to be painted at once; when one fails, the others are closed. */
export async function decodeAll(parts: Part[], space: PredefinedColorSpace): Promise<Decoded> {
  const results = await Promise.allSettled(parts.map((part) => decodePart(part, space)));
  const pictures = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  const close = () => pictures.forEach((picture) => picture.close());
  const failure = results.find((result) => result.status === "rejected");
  if (failure) {
    close();
    throw failure.reason;
  }
  return { paint: (context) => pictures.forEach((picture) => picture.paint(context)), close };
}

/** Decodes with `ImageDecoder` where the page has it (WebCodecs, secure contexts), else with `createImageBitmap`. */
async function decodePart(part: Part, space: PredefinedColorSpace): Promise<Decoded> {
  const { data, mime } = part;
  const { ImageDecoder } = globalThis as { ImageDecoder?: ImageDecoderClass };
  if (!ImageDecoder) {
    const bitmap = await createImageBitmap(new Blob([data], { type: mime }), { colorSpaceConversion: "none" });
    return drawable(bitmap, part, space);
  }
  const decoder = new ImageDecoder({ data, type: mime, colorSpaceConversion: "none" });
  try {
    const { image } = await decoder.decode();
    return (await copied(image, part, space)) ?? drawable(image, part, space);
  } finally {
    decoder.close();
  }
}

/** The pixels of *frame*, which is closed then; null where drawing is better, or all that the browser can do. */
async function copied(frame: VideoFrame, { x, y }: Part, space: PredefinedColorSpace): Promise<Decoded | null> {
  const { displayWidth: width, displayHeight: height } = frame;
  if (space === "srgb" && width * height < COPIED_FROM) return null;
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
