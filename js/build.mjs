// One ESM bundle, with the worker and the style sheet inlined as text, and its types.
import { readFileSync } from "node:fs";
import { build } from "esbuild";
import { writeDeclarations } from "./declarations.mjs";

const target = "es2022";
const [, version] = readFileSync("../pyproject.toml", "utf8").match(/^version = "(.+)"$/m);
const define = { __VERSION__: JSON.stringify(version) };

const inlined = {
  name: "inlined",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^inline:/ }, ({ path, resolveDir }) => ({
      path: new URL(path.slice("inline:".length), `file://${resolveDir}/`).pathname,
      namespace: "inlined",
    }));
    onLoad({ filter: /.*/, namespace: "inlined" }, async ({ path }) => {
      const result = await build({ entryPoints: [path], bundle: true, minify: true, format: "iife", target, write: false, charset: "utf8", define });
      return { contents: result.outputFiles[0].text, loader: "text", watchFiles: [path] };
    });
  },
};

await build({
  entryPoints: ["src/notebook/widget.ts"],
  outfile: "../pdum_rfb_widget/static/widget.js",
  bundle: true,
  minify: true,
  format: "esm",
  target,
  charset: "utf8",
  define,
  plugins: [inlined],
  logLevel: "warning",
});
writeDeclarations("../pdum_rfb_widget/static/widget.d.ts");
