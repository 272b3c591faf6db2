import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { before, test } from "node:test";

// What is packed has everything in it, and is enough to be installed and used.

/** Within this folder, so that the packages that the README's example is about are found. */
const FOLDER = resolve("build/package");
const INSTALLED = join(FOLDER, "node_modules/thread-budget");

/** Without a network: a provider's answer is made up. */
const EXAMPLE = `
import { Registry } from "thread-budget";
import { budgetFetch } from "thread-budget/fetch";

const answer = { choices: [], usage: { prompt_tokens: 30, completion_tokens: 12, total_tokens: 42 } };
const registry = new Registry({ maxTokensPerThread: 1_000 });
const send = budgetFetch(registry, { thread: "agent-7", fetch: async () => Response.json(answer) });
const body = JSON.stringify({ model: "m", max_tokens: 50, messages: [{ role: "user", content: "Hello" }] });
const response = await send("https://provider/v1/chat/completions", { method: "POST", body });
console.log(response.status, registry.getUsage("agent-7")?.totalTokens);
`;

const run = (command: string, ...given: string[]) => execFileSync(command, given, { cwd: FOLDER, encoding: "utf8" });

before(() => {
  rmSync(FOLDER, { recursive: true, force: true });
  mkdirSync(FOLDER, { recursive: true });
  writeFileSync(join(FOLDER, "package.json"), JSON.stringify({ private: true, type: "module" }));
  const [{ filename }] = JSON.parse(run("npm", "pack", "--json", "--pack-destination", FOLDER, resolve("."))) as [{ filename: string }];
  run("npm", "install", "--offline", "--no-audit", "--no-fund", filename);
});

test("the licence is inside", () => {
  assert.equal(readFileSync(join(INSTALLED, "LICENSE"), "utf8"), readFileSync("../../LICENSE", "utf8"));
});

test("it is used", () => {
  writeFileSync(join(FOLDER, "example.mjs"), EXAMPLE);
  assert.equal(run(process.execPath, "example.mjs"), "200 42\n");
});

test("its types are whole", () => {
  const options = { module: "nodenext", target: "es2022", lib: ["es2022", "dom", "esnext.disposable"], types: [], strict: true, noEmit: true, skipLibCheck: false };
  writeFileSync(join(FOLDER, "example.ts"), `${EXAMPLE}\nexport {};\nconst wrong: string = budgetFetch(registry);\n`);
  writeFileSync(join(FOLDER, "tsconfig.json"), JSON.stringify({ compilerOptions: options, files: ["example.ts"] }));
  let said = "";
  try {
    run(process.execPath, resolve("node_modules/typescript/bin/tsc"), "-p", ".");
  } catch (error) {
    said = (error as { stdout: string }).stdout;
  }
  // The one mistake that is in it.
  assert.deepEqual(said.trim().split("\n").map((line) => line.replace(/\(.*?: (error \w+):.*/, ": $1")), ["example.ts: error TS2322"]);
});

test("it exports two modules, and nothing else", () => {
  const { exports } = JSON.parse(readFileSync(join(INSTALLED, "package.json"), "utf8")) as { exports: Record<string, Record<string, string>> };
  assert.deepEqual(Object.keys(exports), [".", "./fetch"]);
  for (const path of Object.values(exports).flatMap((conditions) => Object.values(conditions))) assert.ok(readFileSync(join(INSTALLED, path)));
  const within = `import("thread-budget/dist/index.js").catch(({ code }) => console.log(code))`;
  assert.equal(run(process.execPath, "--input-type=module", "--eval", within), "ERR_PACKAGE_PATH_NOT_EXPORTED\n");
});

test("the README's links are absolute", () => {
  for (const [, link] of readFileSync("README.md", "utf8").matchAll(/\]\(([^)]+)\)/g)) assert.match(link!, /^https:/);
});
