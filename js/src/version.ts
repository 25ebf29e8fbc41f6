// Put in by the build: the package's version, by which a bundle that a page has cached is told from the one its hub came with.

declare const __VERSION__: string | undefined;

export const VIEWER_VERSION = typeof __VERSION__ === "string" ? __VERSION__ : "0";
