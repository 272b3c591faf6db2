// The conformance vectors against this package, wherever it runs: no file is read here.

/** The calls of the contract, each with the names its arguments have in vectors, in the order of the method. */
const REGISTRY_CALLS = {
  "configure": ["max_tokens_per_thread"],
  "max-tokens-per-thread": [],
  "set-thresholds": ["thresholds"],
  "thresholds": [],
  "set-max-threads": ["max_threads"],
  "get-budget": ["thread_id"],
  "open-thread": ["thread_id", "options"],
  "set-limit": ["thread_id", "max_tokens"],
  "check-budget": ["thread_id", "estimated_tokens"],
  "reserve": ["thread_id", "estimated_tokens"],
  "consume": ["thread_id", "prompt_tokens", "completion_tokens"],
  "consume-once": ["thread_id", "request_id", "prompt_tokens", "completion_tokens"],
  "consume-batch": ["entries"],
  "take-warnings": ["thread_id"],
  "has-budget": ["thread_id"],
  "get-usage": ["thread_id"],
  "get-all-usage": [],
  "held-tokens": ["thread_id"],
  "reset-thread": ["thread_id"],
  "cleanup-thread": ["thread_id"],
  "clear": [],
  "snapshot": ["after", "limit"],
  "restore": ["states"],
  "budget-warning": ["crossed"],
};

/** Those that return a handle, which the vector names with `as`. */
const MAKES_HANDLE = new Set(["get-budget", "open-thread", "reserve"]);

/** The same for the methods of handles, which vectors name with `on`. */
const HANDLE_CALLS = {
  "thread-budget.thread-id": [],
  "thread-budget.usage": [],
  "thread-budget.percent-used": [],
  "thread-budget.is-exhausted": [],
  "thread-budget.held-tokens": [],
  "thread-budget.is-detached": [],
  "thread-budget.can-consume": ["estimated_tokens"],
  "thread-budget.consume": ["prompt_tokens", "completion_tokens"],
  "thread-budget.triggered-thresholds": [],
  "thread-budget.check-thresholds": ["thresholds"],
  "reservation.tokens": [],
  "reservation.charged-thread": [],
  "reservation.commit": ["prompt_tokens", "completion_tokens"],
  "reservation.drop": [],
};

/** The field of an error that vectors compare beside its code; none of the others. */
const ERROR_FIELD = {
  "too-many-threads": "limit",
  "invalid-threshold": "value",
  "batch-too-large": "value",
  "unknown-parent": "parent",
  "parent-cycle": "parent",
  "too-deep": "max",
  "options-differ": "threadId",
};

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

function make(registry, handles, { call, as, on, ...given }) {
  const ofHandle = Object.hasOwn(HANDLE_CALLS, call);
  const names = ofHandle ? HANDLE_CALLS[call] : Object.hasOwn(REGISTRY_CALLS, call) && REGISTRY_CALLS[call];
  if (!names) throw new Error(`unknown call ${call}`);
  const unknown = Object.keys(given).find((name) => !names.includes(name));
  if (unknown) throw new Error(`${call} has no argument ${unknown}`);
  if ((as !== undefined) !== MAKES_HANDLE.has(call)) throw new Error(`${call}: "as" names the handle of calls that return one`);

  const subject = ofHandle ? handles.get(on) : registry;
  if (!subject) throw new Error(`no handle ${on}`);
  const method = call === "reservation.drop" ? "release" : toCamel(call.split(".").at(-1));
  const result = subject[method](...names.map((name) => fromVector(given[name], name)));
  if (as === undefined) return result;
  handles.set(as, result);
}

function failure(error) {
  if (typeof error?.code !== "string") return { unexpected: String(error) };
  if (error.code === "exhausted") {
    const { threadId, used, maxTokens, requested } = error;
    return { fails: { exhausted: toVector({ threadId, used, maxTokens, requested }) } };
  }
  const field = ERROR_FIELD[error.code];
  return { fails: field ? { [error.code]: error[field] } : error.code };
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
