// The page's Content-Security-Policy: the one script address that this code needs, and what was refused to it.

/** What a policy's `trusted-types` must list where it lists any. */
export const TRUSTED_NAME = "pdum_rfb_widget";
/** Browsers report a refusal in a task of its own, after they have refused. */
const REPORT_MS = 200;
const LOOK_MS = 10;
const MOST_REFUSALS = 100;

interface TrustedPolicy {
  createScriptURL(input: string): string;
}

interface TrustedTypes {
  trustedTypes?: { createPolicy(name: string, rules: { createScriptURL(): string }): TrustedPolicy };
}

/**
 * *make*, whose addresses scripts may be loaded from where the page requires trusted types. The rule takes no input, so no other
 * script can pass an address of its own through it. Where the page allows no rule of this name, the addresses are plain.
 */
export function trusted(make: () => string): () => string {
  let policy: TrustedPolicy | null | undefined;
  return () => {
    policy = policy === undefined ? newPolicy(make) : policy;
    return policy ? policy.createScriptURL("") : make();
  };
}

function newPolicy(createScriptURL: () => string): TrustedPolicy | null {
  try {
    return (globalThis as TrustedTypes).trustedTypes?.createPolicy(TRUSTED_NAME, { createScriptURL }) ?? null;
  } catch {
    return null;
  }
}

/** Of this thread: a worker is told of its own, and the page of the page's. */
const refusals: { directive: string; address: string }[] = [];

globalThis.addEventListener?.("securitypolicyviolation", ({ disposition, effectiveDirective, blockedURI }) => {
  if (disposition !== "enforce") return;
  refusals.push({ directive: effectiveDirective, address: blockedURI });
  if (refusals.length > MOST_REFUSALS) refusals.shift();
});

/** Which of *directives* refused *address*, or anything where that is empty, once the browser has reported it; null if it doesn't. */
export async function refusedBy(directives: string[], address = ""): Promise<string | null> {
  for (let waited = 0; waited <= REPORT_MS; waited += LOOK_MS) {
    // Some browsers report no more than the scheme or the origin.
    const found = refusals.find((one) => directives.includes(one.directive) && (!address || address.startsWith(one.address)));
    if (found) return found.directive;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  return null;
}
