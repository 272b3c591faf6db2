// Makes the page: `node build.mjs [COMPONENT]`. Everything goes into one file, dist/index.html, that needs
// neither a server nor a network; its policy forbids it to open a connection.
import { build as bundle } from "esbuild";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const nodePackage = join(here, "../node");

/** The npm package's own build, which the page is made of; its tools are installed when they are not. */
export async function loadPackageBuild() {
  if (!existsSync(join(nodePackage, "node_modules"))) {
    const npm = spawnSync("npm", ["ci"], { cwd: nodePackage, stdio: ["ignore", 2, 2] });
    if (npm.status !== 0) throw new Error("npm could not install the tools of ../node: see its messages above");
  }
  return import("../node/build.mjs");
}

/** A page with its script and style inside. */
export async function writePage({ html, script, style, outfile, packageFile }) {
  const code = await output({ entryPoints: [join(here, script)], format: "esm", alias: packageFile && { "thread-budget": packageFile } });
  const css = style ? await output({ entryPoints: [join(here, style)] }) : "";
  const policy = [
    "default-src 'none'",
    `script-src '${hash(code)}' 'wasm-unsafe-eval'`,
    `style-src '${hash(css)}'`,
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
  const page = html
    .replace("<!-- policy -->", `<meta http-equiv="content-security-policy" content="${policy}">`)
    .replace("<!-- style -->", () => `<style>${css}</style>`)
    .replace("<!-- script -->", () => `<script type="module">${code}</script>`);
  await mkdir(dirname(outfile), { recursive: true });
  await writeFile(outfile, page);
}

async function output(options) {
  const { outputFiles } = await bundle({ ...options, bundle: true, minify: true, target: "es2022", write: false, logLevel: "warning" });
  return outputFiles[0].text.trim();
}

function hash(text) {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`;
}

async function main() {
  await loadPackageBuild();
  const built = spawnSync(process.execPath, [join(nodePackage, "build.mjs"), ...process.argv.slice(2)], { stdio: "inherit" });
  if (built.status !== 0) throw new Error("the npm package in ../node could not be built: see the message above");
  const outfile = join(here, "dist/index.html");
  const html = await readFile(join(here, "src/index.html"), "utf8");
  await writePage({ html, script: "src/main.ts", style: "src/style.css", outfile });
  console.log(relative(process.cwd(), outfile));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await main().catch((error) => {
    console.error(`error: ${error.message}`);
    process.exitCode = 1;
  });
}
