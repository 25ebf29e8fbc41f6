import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Turns } from "../src/net/turns";

let turns: Turns;
let went: string[];

const take = (name: string, urgent = () => true) => turns.take(urgent, () => went.push(name));

beforeEach(() => {
  vi.useFakeTimers();
  [turns, went] = [new Turns(), []];
});

afterEach(() => vi.useRealTimers());

it("lets one go at a time, those first that are urgent by then", () => {
  let seen = false;
  const end = take("first");
  take("hidden", () => false);
  take("shown meanwhile", () => seen);
  take("shown");
  expect(went).toEqual(["first"]);
  seen = true;
  end();
  end();
  expect(went).toEqual(["first", "shown meanwhile"]);
});

it("waits a quarter of a second for one that takes long, and not for one that has left", () => {
  take("slow");
  const leave = take("gone");
  take("next");
  leave();
  vi.advanceTimersByTime(249);
  expect(went).toEqual(["slow"]);
  vi.advanceTimersByTime(1);
  expect(went).toEqual(["slow", "next"]);
});
