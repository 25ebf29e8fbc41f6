// One encoded picture in, something that can be painted out.

type Context = OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D;

export interface Decoded {
  /** Replace what the context's canvas shows at x, y. */
  paint(context: Context, x: number, y: number, width: number, height: number): void;
  /** Give back what it holds; it can't be painted after. */
  close(): void;
}

// Absent from lib.dom of TypeScript 7; the part of WebCodecs that is used here.
interface ImageDecoderLike {
  decode(): Promise<{ image: VideoFrame }>;
  close(): void;
}
type ImageDecoderClass = new (init: { data: BufferSource; type: string; colorSpaceConversion: "none" }) => ImageDecoderLike;

/**
 * Pixels from which a picture is copied out of its VideoFrame into a buffer that is used again: drawImage would make a new
 * one each time, whose page faults cost as much as the decoding (1080p JPEG: 11 ms against 7).
 */
const COPIED_FROM = 1 << 16;

/** All parts, decoded side by side; when one fails, the others are closed. */
export async function decodeAll(parts: { data: Uint8Array<ArrayBuffer>; mime: string }[]): Promise<Decoded[]> {
  const results = await Promise.allSettled(parts.map(({ data, mime }) => decodeImage(data, mime)));
  const pictures = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  const failure = results.find((result) => result.status === "rejected");
  if (!failure) return pictures;
  close(pictures);
  throw failure.reason;
}

export function close(pictures: Decoded[]): void {
  for (const picture of pictures) picture.close();
}

/** Decodes with `ImageDecoder` where the page has it (WebCodecs, secure contexts), else with `createImageBitmap`. */
async function decodeImage(data: Uint8Array<ArrayBuffer>, mime: string): Promise<Decoded> {
  const { ImageDecoder } = globalThis as { ImageDecoder?: ImageDecoderClass };
  if (!ImageDecoder) {
    return drawable(await createImageBitmap(new Blob([data], { type: mime }), { colorSpaceConversion: "none" }));
  }
  const decoder = new ImageDecoder({ data, type: mime, colorSpaceConversion: "none" });
  try {
    const { image } = await decoder.decode();
    return (await copied(image)) ?? drawable(image);
  } finally {
    decoder.close();
  }
}

function drawable(picture: ImageBitmap | VideoFrame): Decoded {
  return {
    paint(context, x, y, width, height) {
      context.clearRect(x, y, width, height); // else an alpha channel would blend with what was there
      context.drawImage(picture, x, y, width, height);
    },
    close: () => picture.close(),
  };
}

/** The pixels of *frame*, which is closed then; null where it is small, or the browser can't copy it as RGBA. */
async function copied(frame: VideoFrame): Promise<Decoded | null> {
  const { displayWidth: width, displayHeight: height } = frame;
  if (width * height < COPIED_FROM) return null;
  canCopy ??= convertsWhenCopied(frame);
  if (!canCopy) return null;
  let pixels: ImageData;
  try {
    pixels = buffers.take(width, height);
    await frame.copyTo(pixels.data, { format: "RGBA", colorSpace: "srgb" });
  } catch {
    canCopy = false;
    return null;
  }
  frame.close();
  return { paint: (context, x, y) => context.putImageData(pixels, x, y), close: () => buffers.giveBack(pixels) };
}

let canCopy: boolean | null = null;

/** Browsers of before 2024 don't look at the format, and copy the pixels as they are. */
function convertsWhenCopied(frame: VideoFrame): boolean {
  let asked = false;
  const options = {
    get format(): VideoPixelFormat {
      asked = true;
      return "RGBA";
    },
  };
  try {
    frame.allocationSize(options);
  } catch {
    return false;
  }
  return asked;
}

const KEPT_BYTES = 64 << 20;

/** Buffers of those sizes that were needed last. */
class Buffers {
  #spare: ImageData[] = [];

  take(width: number, height: number): ImageData {
    const at = this.#spare.findIndex((buffer) => buffer.width === width && buffer.height === height);
    return at < 0 ? new ImageData(width, height) : this.#spare.splice(at, 1)[0]!;
  }

  giveBack(buffer: ImageData): void {
    this.#spare.push(buffer);
    let bytes = this.#spare.reduce((sum, { data }) => sum + data.byteLength, 0);
    while (bytes > KEPT_BYTES || this.#spare.length > 16) bytes -= this.#spare.shift()!.data.byteLength;
  }
}

const buffers = new Buffers();
