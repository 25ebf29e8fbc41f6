import { expect, it } from "vitest";
import type { Decoded } from "../src/decode/pixels";
import { Queue } from "../src/decode/queue";

function picture(): Decoded & { closed: boolean } {
  return { closed: false, paint() {}, close() { this.closed = true; } };
}

function deferred() {
  let resolve!: (picture: Decoded) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<Decoded>((yes, no) => ([resolve, reject] = [yes, no]));
  return { promise, resolve, reject };
}

const settled = () => new Promise((resolve) => setTimeout(resolve));

it("shows in the order in which things came, whatever is decoded first, and goes on after a failure", async () => {
  const queue = new Queue();
  const shown: unknown[] = [];
  const all = [deferred(), deferred(), deferred()] as const;
  all.forEach(({ promise }, n) => queue.add(promise, () => shown.push([n, queue.waiting]), () => shown.push("failed")));
  expect(queue.waiting).toBe(3);
  const pictures = [picture(), picture()] as const;
  all[2].resolve(pictures[1]);
  await settled();
  expect(shown).toEqual([]);
  all[0].resolve(pictures[0]);
  all[1].reject(new Error("broken"));
  await settled();
  expect(shown).toEqual([[0, 2], "failed", [2, 0]]);
  expect(pictures.map(({ closed }) => closed)).toEqual([true, true]);
});

it("shows nothing that was there before it was told to forget, and closes it", async () => {
  const queue = new Queue();
  const shown: string[] = [];
  const [old, broken, fresh] = [deferred(), deferred(), deferred()];
  const pictures = [picture(), picture()] as const;
  queue.add(old.promise, () => shown.push("old"), () => shown.push("failed"));
  queue.add(broken.promise, () => shown.push("broken"), () => shown.push("failed"));
  queue.forget();
  queue.add(fresh.promise, () => shown.push("fresh"), () => shown.push("failed"));
  fresh.resolve(pictures[1]);
  await settled();
  expect(shown).toEqual(["fresh"]);
  old.resolve(pictures[0]);
  broken.reject(new Error("broken"));
  await settled();
  expect(shown).toEqual(["fresh"]);
  expect(queue.waiting).toBe(0);
  expect(pictures.map(({ closed }) => closed)).toEqual([true, true]);
});

it("closes what can't be shown, and says so once", async () => {
  const queue = new Queue();
  const one = picture();
  const errors: unknown[] = [];
  const show = () => { throw new Error("no canvas"); };
  queue.add(Promise.resolve(one), show, (error) => errors.push(error));
  await settled();
  expect(errors).toEqual([new Error("no canvas")]);
  expect(one.closed).toBe(true);
  expect(queue.waiting).toBe(0);
});
