/**
 * Budgets without a router: a `fetch` for clients of LLM providers.
 *
 * @module
 */
import "./dispose.js";
import { Call } from "./call.js";
import { deskOf } from "./desk.js";
import { Exchange, type Asked, type LostCalls, type Upstream } from "./exchange.js";
import { Policy, type LogEntry } from "./policy.js";
import type { Registry } from "./registry.js";

export { PolicyLostError } from "./policy.js";
export type { LogEntry };

/** The router's settings: its table `[router]`, with `upstreams` and `scopes`. What is left out is as it is there. */
export interface Settings {
  upstreams?: readonly (Upstream & Record<string, unknown>)[] | undefined;
  thread_header?: string | undefined;
  lost_calls?: LostCalls | undefined;
  max_request_bytes?: number | undefined;
  [setting: string]: unknown;
}

/** How requests are kept within budgets. */
export interface BudgetFetchOptions {
  /** The thread of requests that name none in their header `x-thread-id`. Without it such a request is refused. */
  thread?: string | undefined;
  settings?: Settings | undefined;
  /** What sends requests: the usual `fetch` when left out. */
  fetch?: typeof globalThis.fetch | undefined;
  /** Who hears what there is to tell an operator: the console, of warnings and errors, when left out. */
  log?: ((entry: LogEntry) => void) | undefined;
}

/** How many providers' policies are kept. */
const MOST_POLICIES = 16;

/**
 * A `fetch` that keeps requests to LLM providers within the budgets of their threads.
 *
 * ```js
 * const client = new OpenAI({ fetch: budgetFetch(registry, { thread: "agent-7" }) });
 * ```
 * What becomes of a request is decided as the router decides it, by the same component: the agent is warned in it, one that
 * does not fit is answered with an error, and a stream that uses the budget up is ended with one.
 * @throws {RangeError} A setting is none, or has a value that it may not have; or the thread is none that a header can name.
 */
export function budgetFetch(registry: Registry, options: BudgetFetchOptions = {}): typeof globalThis.fetch {
  const { thread, settings = {}, fetch = globalThis.fetch, log = toConsole } = options;
  const header = settings.thread_header ?? "x-thread-id";
  const mostBytes = settings.max_request_bytes ?? 32 << 20;
  const desk = deskOf(registry);
  const variable = (name: string) => environment()[name];
  if ("thresholds" in settings) throw new RangeError("settings: thresholds are set where the registry is made");
  if (thread !== undefined && !/^[^\p{Cc}\s]([^\p{Cc}]*[^\p{Cc}\s])?$/u.test(thread)) {
    throw new RangeError(`thread is ${JSON.stringify(thread)}, expected some text without control characters or space around it`);
  }
  for (const { key_env } of settings.upstreams ?? []) {
    if (key_env && !variable(key_env)) throw new RangeError(`settings: the environment variable ${key_env} is to hold a key, and is not set`);
  }

  const policies = new Map<string, Policy>();
  /** The policy for some providers, with the registry's thresholds of now. */
  const policyFor = (upstreams: readonly Upstream[]): Policy => {
    const all = { unidentified: "refuse", ...settings, max_request_bytes: mostBytes, upstreams, thresholds: registry.thresholds() };
    const key = JSON.stringify(all);
    let policy = policies.get(key);
    if (!policy) {
      if (policies.size >= MOST_POLICIES) policies.clear();
      policies.set(key, (policy = new Policy(all)));
    }
    return policy;
  };
  // What is wrong with the settings is said now.
  policyFor(settings.upstreams ?? [{ url: "https://provider" }]);

  return async (input, init) => {
    // A body that is a stream has to say that it is.
    const request = new Request(input, { ...init, duplex: "half" } as RequestInit);
    const headers = new Headers(request.headers);
    if (thread !== undefined && !headers.has(header)) headers.set(header, letters(new TextEncoder().encode(thread)));
    const body = new Uint8Array(await request.arrayBuffer());
    const { upstreams, target } = place(settings.upstreams ?? [], new URL(request.url));
    const asked: Asked = {
      method: request.method,
      target,
      headers,
      body,
      isTooLong: body.length > mostBytes,
      hash: headers.has("idempotency-key") ? await sha256(body) : "",
    };
    const setting = { desk, upstreams, lostCalls: settings.lost_calls ?? "prompt", variable, log };
    const exchange = new Exchange(setting, policyFor(upstreams).begin(), asked);
    const signal = init?.signal ?? (input instanceof Request ? input.signal : undefined);
    return new Call(exchange, fetch, asked.method, init, signal ?? undefined).response();
  };
}

/** The providers of a request, and its target as clients of a router write it. */
function place(configured: readonly Upstream[], url: URL): { upstreams: readonly Upstream[]; target: string } {
  const target = url.pathname + url.search;
  const [first] = configured;
  if (first) {
    const base = first.url.replace(/\/*(\?.*)?$/s, "");
    const whole = url.origin + target;
    if (whole.startsWith(`${base}/`)) {
      const rest = whole.slice(base.length);
      return { upstreams: configured, target: rest.startsWith("/v1/") ? rest : `/v1${rest}` };
    }
  }
  // A version begins the paths of an API; where there is none the policy says so.
  const [, base, rest] = /^(.*?\/v1)(\/.*)?$/.exec(url.pathname) ?? [];
  if (base === undefined) return { upstreams: [{ url: url.origin }], target };
  return { upstreams: [{ url: url.origin + base }], target: `/v1${rest ?? ""}${url.search}` };
}

function environment(): Readonly<Record<string, string | undefined>> {
  return (globalThis as { process?: { env: Record<string, string | undefined> } }).process?.env ?? {};
}

async function sha256(body: Uint8Array<ArrayBuffer>): Promise<string> {
  return letters(new Uint8Array(await crypto.subtle.digest("SHA-256", body)));
}

/** A letter a byte, as headers have it. */
function letters(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
}

function toConsole({ level, text }: LogEntry): void {
  if (level !== "info") console[level](`thread-budget: ${text}`);
}
