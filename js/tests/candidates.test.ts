import { describe, expect, it } from "vitest";
import { candidatesFor, type PageEnvironment, type Place, withoutSecrets } from "../src/net/candidates";

const HUB = "0123456789abcdef";
const place = (more: Partial<Place> = {}): Place => ({
  url: "",
  host: "127.0.0.1",
  port: 5000,
  stream: "cell 1",
  hubId: HUB,
  basePath: "",
  kernelBase: "",
  ...more,
});
const page = (more: Partial<PageEnvironment> = {}): PageEnvironment => ({
  origin: "http://localhost:8888",
  href: "http://localhost:8888/lab",
  local: true,
  bases: ["/"],
  token: "",
  colab: "",
  last: "",
  ...more,
});
const remote = { origin: "https://hub.example", href: "https://hub.example/user/a/lab", local: false, bases: ["/user/a/"] };
const urls = (...args: Parameters<typeof candidatesFor>) => candidatesFor(...args).map(({ url }) => url);
const names = (...args: Parameters<typeof candidatesFor>) => candidatesFor(...args).map(({ name }) => name);

describe("candidatesFor", () => {
  it("is only the url where the user gave one, made a WebSocket's and absolute", () => {
    expect(candidatesFor(place({ url: "wss://x/y" }), page())).toEqual([{ name: "url", url: "wss://x/y", proof: false }]);
    expect(urls(place({ url: "/rfb/s" }), page(remote))).toEqual(["wss://hub.example/rfb/s"]);
    expect(urls(place({ url: "http://x/s" }), page())).toEqual(["ws://x/s"]);
  });

  it("begins with loopback where the page is local, then goes through the page's server", () => {
    expect(candidatesFor(place(), page())).toEqual([
      { name: "direct", url: "ws://127.0.0.1:5000/cell%201", proof: true },
      { name: "route", url: `ws://localhost:8888/pdum-rfb/${HUB}/cell%201`, proof: false },
      { name: "proxy", url: "ws://localhost:8888/proxy/5000/cell%201", proof: true },
    ]);
    expect(urls(place({ host: "::1" }), page())[0]).toBe("ws://[::1]:5000/cell%201");
    expect(urls(place({ host: "auto" }), page())[0]).toBe("ws://127.0.0.1:5000/cell%201");
  });

  it("never means the viewer's own machine by a page from another one", () => {
    expect(urls(place(), page(remote))).toEqual([
      `wss://hub.example/user/a/pdum-rfb/${HUB}/cell%201`,
      "wss://hub.example/user/a/proxy/5000/cell%201",
    ]);
  });

  it("goes straight to a host that the user named", () => {
    expect(urls(place({ host: "box.example" }), page(remote))[0]).toBe("wss://box.example:5000/cell%201");
  });

  it("needs no port for the route", () => {
    expect(names(place({ port: 0 }), page())).toEqual(["route"]);
  });

  it("tries the route again with the page's token, and never tells the hub's", () => {
    const candidates = candidatesFor(place(), page({ token: "a&b" }));
    expect(candidates.map(({ name }) => name)).toEqual(["direct", "route", "token", "proxy"]);
    expect(candidates[2]!.url).toBe(`ws://localhost:8888/pdum-rfb/${HUB}/cell%201?token=a%26b`);
    expect(withoutSecrets(candidates[2]!.url)).toBe(`ws://localhost:8888/pdum-rfb/${HUB}/cell%201`);
    expect(withoutSecrets("ws://user:pass@x/y#z")).toBe("ws://x/y");
  });

  it("tries every base once, the page's own first", () => {
    const bases = urls(place({ port: 0, kernelBase: "/k/" }), page({ bases: ["/a/", "/", "/a"] }));
    expect(bases).toEqual(["/a/", "/", "/k/"].map((base) => `ws://localhost:8888${base}pdum-rfb/${HUB}/cell%201`));
  });

  it("finds a hub that is mounted at base_path, and takes it for the server's base too", () => {
    const candidates = candidatesFor(place({ port: 0, basePath: "/rfb" }), page({ bases: [] }));
    expect(candidates.map(({ url }) => url)).toEqual([
      `ws://localhost:8888/rfb/pdum-rfb/${HUB}/cell%201`,
      "ws://localhost:8888/rfb/cell%201",
    ]);
  });

  it("has only loopback and Colab's proxy where the page has no server of its own", () => {
    expect(names(place({ kernelBase: "/k/" }), page({ origin: "", href: "vscode-webview://x/" }))).toEqual(["direct"]);
    const colab = page({ origin: "", local: false, bases: [], href: "https://x.googleusercontent.com/", colab: "https://y-5000.example" });
    expect(candidatesFor(place(), colab)).toEqual([{ name: "colab", url: "wss://y-5000.example/cell%201", proof: true }]);
  });

  it("asks no proof of a hub without an id, and only where the user named it", () => {
    expect(candidatesFor(place({ hubId: "" }), page())).toEqual([{ name: "direct", url: "ws://127.0.0.1:5000/cell%201", proof: false }]);
  });

  it("says which word of the user's is no address", () => {
    expect(() => candidatesFor(place({ url: "ws://[x/s" }), page())).toThrow("ws://[x/s is no address. Pass one to widget()");
    expect(() => candidatesFor(place({ port: 0, basePath: "https://[x" }), page())).toThrow("https://[x/ is no address.");
  });

  it("begins with what worked last", () => {
    expect(names(place(), page({ last: "proxy" }))).toEqual(["proxy", "direct", "route"]);
  });
});
