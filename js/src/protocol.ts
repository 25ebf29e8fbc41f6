// The wire protocol, the viewer's side: messages from the hub, and to it. Pure functions.

import { assert } from "./assert";
import type { InputEvent } from "./input_events";

interface FrameHeader {
  seq: number;
  /** Of the whole picture. */
  width: number;
  height: number;
  pixel_ratio?: number;
  color?: Color;
}

/** What the numbers of a picture mean; absent where that is sRGB. Names are WebCodecs', but `srgb` for its `iec61966-2-1`. */
export interface Color {
  primaries: string;
  transfer: string;
}

/** How the hub announces a whole picture. */
export interface ImageHeader extends FrameHeader {
  type: "image_frame";
  mime: string;
}

/** How it announces rectangles to be drawn together: x, y, width, height, mime type and bytes of each. */
export interface TilesHeader extends FrameHeader {
  type: "tiles";
  parts: [number, number, number, number, string, number][];
  /** It makes exact what was shown already: no frame. */
  still?: boolean;
}

/** How it announces one access unit of video. */
export interface VideoHeader extends FrameHeader {
  type: "video_chunk";
  codec: string;
  bitstream: string;
  keyframe: boolean;
  /** What of the decoded frame is drawn: x, y, width, height of each; absent for all of it. */
  rects?: Box[];
  /** `seq` of the chunk that it refers to. */
  after?: number;
}

/** x, y, width, height */
export type Box = [number, number, number, number];

/** One encoded rectangle of the picture. */
export interface Part {
  x: number;
  y: number;
  width: number;
  height: number;
  mime: string;
  data: Uint8Array<ArrayBuffer>;
}

/** A part of a message that comes in several; the next bytes of message *of*, be that text or binary. */
export interface PieceHeader {
  type: "piece";
  piece: number;
  of: number;
  text: boolean;
  last: boolean;
}

/** Bytes on one of the application's channels. */
export interface MessageHeader {
  type: "message";
  channel: string;
}

/** A payload of a type that this viewer may or may not know. */
export type Header = ImageHeader | TilesHeader | VideoHeader | PieceHeader | MessageHeader | { type: string };

export interface Config {
  type: "config";
  transport: string;
  width: number;
  height: number;
  pixel_ratio?: number;
  color?: Color;
  /** Pictures have an alpha channel. */
  alpha?: boolean;
  /** Who answers, and of which version; hubs that know only the base protocol don't say. */
  hub?: string;
  version?: string;
  /** `match_client` where frames are made for the box of a viewer. */
  resize_policy?: string;
  /** What this viewer's user does goes nowhere. */
  view_only?: boolean;
  /** What both sides know beyond the base. */
  features?: string[];
  /** The most that a message of the application's may hold. */
  channel_bytes?: number;
}

/** The hub's answer to a hello without a token, see net/proof.ts. */
export interface Proof {
  type: "proof";
  nonce: string;
  mac: string;
}

export interface Stats {
  type: "stats";
  rtt_ms?: number;
  encode_ms?: number;
  target_bitrate?: number;
  target_fps?: number;
}

/** What the hub aims at from now on. */
export interface Targets {
  type: "set_quality";
  bitrate?: number;
  fps?: number;
}

/** On one of the application's channels. */
export interface Message {
  type: "message";
  channel: string;
  data: unknown;
}

/** How the pointer looks over the picture; null is the default. */
export interface Cursor {
  type: "cursor";
  cursor: string | null;
}

/** What shall stand in the user's clipboard. */
export interface ClipboardText {
  type: "clipboard";
  text: string;
}

export type HubMessage = Config | Proof | Stats | Targets | Message | Cursor | ClipboardText | { type: string };

export interface Hello {
  type: "hello";
  supported: string[];
  device_pixel_ratio: number;
  token?: string;
  nonce?: string;
  /** Why no video is among *supported*, for people to read. */
  no_video?: string;
}

export type ViewerMessage =
  | Hello
  | { type: "set_viewport"; width: number; height: number; pwidth: number; pheight: number; ratio: number }
  | { type: "ack"; seq: number; decode_queue_size: number; displayed: true; draw_ms: number; wait_ms: number }
  | { type: "request_keyframe"; reason: string }
  | { type: "decoder_reset" }
  | { type: "got"; piece: number }
  | { type: "event"; event: InputEvent };

/** What every browser shows; what it decodes of video is found out, see decode/probe.ts. */
export const SUPPORTED = ["image/jpeg", "image/png", "image/webp", "rfb/tiles", "rfb/channels", "rfb/clipboard"];

const CHANNEL = /^[A-Za-z0-9._~-]{1,64}$/;
const BITSTREAMS = ["annexb", "vp9", "av1"];

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Header and payload of one binary message; the payload is a view, not a copy. */
export function unpack(message: ArrayBuffer): [Header, Uint8Array<ArrayBuffer>] {
  assert(message.byteLength >= 4, "the hub sent a binary message that is cut short");
  const start = 4 + new DataView(message).getUint32(0, true);
  assert(start <= message.byteLength, "the hub sent a binary message that is cut short");
  const header: unknown = JSON.parse(utf8.decode(new Uint8Array(message, 4, start - 4)));
  assert(isTyped(header), "the hub sent a payload without a type");
  return [header, new Uint8Array(message, start)];
}

