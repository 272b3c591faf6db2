/**
 * Arguments, checked and turned into what the component takes. All of it happens before the boundary:
 * what comes after would coerce a value of the wrong type, or break off half-way.
 */
import type * as wit from "../build/component/interfaces/thread-budget-registry-types.js";
import { InvalidInputError, invalidThreshold } from "./errors.js";
import { kindOf, lowerTokens } from "./tokens.js";
import type { Severity, ThreadOptions, ThreadState, Threshold, ThresholdCrossed, UsageEntry } from "./types.js";

const MAX_THREAD_ID_BYTES = 1_024;
const MAX_REQUEST_ID_BYTES = 256;
const MAX_BATCH = 4_096;
const MAX_U32 = 2 ** 32 - 1;
const SEVERITIES: readonly unknown[] = ["warning", "critical", "final"] satisfies Severity[];

const encoder = new TextEncoder();

/** Whether a text is an id of at most so many bytes. A lone surrogate has no UTF-8, so it is in no id. */
function isId(text: string, maxBytes: number): boolean {
  if (text.length === 0 || text.length > maxBytes || !text.isWellFormed()) return false;
  return text.length * 3 <= maxBytes || encoder.encode(text).length <= maxBytes;
}

function lowerString(text: unknown, name: string): string {
  if (typeof text === "string") return text;
  throw new TypeError(`${name} is ${kindOf(text)}, expected a string`);
}

/** A text of any length, as long as it can be encoded. */
export function lowerText(text: unknown, name: string): string {
  if (lowerString(text, name).isWellFormed()) return text as string;
  throw new RangeError(`${name} has a lone surrogate, expected text that UTF-8 can encode`);
}

/** The id of a thread that may be created. */
export function lowerThreadId(text: unknown, name: string): string {
  if (isId(lowerString(text, name), MAX_THREAD_ID_BYTES)) return text as string;
  throw new InvalidInputError("invalid-thread-id", `${name} has to be 1 to ${MAX_THREAD_ID_BYTES} bytes of UTF-8`);
}

/** Whether a thread of that name can exist; queries answer about any text. */
export function canExist(text: unknown, name: string): boolean {
  return isId(lowerString(text, name), MAX_THREAD_ID_BYTES);
}

export function lowerRequestId(text: unknown): string {
  if (isId(lowerString(text, "requestId"), MAX_REQUEST_ID_BYTES)) return text as string;
  throw new InvalidInputError("invalid-request-id", `requestId has to be 1 to ${MAX_REQUEST_ID_BYTES} bytes of UTF-8`);
}

export function lowerU32(number: unknown, name: string): number {
  if (typeof number !== "number") throw new TypeError(`${name} is ${kindOf(number)}, expected a number`);
  if (Number.isInteger(number) && number >= 0 && number <= MAX_U32) return number;
  throw new RangeError(`${name} is ${number}, expected a whole number from 0 to 2^32-1`);
}

function lowerNumber(number: unknown, name: string): number {
  if (typeof number === "number") return number;
  throw new TypeError(`${name} is ${kindOf(number)}, expected a number`);
}

function lowerBoolean(value: unknown, name: string): boolean {
  if (typeof value === "boolean") return value;
  throw new TypeError(`${name} is ${kindOf(value)}, expected a boolean`);
}

function lowerSeverity(severity: unknown, name: string): Severity {
  if (SEVERITIES.includes(severity)) return severity as Severity;
  const found = typeof severity === "string" ? JSON.stringify(severity) : kindOf(severity);
  throw new TypeError(`${name} is ${found}, expected ${SEVERITIES.join(", ")}`);
}

function lowerRecord<T>(record: T, name: string): T {
  if (typeof record === "object" && record !== null) return record;
  throw new TypeError(`${name} is ${kindOf(record)}, expected an object`);
}

function lowerList<T, L>(list: readonly T[], name: string, lower: (item: T, name: string) => L): L[] {
  if (Array.isArray(list)) return list.map((item, at) => lower(item, `${name}[${at}]`));
  throw new TypeError(`${name} is ${kindOf(list)}, expected an array`);
}

