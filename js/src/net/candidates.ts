// The addresses at which a page may reach a hub, in the order in which they are tried: candidates, as ICE calls them. Pure functions.

/**
 * `url`: the address that the user gave. `direct`: the hub's own port. `route`: our extension of the page's server; `token`: the
 * same, let in by the page's token. `path`: where the user has mounted the hub. `proxy`: jupyter-server-proxy. `colab`: its proxy.
 */
export type CandidateName = "url" | "direct" | "route" | "token" | "path" | "proxy" | "colab";

export interface Candidate {
  name: CandidateName;
  /** ws or wss, absolute: a worker made of a Blob has no address that others could be relative to. */
  url: string;
  /** Who answers there must prove that it is the hub before it gets the token. */
  proof: boolean;
}

/** What the kernel says of the hub. */
export interface Place {
  url: string;
  host: string;
  /** 0 where the hub has no TCP listener. */
  port: number;
  stream: string;
  hubId: string;
  /** Where the user says that the page's server has its base, or the hub is mounted. */
  basePath: string;
  /** The base that the kernel knows. */
  kernelBase: string;
}

/** What a person needs who has to forward a port. */
export interface Whereabouts {
  stream: string;
  /** The hub's; 0 where it has none. */
  port: number;
  /** The name of the machine that the hub runs on; empty where it doesn't say. */
  machine: string;
  /** The page comes from the machine that the browser runs on. */
  local: boolean;
}

/** What the page knows of itself; see notebook/page_environment.ts. */
export interface PageEnvironment {
  /** `https://host:port`; empty where the page has none that serves WebSockets. */
  origin: string;
  /** Its address, for those relative to it. */
  href: string;
  /** It comes from the machine that the browser runs on. */
  local: boolean;
  /** Paths or addresses where its notebook server may have its base, the likeliest first. */
  bases: string[];
  /** The notebook server's own token, which the page may know. */
  token: string;
  /** Where Colab's proxy has the hub's port. */
  colab: string;
  /** The one that worked last. */
  last: CandidateName | "";
}

/** How a viewer gets to a stream; what the worker needs to try. */
export interface Target extends Whereabouts {
  candidates: Candidate[];
  hubId: string;
  hubKey: string;
  token: string;
  /** A notebook's cell shows it, which can be run again. */
  cell?: boolean;
}

const LOOPBACK = ["localhost", "127.0.0.1", "[::1]", "::1"];

/** Whether *host* surely means the machine that asks. */
export function isLoopback(host: string): boolean {
  return LOOPBACK.includes(host);
}

/**
 * The candidates to *place*, the likeliest first, but the one that worked last before all others. Hubs without an id know only the
 * base protocol, and can prove nothing: they are believed where the user has named them.
 */
export function candidatesFor(place: Place, page: PageEnvironment): Candidate[] {
  if (place.url) return [{ name: "url", url: socketUrl(place.url, page.href), proof: false }];
  const stream = encodeURIComponent(place.stream);
  const candidates: Candidate[] = [];
  const add = (name: CandidateName, url: string, proof: boolean) => {
    if (!candidates.some((candidate) => candidate.url === url)) candidates.push({ name, url, proof });
  };
  const proof = !!place.hubId;
  const direct = place.port && directHost(place.host, page);
  if (direct) add("direct", `${direct}:${place.port}/${stream}`, proof);
  const bases = page.origin ? basesOf(place, page) : [];
  const routes = place.hubId ? bases.map((base) => `${base}pdum-rfb/${place.hubId}/${stream}`) : [];
  for (const url of routes) add("route", url, false);
  if (page.token) for (const url of routes) add("token", `${url}?token=${encodeURIComponent(page.token)}`, false);
  if (page.origin && place.basePath) add("path", `${asBase(place.basePath, page)}${stream}`, proof);
  if (place.port && proof) for (const base of bases) add("proxy", `${base}proxy/${place.port}/${stream}`, true);
  if (page.colab && proof) add("colab", `${asBase(page.colab, page)}${stream}`, true);
  return candidates.sort((a, b) => Number(b.name === page.last) - Number(a.name === page.last));
}

/** *url* without what it may hold of secrets. */
export function withoutSecrets(url: string): string {
  return url.replace(/[?#].*$/, "").replace(/\/\/[^/]*@/, "//");
}

/** Loopback is tried from this machine's own pages only: elsewhere it would be the viewer's machine, not the kernel's. */
function directHost(host: string, page: PageEnvironment): string | null {
  const bare = !host || host === "auto" ? "127.0.0.1" : host;
  const bracketed = bare.includes(":") ? `[${bare}]` : bare;
  if (isLoopback(bare)) return page.local ? `ws://${bracketed}` : null;
  return `${page.origin.startsWith("https:") ? "wss" : "ws"}://${bracketed}`;
}

function basesOf(place: Place, page: PageEnvironment): string[] {
  const paths = [...page.bases, place.basePath, place.kernelBase].filter(Boolean);
  return [...new Set(paths.map((path) => asBase(path, page)))];
}

/** A path or address as one of WebSockets that ends with a slash. */
function asBase(path: string, page: PageEnvironment): string {
  return socketUrl(path.endsWith("/") ? path : `${path}/`, page.origin || page.href);
}

function socketUrl(url: string, base: string): string {
  try {
    return new URL(url, base).href.replace(/^http/, "ws");
  } catch {
    throw new Error(`${url} is no address. Pass one to widget() as the browser reaches it, such as url='wss://host/path'.`);
  }
}
