// A page of many views, each with its own copy of the bundle, as notebooks load it for each widget.

const bundle = await (await fetch("widget.js")).blob();
const script = new Blob([bundle], { type: "text/javascript" });

window.bench = {
  states: [],

  /** A view of each of *addresses*. */
  open(addresses, token) {
    addresses.forEach(async (url, n) => {
      const parent = document.createElement("div");
      document.body.append(parent);
      const { RemoteFramebufferView } = await import(URL.createObjectURL(script));
      new RemoteFramebufferView(parent, { url, token, height: 240, onState: (state) => (this.states[n] = state) });
    });
  },

  /** How many of the first *count* views have a picture. */
  pictures: (count) => [...document.querySelectorAll(".rfb-canvas")].slice(0, count).filter((one) => one.matches(".rfb-has-picture")).length,

  live: () => bench.states.filter((state) => state === "live").length,
};