export function lowerThresholds(thresholds: readonly Threshold[], name = "thresholds"): wit.Threshold[] {
  return lowerList(thresholds, name, (threshold, name) => {
    const { percent, severity } = lowerRecord(threshold, name);
    return { percent: lowerU32(percent, `${name}.percent`), severity: lowerSeverity(severity, `${name}.severity`) };
  });
}

/** Thresholds that all can be reached. */
export function lowerReachable(thresholds: readonly Threshold[]): wit.Threshold[] {
  if (Array.isArray(thresholds)) {
    // A percent that no u32 can hold is as wrong as one that it can: one error for both.
    const wrong = thresholds.find((threshold) => typeof threshold?.percent === "number" && !isPercent(threshold.percent));
    if (wrong) throw invalidThreshold(wrong.percent);
  }
  return lowerThresholds(thresholds);
}

function isPercent(percent: number): boolean {
  return Number.isInteger(percent) && percent >= 1 && percent <= 100;
}

export function lowerEntries(entries: readonly UsageEntry[]): wit.UsageEntry[] {
  if (Array.isArray(entries) && entries.length > MAX_BATCH) {
    throw new InvalidInputError("batch-too-large", `a batch of ${entries.length} entries, it has at most ${MAX_BATCH}; send several`, MAX_BATCH);
  }
  return lowerList(entries, "entries", (entry, name) => {
    const { threadId, promptTokens, completionTokens } = lowerRecord(entry, name);
    return {
      threadId: lowerThreadId(threadId, `${name}.threadId`),
      promptTokens: lowerTokens(promptTokens, `${name}.promptTokens`),
      completionTokens: lowerTokens(completionTokens, `${name}.completionTokens`),
    };
  });
}

/** The options with what is left out left out; whether the parent can exist is for the caller to ask. */
export function lowerOptions(options: ThreadOptions): wit.ThreadOptions {
  const { maxTokens, parent } = lowerRecord(options, "options");
  return {
    ...(maxTokens != null && { maxTokens: lowerTokens(maxTokens, "options.maxTokens") }),
    ...(parent != null && { parent: lowerString(parent, "options.parent") }),
  };
}

export function lowerCrossed(crossed: ThresholdCrossed): wit.ThresholdCrossed {
  const record = lowerRecord(crossed, "crossed");
  return {
    threadId: lowerText(record.threadId, "crossed.threadId"),
    thresholdPercent: lowerU32(record.thresholdPercent, "crossed.thresholdPercent"),
    severity: lowerSeverity(record.severity, "crossed.severity"),
    percentUsed: lowerNumber(record.percentUsed, "crossed.percentUsed"),
    tokensUsed: lowerTokens(record.tokensUsed, "crossed.tokensUsed"),
    tokensRemaining: lowerTokens(record.tokensRemaining, "crossed.tokensRemaining"),
    maxTokens: lowerTokens(record.maxTokens, "crossed.maxTokens"),
  };
}

export function lowerStates(states: readonly ThreadState[]): wit.ThreadState[] {
  return lowerList(states, "states", (state, name) => {
    const record = lowerRecord(state, name);
    return {
      threadId: lowerText(record.threadId, `${name}.threadId`),
      ...(record.parent != null && { parent: lowerText(record.parent, `${name}.parent`) }),
      opened: lowerBoolean(record.opened, `${name}.opened`),
      maxTokens: lowerTokens(record.maxTokens, `${name}.maxTokens`),
      promptTokens: lowerTokens(record.promptTokens, `${name}.promptTokens`),
      completionTokens: lowerTokens(record.completionTokens, `${name}.completionTokens`),
      requestCount: lowerTokens(record.requestCount, `${name}.requestCount`),
      triggeredThresholds: Uint32Array.from(lowerList(record.triggeredThresholds, `${name}.triggeredThresholds`, lowerU32)),
      undeliveredThresholds: lowerThresholds(record.undeliveredThresholds, `${name}.undeliveredThresholds`),
      requestIds: lowerList(record.requestIds, `${name}.requestIds`, lowerText),
    };
  });
}
