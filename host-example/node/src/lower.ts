/**
 * Arguments, checked and turned into what the component takes. All of it happens before the boundary:
 * what comes after would coerce a value of the wrong type, or break off half-way.
 */
import { kindOf, lowerTokens, type Tokens } from "./tokens.js";

/** What checks and lowers a value. `name` says in errors which one is wrong. */
export type Lower<T = unknown> = (value: unknown, name: string) => T;

/** What lowers the arguments of a call, by name, in order. */
export type Parameters = Readonly<Record<string, Lower>>;

/** The longest text that can be an id, in bytes and so in code units at most. */
const LONGEST_ID = 1_024;
const LARGEST_U32 = 2 ** 32 - 1;

/** Every text that the contract takes is an id: the component judges it, and needs no more of it than that it is too long. */
export const text: Lower<string> = (value, name) => {
  if (typeof value !== "string") throw new TypeError(`${name} is ${kindOf(value)}, expected a string`);
  if (!value.isWellFormed()) throw new RangeError(`${name} has a lone surrogate, expected text that UTF-8 can encode`);
  return value.length > LONGEST_ID ? value.slice(0, LONGEST_ID + 1) : value;
};

export const u64: Lower<bigint> = (value, name) => lowerTokens(value as Tokens, name);

export const u32: Lower<number> = (value, name) => {
  if (typeof value !== "number") throw new TypeError(`${name} is ${kindOf(value)}, expected a number`);
  if (Number.isInteger(value) && value >= 0 && value <= LARGEST_U32) return value;
  throw new RangeError(`${name} is ${value}, expected a whole number from 0 to 2^32-1`);
};

export const f64: Lower<number> = (value, name) => {
  if (typeof value === "number") return value;
  throw new TypeError(`${name} is ${kindOf(value)}, expected a number`);
};

export const boolean: Lower<boolean> = (value, name) => {
  if (typeof value === "boolean") return value;
  throw new TypeError(`${name} is ${kindOf(value)}, expected a boolean`);
};

export function oneOf(...words: string[]): Lower<string> {
  return (value, name) => {
    if (words.includes(value as string)) return value as string;
    const found = typeof value === "string" ? JSON.stringify(value) : kindOf(value);
    throw new TypeError(`${name} is ${found}, expected ${words.join(", ")}`);
  };
}

/** What is left out is none, and so is null. */
export function option<T>(lower: Lower<T>): Lower<T | undefined> {
  return (value, name) => (value == null ? undefined : lower(value, name));
}

export function list<T>(lower: Lower<T>): Lower<T[] | Uint32Array> {
  return (value, name) => {
    if (!Array.isArray(value)) throw new TypeError(`${name} is ${kindOf(value)}, expected an array`);
    const items = value.map((item, at) => lower(item, `${name}[${at}]`));
    // Of these, jco takes a list as a typed array.
    return (lower as Lower) === u32 ? Uint32Array.from(items as number[]) : items;
  };
}

export function record(fields: Parameters): Lower<object> {
  const lowers = Object.entries(fields);
  return (value, name) => {
    if (typeof value !== "object" || value === null) throw new TypeError(`${name} is ${kindOf(value)}, expected an object`);
    const lowered: Record<string, unknown> = {};
    for (const [field, lower] of lowers) lowered[field] = lower((value as Record<string, unknown>)[field], `${name}.${field}`);
    return lowered;
  };
}
