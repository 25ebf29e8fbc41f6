// widget.d.ts: the types of what a page can import from the bundle. tsc declares every module; the declarations that the
// exports below need, directly or not, are joined into one file.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, posix } from "node:path";

const EXPORTS = [["ui/view", "RemoteFramebufferView"]];
const HEADER = "// Types of widget.js, made from its sources.\n\n";
const FOOTER = "\n/** The widget for hosts of anywidget. */\ndeclare const widget: object;\nexport default widget;\n";

/** Write the declarations to *outfile*. */
export function writeDeclarations(outfile) {
  const folder = mkdtempSync(join(tmpdir(), "declarations-"));
  try {
    const options = ["-p", "tsconfig.declarations.json", "--outDir", folder];
    execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", ...options], { stdio: "inherit" });
    const modules = new Map();
    const load = (name) => {
      if (!modules.has(name)) modules.set(name, read(name, readFileSync(join(folder, `${name}.d.ts`), "utf8")));
      return modules.get(name);
    };
    writeFileSync(outfile, HEADER + closure(load).join("\n") + FOOTER);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The texts of all declarations that the exports need. */
function closure(load) {
  const found = new Map();
  const visit = (module, name) => {
    const { declared, imported } = load(module);
    const text = declared.get(name);
    if (found.get(name) === text) return;
    if (found.has(name)) throw new Error(`two types are called ${name}, which must differ to be in one file`);
    found.set(name, text);
    for (const word of new Set(text.replace(/\/\*[^]*?\*\//g, "").match(/\b[A-Z]\w*/g))) {
      if (declared.has(word)) visit(module, word);
      else if (imported.has(word)) visit(imported.get(word), word);
    }
  };
  for (const [module, name] of EXPORTS) visit(module, name);
  return [...found.values()];
}

/** What tsc's declarations of one module declare, each with its comment, and the modules of the names that it imports. */
function read(module, text) {
  const [declared, imported] = [new Map(), new Map()];
  for (const [, names, from] of text.matchAll(/^import (?:type )?\{ (.+) \} from "(\..+)";$/gm)) {
    for (const name of names.split(", ")) imported.set(name.replace(/^type /, ""), posix.join(posix.dirname(module), from));
  }
  // A declaration ends at the first line that isn't indented and closes it.
  const declaration = /^(?:\/\*\*(?:(?!\*\/)[^])*\*\/\n)?(?:export )?(?:declare )?(?:class|interface|type) (\w+)(?:.*;$|[^]*?^(?:\}|\S.*;)$)/gm;
  for (const [whole, name] of text.matchAll(declaration)) declared.set(name, `${whole}\n`);
  return { declared, imported };
}
