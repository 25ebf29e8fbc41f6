/** Throws with *message* when what must hold at a boundary doesn't. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(message);
}
