// What the cases share: the stub's side, and how they are run.

import assert from "node:assert/strict";

/** Tokens of a thread, as the router is started. */
export const LIMIT = 20_000;

/** The tool of the cases. */
export const WEATHER = {
  type: "object",
  properties: { city: { type: "string" }, unit: { type: "string" } },
  required: ["city", "unit"],
};

/** With which the stub calls the tool. */
export const ARGUMENTS = { city: "Oslo", unit: "celsius" };

/** The stand-in for the provider, asked directly what it got. */
class Stub {
  #url;

  constructor(url) {
    this.#url = url;
  }

  async #call(method, path) {
    return (await fetch(`${this.#url}/stub/${path}`, { method })).json();
  }

  clear() {
    return this.#call("DELETE", "requests");
  }

  /** The requests since it was cleared, in order. */
  requests() {
    return this.#call("GET", "requests");
  }

  async bodies() {
    return (await this.requests()).map(({ body }) => body);
  }

  async billed() {
    return (await this.#call("GET", "stats")).billed;
  }
}

const cases = [];

/** Register a case; `run` gets the world in which it runs. */
export function test(name, run, { needsRouter = false } = {}) {
  cases.push({ name, run, needsRouter });
}

/** Fail unless the promise is rejected with an error of the class; that error. */
export async function rejection(promise, kind) {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof kind, `${error.constructor.name}: ${error.message}`);
    return error;
  }
  return assert.fail("no error");
}

/** All of a stream whose events are 20 ms apart; fail unless they arrive while it runs. */
export async function incremental(stream) {
  const events = [];
  const times = [];
  for await (const event of stream) {
    events.push(event);
    times.push(performance.now());
  }
  assert.ok(events.length >= 16, `${events.length} events`);
  const apart = times.at(-1) - times[0];
  assert.ok(apart >= 200, `all arrived within ${apart.toFixed()} ms`);
  return events;
}

/** The warning of a threshold that was just crossed, in full. */
export const announced = (percent) => new RegExp(`Note: ${percent}% of the token budget is used`);

/** The line that every request of a thread has once it was warned. */
export const reminded = (percent) => new RegExp(`Token budget: ${percent}% used`);

/** Run every case; the arguments are the stub's URL and perhaps the router's. */
export async function run(client) {
  const [stubUrl, router] = process.argv.slice(2);
  for (const { name, run, needsRouter } of cases) {
    const line = { client, case: name, outcome: "passed" };
    if (needsRouter && !router) {
      Object.assign(line, { outcome: "skipped", detail: "it is about the router" });
    } else {
      const world = {
        stub: new Stub(stubUrl),
        baseUrl: router ?? stubUrl,
        throughRouter: router !== undefined,
        // The paths of the requests that the client has sent, retries included.
        sent: [],
        thread: `${name}-${Date.now()}`.replaceAll(" ", "-"),
      };
      await world.stub.clear();
      try {
        await run(world);
      } catch (error) {
        const where = /openai_cases\.mjs:\d+/.exec(error.stack)?.[0] ?? "";
        Object.assign(line, { outcome: "failed", detail: `${where} ${error.name}: ${error.message}` });
      }
    }
    console.log(JSON.stringify(line));
  }
}
