// Runs the conformance vectors in a page: `node vectors.mjs COMPONENT VECTORS`.
import { fileURLToPath } from "node:url";
import { command } from "../node/conformance/command.mjs";
import { launch } from "./browser.mjs";
import { loadPackageBuild, writePage } from "./build.mjs";

await command(async (component, vectors) => {
  const packageFile = fileURLToPath(new URL("build/thread-budget.js", import.meta.url));
  const page = new URL("build/vectors.html", import.meta.url);
  const { bundlePackage } = await loadPackageBuild();
  await bundlePackage(component, packageFile);
  const html = "<!doctype html><!-- policy --><title>vectors</title><!-- script -->";
  await writePage({ html, script: "src/vectors.ts", outfile: fileURLToPath(page), packageFile });

  const browser = await launch();
  try {
    const tab = await browser.newPage();
    await tab.goto(page.href);
    const report = await tab.evaluate((vectors) => globalThis.runVectors(vectors), vectors);
    return { host: `Chromium ${browser.version()}, jco`, ...report };
  } finally {
    await browser.close();
  }
});
