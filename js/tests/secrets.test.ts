import { beforeEach, describe, expect, it } from "vitest";
import { store } from "../src/net/store";
import { secretsOf, send, takeSecrets, toKernel } from "../src/notebook/secrets";
import { asModel, FakeModel } from "./model";

const KNOWN = { token: "t", hubKey: "k" };

beforeEach(() => store.secrets.clear());

describe("takeSecrets", () => {
  it("moves them from the model to the page, without saving the model", () => {
    const model = new FakeModel({ token: "t", hub_key: "k" });
    expect(takeSecrets(asModel(model))).toBe(true);
    expect([model.get("token"), model.get("hub_key"), model.saves]).toEqual(["", "", 0]);
    expect(store.secrets.get("hub")).toEqual(KNOWN);
  });

  it("says whether anything is new, and keeps what it knows where the model has nothing", () => {
    const model = new FakeModel({ token: "t", hub_key: "k" });
    takeSecrets(asModel(model));
    expect([takeSecrets(asModel(model)), takeSecrets(asModel(new FakeModel({ token: "t" })))]).toEqual([false, false]);
    expect(takeSecrets(asModel(new FakeModel({ token: "newer" })))).toBe(true);
    expect(store.secrets.get("hub")).toEqual({ token: "newer", hubKey: "k" });
  });

  it("keeps those of each hub apart, by id or by address", () => {
    for (const traits of [{ hub_id: "a" }, { hub_id: "", url: "ws://x/s" }, { hub_id: "", port: 7 }]) {
      takeSecrets(asModel(new FakeModel({ ...traits, token: JSON.stringify(traits) })));
    }
    expect([...store.secrets.keys()]).toEqual(["a", "ws://x/s", "127.0.0.1:7"]);
  });
});

describe("secretsOf", () => {
  it("is what the page knows already", async () => {
    store.secrets.set("hub", KNOWN);
    const model = new FakeModel();
    expect(await secretsOf(asModel(model))).toEqual(KNOWN);
    expect(model.sent).toEqual([]);
  });

  it("asks the kernel where the page knows nothing, once for all later views", async () => {
    const model = new FakeModel();
    const secrets = secretsOf(asModel(model));
    expect(model.sent).toEqual([{ type: "where" }]);
    model.receive({ type: "status" });
    model.receive({ type: "where", token: "t", hub_key: "k" });
    expect([await secrets, await secretsOf(asModel(new FakeModel()))]).toEqual([KNOWN, KNOWN]);
    expect(model.listeners).toBe(0);
  });

  it("is nothing for a hub that isn't ours, which has none", async () => {
    expect(await secretsOf(asModel(new FakeModel({ hub_id: "", url: "ws://x/s" })))).toEqual({ token: "", hubKey: "" });
  });
});

it("doesn't fail where the kernel is gone, whether the host throws or breaks a promise", async () => {
  const model = new FakeModel();
  model.send = () => {
    throw new Error("no kernel");
  };
  send(asModel(model), { type: "where" });
  toKernel(() => Promise.reject(new Error("no kernel")));
  await new Promise((resolve) => setTimeout(resolve)); // a rejection that nobody takes would fail the run
});
