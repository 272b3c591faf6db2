// The command that runs vectors, the same for every host: `COMPONENT VECTORS`, one JSON object out.
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

/** Read the vectors, let `run(component, vectors)` make the report, print it and set the exit code. */
export async function command(run) {
  try {
    const [component, folder, ...rest] = process.argv.slice(2);
    if (!folder || rest.length > 0) throw new Error("expected two arguments: the component's file and the vectors' folder");
    const report = await run(component, await read(folder));
    console.log(JSON.stringify(report));
    process.exitCode = report.failures.length > 0 ? 1 : 0;
  } catch (error) {
    console.error(`error: ${error.message}`);
    process.exitCode = 2;
  }
}

/** Every vector there is; a file in a group that is none is an error, so that nothing is passed over. */
async function read(folder) {
  const groups = (await readdir(folder, { withFileTypes: true })).filter((entry) => entry.isDirectory());
  const vectors = [];
  for (const group of groups.map(({ name }) => name).sort()) {
    for (const file of (await readdir(join(folder, group))).sort()) {
      if (!file.endsWith(".json")) throw new Error(`${group}/${file} is not a vector`);
      const name = `${group}/${file.slice(0, -".json".length)}`;
      const content = JSON.parse(await readFile(join(folder, group, file), "utf8"));
      if (!Array.isArray(content.steps) || content.steps.length === 0) throw new Error(`${name} has no steps`);
      vectors.push({ name, content });
    }
  }
  if (vectors.length === 0) throw new Error(`there are no vectors in ${folder}`);
  return vectors;
}
