import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { BudgetWarning, Consumed, Held, RegistryError, Usage } from "../build/policy/interfaces/thread-budget-registry-types.js";
import { Policy, type Answer, type Event, type Failure, type Kept, type Request } from "../src/policy.js";

// The policy, hosted by this package, follows the transcripts of tests/transcripts, whose README has their format.

type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
type Fields = Record<string, Json>;

const FOLDER = "../../tests/transcripts";

// What an event has that a transcript leaves out.
const USAGE: Usage = { promptTokens: 0n, completionTokens: 0n, totalTokens: 0n, remaining: 0n, maxTokens: 0n, requestCount: 0n };
const HELD: Omit<Held, "usage" | "pending"> = { completionTokens: 0n, room: 0n, repeated: false };
const CONSUMED: Omit<Consumed, "usage"> = { room: 0n, crossed: [], repeated: false };
const EXHAUSTED = { threadId: "", used: 0n, held: 0n, maxTokens: 0n, requested: 0n };
const WARNING: BudgetWarning = {
  threadId: "",
  thresholdPercent: 0,
  percentUsed: 0,
  tokensUsed: 0n,
  tokensRemaining: 0n,
  maxTokens: 0n,
  severity: "warning",
  message: "",
};
const HOLD_NAME = { threadId: "", requestId: "" };
const KEPT: Omit<Kept, "hold"> = { name: "", upstream: 0, model: "", promptTokens: 0n, completionTokens: 0n, forMs: 0n };
const REQUEST: Request = {
  id: "x",
  chance: 0n,
  date: "2026-11-25",
  method: "POST",
  target: "/v1/chat/completions",
  headers: new Uint8Array(),
  body: { tag: "whole", val: new Uint8Array() },
};
const ANSWER: Answer = { status: 200, headers: bytes("content-type: application/json\n"), body: new Uint8Array() };
const FAILURE: Failure = { kind: "lost", receivedBytes: 0n, reason: "it broke" };

for (const path of readdirSync(FOLDER, { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".json"))) {
  test(`transcript ${path}`, () => {
    const { config = {}, steps } = JSON.parse(readFileSync(join(FOLDER, path), "utf8")) as { config?: Fields; steps: Fields[] };
    const policy = new Policy({ upstreams: [{ url: "https://provider" }], ...config });
    const clock = performance.now;
    let step = policy.begin();
    let now = 0;
    performance.now = () => now;
    try {
      for (const [at, { event, actions = [], logs = [], next, at: time = now, why: _, ...rest }] of steps.entries()) {
        assert.deepEqual(rest, {});
        if (isFields(event) && "request" in event) step = policy.begin();
        now = time as number;
        const turn = toJson(step(eventOf(event!))) as { actions: Fields[]; next: Json };
        const [told, done] = [turn.actions.filter((action) => "log" in action), turn.actions.filter((action) => !("log" in action))];
        const where = `step ${at + 1}`;
        compare(actions, done, `${where}: actions`);
        compare(next!, turn.next, `${where}: next`);
        for (const text of logs as string[]) assert.ok(JSON.stringify(told).includes(JSON.stringify(text).slice(1, -1)), `${where}: no log says ${text}`);
      }
    } finally {
      performance.now = clock;
    }
  });
}

function isFields(value: Json | undefined): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** The one field of an object that stands for text. */
function form(value: Json | undefined): [string, Json] | [] {
  const entries = isFields(value) ? Object.entries(value) : [];
  return entries.length === 1 ? entries[0]! : [];
}

/** Text in the place of what stands for it. */
function plain(value: Json): Json {
  const [name, content] = form(value);
  if (name === "json") return JSON.stringify(content);
  if (name === "events") return (content as string[]).map((event) => `${event}\n\n`).join("");
  if (name === "repeat") return (content as [string, number])[0].repeat((content as [string, number])[1]);
  if (name === "join") return (content as Json[]).map(plain).join("");
  if (Array.isArray(value)) return value.map(plain);
  return isFields(value) ? Object.fromEntries(Object.entries(value).map(([name, field]) => [name, plain(field)])) : value;
}

/** Fields by the names, and with the counts, that the component takes. */
function lowered<T extends object>(value: Json | undefined, kinds: T): Partial<T> {
  const fields = Object.entries((value ?? {}) as Fields).map(([name, field]) => {
    const camel = name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
    const isCount = typeof (kinds as Record<string, unknown>)[camel] === "bigint" || camel === "runway";
    return [camel, isCount && field !== null ? BigInt(field as number) : (field ?? undefined)];
  });
  return Object.fromEntries(fields) as Partial<T>;
}

