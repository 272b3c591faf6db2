/** A page that runs conformance vectors for whoever drives it. */
import { Registry } from "thread-budget";
import { measure, run } from "../../node/conformance/run.mjs";

Object.assign(globalThis, {
  runVectors(vectors: unknown[]) {
    // First, as in Node: calls slow down once a page has had many registries.
    const nanoseconds_per_call = measure(Registry);
    return { ...run(Registry, vectors), nanoseconds_per_call };
  },
});
