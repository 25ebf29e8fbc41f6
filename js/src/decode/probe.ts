// Which formats of video this browser decodes: one known picture of each, decoded and compared. To be asked is not enough.

import { copyOut, readBack } from "./pixels";
import type { Probe } from "./probes";

/** The hub waits for the answer; what takes longer would not show video well anyway. */
const PROBE_MS = 1000;

/** The capabilities of those that passed, in the order of *probes*; all are tried at once. */
export async function probe(probes: Probe[]): Promise<string[]> {
  if (!("VideoDecoder" in globalThis)) return [];
  const passed = await Promise.all(probes.map((one) => passes(one).catch(() => false)));
  return probes.filter((_, n) => passed[n]).map(({ capability }) => capability);
}

async function passes(probe: Probe): Promise<boolean> {
  const frame = await firstPicture(probe);
  try {
    const { displayWidth: width, displayHeight: height } = frame;
    const copy = await copyOut(frame, [0, 0, width, height], "srgb");
    const { data } = copy?.image ?? readBack(frame, width, height);
    copy?.release();
    return probe.patches.every((wanted, n) => {
      const [x, y] = [width * (n % 2 ? 0.75 : 0.25), height * (n < 2 ? 0.25 : 0.75)].map(Math.floor) as [number, number];
      return wanted.every((value, channel) => Math.abs(data[4 * (y * width + x) + channel]! - value) <= probe.tolerance);
    });
  } finally {
    frame.close();
  }
}

/** Without flush(): a decoder that holds pictures back until more comes, is of no use here. */
function firstPicture({ codec, colorSpace, data }: Probe): Promise<VideoFrame> {
  let decoder: VideoDecoder | null = null;
  const picture = new Promise<VideoFrame>((resolve, reject) => {
    setTimeout(() => reject(new Error("no picture in time")), PROBE_MS);
    decoder = new VideoDecoder({ output: resolve, error: reject });
    decoder.configure({ codec, colorSpace, optimizeForLatency: true });
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    decoder.decode(new EncodedVideoChunk({ type: "key", timestamp: 0, data: bytes }));
  });
  return picture.finally(() => decoder?.state !== "closed" && decoder?.close());
}