function eventOf(event: Json): Event {
  const [name, given] = typeof event === "string" ? [event] : Object.entries(event as Fields)[0]!;
  const tag = name!.replaceAll("_", "-") as Event["tag"];
  const content = plain(given ?? null);
  const fields = content as Fields;
  switch (tag) {
    case "request": {
      const { headers = [], body = "", ...others } = fields;
      const said = String(body).replaceAll("_", "-");
      const isThere = !["too-long", "too-slow", "broken"].includes(said);
      return {
        tag,
        val: {
          ...REQUEST,
          ...lowered(others, REQUEST),
          headers: bytes((headers as string[]).map((line) => `${line}\n`).join("")),
          body: isThere ? { tag: "whole", val: bytes(body as string) } : { tag: said as "broken" },
        },
      };
    }
    case "answer": {
      const { headers, body = "", ...others } = fields;
      const lines = headers && bytes((headers as string[]).map((line) => `${line}\n`).join(""));
      return { tag, val: { ...ANSWER, ...lowered(others, ANSWER), ...(lines && { headers: lines }), body: bytes(body as string) } };
    }
    case "failed": {
      const { kind, ...others } = fields;
      return { tag, val: { ...FAILURE, ...lowered(others, FAILURE), kind: String(kind).replaceAll("_", "-") as "lost" } };
    }
    case "held": {
      const { usage, pending = [], ...others } = fields;
      const warnings = (pending as Fields[]).map((warning) => ({ ...WARNING, ...lowered(warning, WARNING) }));
      return { tag, val: { ...HELD, ...lowered(others, HELD), usage: { ...USAGE, ...lowered(usage, USAGE) }, pending: warnings } };
    }
    case "settled": {
      const { usage, ...others } = fields;
      return { tag, val: { ...CONSUMED, ...lowered(others, CONSUMED), usage: { ...USAGE, ...lowered(usage, USAGE) } } };
    }
    case "not-held":
    case "not-settled": {
      const [error, payload] = typeof content === "string" ? [content] : Object.entries(fields)[0]!;
      const val = error === "exhausted" ? { ...EXHAUSTED, ...lowered(payload, EXHAUSTED) } : payload;
      return { tag, val: { tag: error.replaceAll("_", "-"), val } as RegistryError } as Event;
    }
    case "recalled": {
      if (!isFields(content)) return { tag, val: undefined };
      const { hold, ...others } = content;
      return { tag, val: { ...KEPT, ...lowered(others, KEPT), hold: { ...HOLD_NAME, ...lowered(hold, HOLD_NAME) } } };
    }
    case "piece":
      return { tag, val: bytes(content as string) };
    case "unavailable":
      return { tag, val: content as string };
    case "not-claimed":
      return { tag, val: (content as string).replaceAll("_", "-") as "in-flight" };
    default:
      return { tag };
  }
}

/** What the policy gave, as transcripts write it. */
function toJson(value: unknown): Json {
  if (value instanceof Uint8Array) return new TextDecoder("utf-8", { ignoreBOM: true }).decode(value);
  if (typeof value === "bigint") return Number(value);
  if (Array.isArray(value)) return value.map(toJson);
  if (typeof value !== "object" || value === null) return (value ?? null) as Json;
  if ("tag" in value) {
    const name = (value.tag as string).replaceAll("-", "_");
    return "val" in value ? { [name]: toJson(value.val) } : name;
  }
  const fields = Object.entries(value).map(([name, field]) => [name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`), toJson(field)]);
  return Object.fromEntries(fields) as Json;
}

/** What is said must be so; what is not said does not matter. */
function compare(expected: Json, actual: Json | undefined, place: string): void {
  const wrong = `${place} is ${JSON.stringify(actual)} where ${JSON.stringify(expected)} is right`;
  const text = typeof actual === "string" ? actual : JSON.stringify(actual);
  const [name, content] = form(expected);
  if (name === "json") return assert.deepEqual(JSON.parse(text), content, wrong);
  if (name === "contains") return assert.ok([content].flat().every((part) => text.includes(part as string)), wrong);
  if (name === "lacks") return assert.ok(!text.includes(content as string), wrong);
  if (name === "events" || name === "repeat") return assert.equal(actual, plain(expected), wrong);
  if (isFields(expected) && Array.isArray(actual)) {
    const headers = Object.fromEntries((actual as Fields[]).map(({ name, value }) => [name, value!]));
    for (const [name, value] of Object.entries(expected)) compare(value, headers[name] ?? null, `${place}.${name}`);
  } else if (isFields(expected)) {
    assert.ok(isFields(actual), wrong);
    // A field that is left out is none.
    for (const [name, value] of Object.entries(expected)) compare(value, actual[name] ?? null, `${place}.${name}`);
  } else if (Array.isArray(expected)) {
    assert.ok(Array.isArray(actual) && actual.length === expected.length, wrong);
    expected.forEach((item, at) => compare(item, actual[at], `${place}[${at}]`));
  } else assert.equal(actual, expected, wrong);
}
