// The conformance vectors against this package, wherever it runs: no file is read here.

/**
 * Put every vector to a fresh registry. `vectors` are `{ name, content }`, the name `GROUP/RULE`; the result
 * is the part of the report that does not depend on the host.
 */
export function run(Registry, vectors) {
  const groups = {};
  const failures = [];
  for (const { name, content } of vectors) {
    const group = (groups[name.split("/")[0]] ??= { passed: 0, failed: 0 });
    const failure = check(new Registry(), content);
    if (failure) failures.push({ vector: name, ...failure });
    group[failure ? "failed" : "passed"] += 1;
  }
  return { groups, failures };
}

/** The first step that comes out otherwise, if one does. */
function check(registry, { steps }) {
  const handles = new Map();
  for (const [at, { returns, fails, ...step }] of steps.entries()) {
    if (returns !== undefined && fails !== undefined) {
      return { step: at + 1, expected: "returns or fails", got: "both" };
    }
    const expected = canonical(fails === undefined ? { returns: returns ?? null } : { fails });
    const got = canonical(outcome(registry, handles, step));
    if (got !== expected) return { step: at + 1, expected, got };
  }
}

function outcome(registry, handles, step) {
  try {
    return { returns: toVector(make(registry, handles, step)) };
  } catch (error) {
    return failure(error);
  }
}

/** A step has the arguments of its call in their order, as the contract has them. */
function make(registry, handles, { call, as, on, ...given }) {
  const subject = on === undefined ? registry : handles.get(on);
  const method = subject?.[toCamel(call.split(".").at(-1))];
  if (!method) throw new Error(`no call ${call}${on === undefined ? "" : ` on ${on}`}`);
  const result = method.apply(subject, Object.entries(given).map(([name, value]) => fromVector(value, name)));
  if (as === undefined) return result;
  handles.set(as, result);
}

/** An error as the contract has it: its name, with its fields, or its only one, where it has some. */
function failure(error) {
  if (typeof error?.code !== "string") return { unexpected: String(error) };
  const { name, code, ...fields } = Object.fromEntries(Object.entries(error).filter(([, value]) => value !== undefined));
  const values = Object.values(fields);
  if (values.length === 0) return { fails: code };
  return { fails: { [code]: toVector(values.length === 1 ? values[0] : fields) } };
}

/** An argument as this package takes it: counts that a number cannot hold are decimal strings in vectors. */
function fromVector(value, name) {
  if (Array.isArray(value)) return value.map((item) => fromVector(item, name));
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([name, field]) => [toCamel(name), fromVector(field, name)]));
  }
  if (typeof value === "string" && /^\d+$/.test(value) && BigInt(value) > 2n ** 53n) return BigInt(value);
  if (typeof value === "number" && name !== "percent_used" && Number.isInteger(value)) {
    return Number.isSafeInteger(value) ? value : BigInt(value);
  }
  return value;
}

/** A result as vectors write it. */
function toVector(value) {
  if (value === undefined) return null;
  if (typeof value === "bigint") return value > 2n ** 53n ? String(value) : Number(value);
  if (Array.isArray(value)) return value.map(toVector);
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([name, field]) => [toSnake(name), toVector(field)]));
  }
  return value;
}

const toCamel = (name) => name.replace(/[-_](.)/g, (_, letter) => letter.toUpperCase());
const toSnake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** JSON with the fields in order, so that equal values are equal texts. */
function canonical(value) {
  return JSON.stringify(value, (_, field) =>
    typeof field === "object" && field !== null && !Array.isArray(field)
      ? Object.fromEntries(Object.entries(field).sort(([a], [b]) => (a < b ? -1 : 1)))
      : field,
  );
}

/** What a call takes, in nanoseconds: the median of several rounds on one thread that exists. */
export function measure(Registry) {
  const registry = new Registry({ maxTokensPerThread: 2n ** 60n });
  const calls = {
    "has-budget": () => registry.hasBudget("agent-7"),
    "check-budget": () => registry.checkBudget("agent-7", 1_000),
    "consume": () => registry.consume("agent-7", 900, 100),
  };
  const ROUNDS = 15;
  const CALLS = 10_000;
  calls.consume();
  return Object.fromEntries(
    Object.entries(calls).map(([name, call]) => {
      const rounds = Array.from({ length: ROUNDS }, () => {
        const start = performance.now();
        for (let made = 0; made < CALLS; made++) call();
        return ((performance.now() - start) * 1e6) / CALLS;
      });
      return [name, Math.round(rounds.sort((a, b) => a - b)[ROUNDS >> 1])];
    }),
  );
}
