/** A module's bundle, or a file, as text; see build.mjs. */
declare module "inline:*" {
  const text: string;
  export default text;
}