/** The inverse of `unpack`, as bytes. */
export function pack(header: Header, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(JSON.stringify(header));
  const message = new Uint8Array(4 + text.length + payload.length);
  new DataView(message.buffer).setUint32(0, text.length, true);
  message.set(text, 4);
  message.set(payload, 4 + text.length);
  return message;
}

/** A message of the application's: bytes as they are, all else as JSON. Throws where it can't be sent, or is too long. */
export function channelMessage(channel: string, data: unknown, most: number): string | Uint8Array<ArrayBuffer> {
  if (!CHANNEL.test(channel)) {
    throw new TypeError(`a channel's name is 1 to 64 letters, digits, '.', '_', '~' or '-', not ${JSON.stringify(channel)}`);
  }
  const bytes = data instanceof ArrayBuffer ? new Uint8Array(data) : ArrayBuffer.isView(data) ? bytesOf(data) : null;
  const json = bytes ? "" : JSON.stringify(data);
  if (json === undefined) throw new TypeError(`what goes to ${channel} is bytes, or what JSON can say, not ${typeof data}`);
  const size = bytes?.length ?? new TextEncoder().encode(json).length;
  if (size > most) throw new RangeError(`a message holds at most ${most} bytes, not ${size}`);
  return bytes ? pack({ type: "message", channel }, bytes) : `{"type":"message","channel":"${channel}","data":${json}}`;
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** The hub's text message. */
export function parse(text: string): HubMessage {
  const message: unknown = JSON.parse(text);
  assert(isTyped(message), "the hub sent a message without a type");
  return message;
}

export function isPicture(header: Header): header is ImageHeader | TilesHeader {
  return header.type === "image_frame" || header.type === "tiles";
}

/** The header, if it announces video; throws where it is not what it must be. */
export function asVideo(header: Header): VideoHeader | null {
  if (header.type !== "video_chunk") return null;
  const chunk = header as VideoHeader;
  const { seq, width, height, codec, bitstream, keyframe, rects, after } = chunk;
  assert([seq, after ?? 0].every(isCount), "the hub sent a video chunk without a number");
  assert(isCount(width) && isCount(height) && width && height, "the hub sent a video chunk without a size");
  assert(typeof codec === "string" && typeof keyframe === "boolean", "the hub sent a video chunk without its codec or kind");
  assert(BITSTREAMS.includes(bitstream), `the hub sent video as ${bitstream}, which this viewer doesn't know`);
  const inside = !rects || (Array.isArray(rects) && rects.every((box) => lies(box, width, height)));
  assert(inside, "the hub sent rectangles beside the picture");
  return chunk;
}

function lies(box: Box, width: number, height: number): boolean {
  if (!Array.isArray(box) || box.length !== 4 || !box.every(isCount)) return false;
  const [x, y, w, h] = box;
  return w > 0 && h > 0 && x + w <= width && y + h <= height;
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** What the header announces, each part with its bytes of the payload. */
export function partsOf(header: ImageHeader | TilesHeader, payload: Uint8Array<ArrayBuffer>): Part[] {
  if (header.type === "image_frame") {
    const { width, height, mime } = header;
    return [{ x: 0, y: 0, width, height, mime, data: payload }];
  }
  let end = 0;
  const parts = header.parts.map(([x, y, width, height, mime, bytes]) => {
    const start = end;
    end += bytes;
    return { x, y, width, height, mime, data: payload.subarray(start, end) };
  });
  assert(end === payload.byteLength, "the hub sent rectangles that are cut short");
  return parts;
}

export function isConfig(message: HubMessage): message is Config {
  return message.type === "config";
}

export function isProof(message: HubMessage): message is Proof {
  return message.type === "proof" && typeof (message as Proof).nonce === "string" && typeof (message as Proof).mac === "string";
}

export function isStats(message: HubMessage): message is Stats {
  return message.type === "stats";
}

export function isTargets(message: HubMessage): message is Targets {
  return message.type === "set_quality";
}

export function isMessage(message: HubMessage): message is Message {
  return message.type === "message" && typeof (message as Message).channel === "string" && "data" in message;
}

export function isBytes(header: Header): header is MessageHeader {
  return header.type === "message" && typeof (header as MessageHeader).channel === "string";
}

/** A keyword, or null: what else CSS takes may name an address. */
export function isCursor(message: HubMessage): message is Cursor {
  const { cursor } = message as Cursor;
  return message.type === "cursor" && (cursor === null || (typeof cursor === "string" && /^[a-z-]+$/.test(cursor)));
}

export function isClipboardText(message: HubMessage): message is ClipboardText {
  return message.type === "clipboard" && typeof (message as ClipboardText).text === "string";
}

/** The header, if it announces a piece; throws where it is not what it must be. */
export function asPiece(header: Header): PieceHeader | null {
  if (header.type !== "piece") return null;
  const piece = header as PieceHeader;
  assert(isCount(piece.piece) && isCount(piece.of) && typeof piece.last === "boolean", "the hub sent a piece of nothing");
  return piece;
}

function isTyped(value: unknown): value is { type: string } {
  return typeof value === "object" && value !== null && typeof (value as { type?: unknown }).type === "string";
}
