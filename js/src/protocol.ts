// The wire, the viewer's side: what the hub says, and what it is told. Pure functions.

import { assert } from "./assert";

/** How the hub announces a picture. */
export interface ImageHeader {
  type: "image_frame";
  seq: number;
  width: number;
  height: number;
  mime: string;
  pixel_ratio?: number;
}

/** A payload of a type that this viewer may or may not know. */
export type Header = ImageHeader | { type: string };

export interface Config {
  type: "config";
  transport: string;
  width: number;
  height: number;
  pixel_ratio?: number;
}

export interface Stats {
  type: "stats";
  rtt_ms?: number;
  encode_ms?: number;
}

export type HubMessage = Config | Stats | { type: string };

export type InputEvent = { type: string } & Record<string, unknown>;

export type ViewerMessage =
  | { type: "hello"; supported: string[]; device_pixel_ratio: number; token?: string }
  | { type: "set_viewport"; width: number; height: number; pwidth: number; pheight: number; ratio: number }
  | { type: "ack"; seq: number; decode_queue_size: number; displayed: true }
  | { type: "request_keyframe"; reason: string }
  | { type: "decoder_reset" }
  | { type: "event"; event: InputEvent };

export const SUPPORTED = ["image/jpeg", "image/png", "image/webp"];

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

/** The hub's text message. */
export function parse(text: string): HubMessage {
  const message: unknown = JSON.parse(text);
  assert(isTyped(message), "the hub sent a message without a type");
  return message;
}

export function isImage(header: Header): header is ImageHeader {
  return header.type === "image_frame";
}

export function isConfig(message: HubMessage): message is Config {
  return message.type === "config";
}

export function isStats(message: HubMessage): message is Stats {
  return message.type === "stats";
}

function isTyped(value: unknown): value is { type: string } {
  return typeof value === "object" && value !== null && typeof (value as { type?: unknown }).type === "string";
}
