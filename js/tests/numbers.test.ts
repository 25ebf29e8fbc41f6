import { expect, it } from "vitest";
import { button, buttons } from "../src/input/numbers";

it("numbers buttons as renderview does: 1 left, 2 right, 3 middle", () => {
  expect([-1, 0, 1, 2, 3, 4, 5, 6].map(button)).toEqual([0, 1, 3, 2, 4, 5, 6, 0]);
});

it("lists the buttons of the DOM's bit mask, whose order is renderview's", () => {
  expect(buttons(0)).toEqual([]);
  expect(buttons(1)).toEqual([1]);
  expect(buttons(2)).toEqual([2]);
  expect(buttons(4)).toEqual([3]);
  expect(buttons(0b10011)).toEqual([1, 2, 5]);
});
