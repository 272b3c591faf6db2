// Makes the package: `node build.mjs [COMPONENT]`. The components become JavaScript (jco), the wrapper and
// they modules with no need for a file system or a network (esbuild), and the types are written (tsc).
import { transpileBytes } from "@bytecodealliance/jco-transpile";
import { $init, generateTypes } from "@bytecodealliance/jco-transpile/component";
import { build as bundle } from "esbuild";
import { spawnSync } from "node:child_process";
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));

/** Why a build stopped, in a line that says what to do. */
export class BuildError extends Error {}

/** The components that the Rust hosts ship: the registry, and the router's policy. */
const COMPONENT = join(here, "../rust/component/thread_budget.wasm");
const POLICY = join(here, "../serve/component/thread_budget_router.wasm");

/** The registry's component as a JavaScript module, of the contract that the package is written for. */
async function transpileRegistry(component) {
  const folder = join(here, "build/component");
  await transpile(component, folder, async (files) => {
    for (const [path, described] of await describedTypes()) {
      const differs = !files[path] || declarations(files[path]) !== declarations(described);
      if (differs) throw new BuildError(`${component} is not of the contract in wit/: ${path} differs`);
      files[path] = described;
    }
  });
}

/** A component as a JavaScript module that calls it, and a table of the core modules in it. */
async function transpile(component, folder, check = async () => {}) {
  const { files, imports } = await transpileBytes(await readFile(component), {
    name: "component",
    instantiation: "sync",
    wasiShim: false,
    nodejsCompat: false,
    noComponentErrorWrapping: true,
  }).catch((error) => {
    throw new BuildError(`${component} is not a component: ${error.message ?? error}`);
  });
  if (imports.length > 0) throw new BuildError(`${component} imports ${imports.join(", ")}; thread-budget imports nothing`);

  await check(files);
  await rm(folder, { recursive: true, force: true });
  for (const [path, bytes] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), bytes);
  }
  const cores = Object.keys(files).filter((path) => path.endsWith(".wasm"));
  const table = [
    ...cores.map((path, at) => `import core${at} from "./${path}";`),
    `export default { ${cores.map((path, at) => `"${path}": core${at}`).join(", ")} };`,
  ];
  await writeFile(join(folder, "cores.js"), table.join("\n"));
  await writeFile(join(folder, "cores.d.ts"), "declare const cores: Record<string, Uint8Array<ArrayBuffer>>;\nexport default cores;\n");
}

/** The types of the interfaces with what wit/ says of them: the component is built without its comments. */
async function describedTypes() {
  const folder = join(here, "../../wit");
  const names = (await readdir(folder)).filter((name) => name.endsWith(".wit"));
  const texts = await Promise.all(names.map((name) => readFile(join(folder, name), "utf8")));
  // As one text, which the name of the package has to begin.
  texts.sort((a, b) => Number(b.startsWith("package")) - Number(a.startsWith("package")));
  await $init;
  const wit = { tag: "source", val: texts.join("\n") };
  return generateTypes("component", { wit, world: "thread-budget" }).filter(([path]) => path.startsWith("interfaces/"));
}

/** Types without their comments, and without how a resource is disposed of: jco says so only where it reads wit/. */
function declarations(types) {
  const beside = /\/\*.*?\*\/| implements Disposable|\[Symbol\.dispose\]\(\): void;/gs;
  return new TextDecoder().decode(types).replace(beside, "").replace(/\s+/g, " ");
}

/** The package without its `fetch` as one module, `outfile`, with a component inside. */
export async function bundlePackage(component, outfile) {
  await transpileRegistry(component);
  await bundleFrom(["index.ts"], { outfile });
}

async function bundleFrom(sources, to) {
  await bundle({
    ...to,
    entryPoints: sources.map((source) => join(here, "src", source)),
    bundle: true,
    format: "esm",
    platform: "neutral",
    target: "es2022",
    minifySyntax: true,
    minifyWhitespace: true,
    loader: { ".wasm": "binary" },
    define: {
      // jco looks this variable up many times a call, which takes longer than all else it does.
      "globalThis.process.env.JCO_DEBUG": "undefined",
      // Asynchronous calls, which nothing here makes: `Object(f)` is `f`, the same as jco falls back to where
      // the engine cannot make them, but without the errors on the way, 30 ms of them an instance.
      "WebAssembly.promising": "Object",
    },
    logLevel: "warning",
  });
}

async function main() {
  const component = process.argv[2] ?? COMPONENT;
  const outdir = join(here, "dist");
  await rm(outdir, { recursive: true, force: true });
  await transpileRegistry(component);
  await transpile(POLICY, join(here, "build/policy"));
  await copyFile(join(here, "../../LICENSE"), join(here, "LICENSE"));
  // What both modules need is a third one.
  await bundleFrom(["index.ts", "fetch.ts"], { outdir, splitting: true });
  const tsc = spawnSync(process.execPath, [join(here, "node_modules/typescript/bin/tsc"), "-p", here], { stdio: "inherit" });
  if (tsc.status !== 0) throw new BuildError("the types do not fit: see the messages above");
  console.log(`${relative(process.cwd(), outdir)} from ${relative(process.cwd(), component)}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await main().catch((error) => {
    console.error(`error: ${error instanceof BuildError ? error.message : error.stack}`);
    process.exitCode = 1;
  });
}
