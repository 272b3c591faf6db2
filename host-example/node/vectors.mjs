// Runs the conformance vectors on Node: `node vectors.mjs COMPONENT VECTORS`.
import { fileURLToPath } from "node:url";
import { bundlePackage } from "./build.mjs";
import { command } from "./conformance/command.mjs";
import { measure, run } from "./conformance/run.mjs";

await command(async (component, vectors) => {
  const module = new URL("build/vectors/index.js", import.meta.url);
  await bundlePackage(component, fileURLToPath(module));
  const { Registry } = await import(module);
  // First: one registry is the usual case, and calls take several times as long once a process has had many.
  const nanoseconds_per_call = measure(Registry);
  return { host: `Node ${process.versions.node}, jco`, ...run(Registry, vectors), nanoseconds_per_call };
});
