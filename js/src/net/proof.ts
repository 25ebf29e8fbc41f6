// How a hub proves that it is the one that the kernel named, before it gets the token: `rfb/proof` of the protocol.

import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, hexToBytes, randomBytes, utf8ToBytes } from "@noble/hashes/utils.js";

export const PROOF = "rfb/proof";

/** 16 random bytes as hex. */
export function newNonce(): string {
  return bytesToHex(randomBytes(16));
}

/** What the hub with this *hubKey*, in hex, answers: HMAC-SHA256, in hex. Pages over plain http have no `crypto.subtle`. */
export function macOf(hubKey: string, nonce: string, hubNonce: string, hubId: string, stream: string): string {
  return bytesToHex(hmac(sha256, hexToBytes(hubKey), utf8ToBytes([nonce, hubNonce, hubId, stream].join("\n"))));
}
