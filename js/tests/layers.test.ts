// The folders show the way of a frame and of an event. A module imports from its own folder, and from those that its folder may use.

import { expect, it } from "vitest";

declare global {
  interface ImportMeta {
    glob(pattern: string, options: { query: string; import: string; eager: true }): Record<string, string>;
  }
}

/** `.` is src itself: what every folder may use, and what uses nothing. */
const MAY_USE: Record<string, string[]> = {
  ".": [],
  net: ["."],
  decode: ["."],
  input: ["."],
  worker: [".", "net", "decode"],
  ui: [".", "net", "input", "worker"],
  notebook: [".", "net", "input", "worker", "ui"],
};

const sources = import.meta.glob("../src/**/*.ts", { query: "?raw", import: "default", eager: true });
/** The modules of src that each of them imports, as paths from src. */
const imports = new Map(
  Object.entries(sources).map(([path, text]) => {
    const module = path.slice("../src/".length).replace(/\.ts$/, "");
    const specifiers = [...text.matchAll(/\b(?:from|import) "(?:inline:)?(\.[^"]+)"/g)].map((match) => match[1]!);
    return [module, specifiers.filter((one) => !one.endsWith(".css")).map((one) => resolve(module, one))];
  }),
);

function resolve(module: string, specifier: string): string {
  return new URL(specifier, `file:///${module}`).pathname.slice(1).replace(/\.ts$/, "");
}

function folder(module: string): string {
  return module.includes("/") ? module.split("/")[0]! : ".";
}

it("sees every import", () => {
  expect(imports.size).toBeGreaterThan(40);
  expect(imports.get("worker/engine")).toEqual(expect.arrayContaining(["worker/main", "net/policy"]));
  for (const wanted of imports.values()) for (const module of wanted) expect([...imports.keys()]).toContain(module);
});

it("lets each folder use only those below it", () => {
  const wrong = [...imports].flatMap(([module, wanted]) => {
    const own = folder(module);
    expect(Object.keys(MAY_USE)).toContain(own);
    return wanted.filter((one) => folder(one) !== own && !MAY_USE[own]!.includes(folder(one))).map((one) => `${module} imports ${one}`);
  });
  expect(wrong).toEqual([]);
});

it("has no import cycle, of types neither", () => {
  const done = new Set<string>();
  const visit = (module: string, path: string[]): void => {
    if (path.includes(module)) throw new Error([...path, module].join(" -> "));
    if (done.has(module)) return;
    for (const one of imports.get(module) ?? []) visit(one, [...path, module]);
    done.add(module);
  };
  for (const module of imports.keys()) visit(module, []);
});
