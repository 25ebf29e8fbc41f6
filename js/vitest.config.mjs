// What the build inlines as text is empty here.
export default {
  plugins: [
    {
      name: "inlined",
      resolveId: (id) => (id.startsWith("inline:") ? `\0${id}` : null),
      load: (id) => (id.startsWith("\0inline:") ? 'export default "";' : null),
    },
  ],
};
