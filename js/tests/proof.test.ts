import { expect, it } from "vitest";
import { macOf, newNonce } from "../src/net/proof";

it("is the HMAC-SHA256 of both nonces, the hub and the stream, a line each", () => {
  // Made by Python's hmac.
  expect(macOf("00".repeat(32), "aa".repeat(16), "bb".repeat(16), "0123456789abcdef", "default")).toBe("503c3a5bbda49b78d323aebfff471c2a1531130380f4412dfd758ce70e8dfa44");
});

it("asks with another nonce each time", () => {
  expect(newNonce()).toMatch(/^[0-9a-f]{32}$/);
  expect(newNonce()).not.toBe(newNonce());
});
