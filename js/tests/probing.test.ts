import { expect, it } from "vitest";
import type { Command } from "../src/worker/messages";
import { Probing } from "../src/worker/probing";

function players(count: number) {
  return Array.from({ length: count }, () => {
    const heard: string[] = [];
    return { heard, post: (command: Command) => void heard.push(command.type === "offer" ? `offer ${command.video}` : command.type) };
  });
}

it("lets the first player find out, and tells the others, those that come later too", () => {
  const probing = new Probing();
  const [first, second, late] = players(3) as [any, any, any];
  probing.join(first.post);
  probing.join(second.post);
  expect([first.heard, second.heard]).toEqual([["probe"], []]);
  probing.found(["rfb/vp9"]);
  probing.join(late.post);
  expect([first.heard, second.heard, late.heard]).toEqual([["probe"], ["offer rfb/vp9"], ["offer rfb/vp9"]]);
});

it("lets the next one find out when the first has gone before it had an answer", () => {
  const probing = new Probing();
  const [first, second, third] = players(3) as [any, any, any];
  for (const { post } of [first, second, third]) probing.join(post);
  probing.leave(third.post);
  probing.leave(first.post);
  expect([second.heard, third.heard]).toEqual([["probe"], []]);
  probing.leave(first.post);
  probing.found([]);
  expect([first.heard, second.heard, third.heard]).toEqual([["probe"], ["probe"], []]);
});
