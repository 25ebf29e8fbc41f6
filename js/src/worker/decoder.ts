// One encoded picture in, something that drawImage takes out.

export type Drawable = (ImageBitmap | VideoFrame) & { close(): void };

// Absent from lib.dom of TypeScript 7; the part of WebCodecs that is used here.
interface ImageDecoderLike {
  decode(): Promise<{ image: VideoFrame }>;
  close(): void;
}
type ImageDecoderClass = new (init: { data: BufferSource; type: string; colorSpaceConversion: "none" }) => ImageDecoderLike;

/** Decodes with `ImageDecoder` where the page has it (WebCodecs, secure contexts), else with `createImageBitmap`. */
export async function decodeImage(data: Uint8Array<ArrayBuffer>, mime: string): Promise<Drawable> {
  const { ImageDecoder } = globalThis as { ImageDecoder?: ImageDecoderClass };
  if (!ImageDecoder) {
    return await createImageBitmap(new Blob([data], { type: mime }), { colorSpaceConversion: "none" });
  }
  const decoder = new ImageDecoder({ data, type: mime, colorSpaceConversion: "none" });
  try {
    return (await decoder.decode()).image;
  } finally {
    decoder.close();
  }
}
