/** Results, with their counts as numbers where those are exact. */
import { liftTokens, type Tokens } from "./tokens.js";

/** A type of the component as this package has it. What is left out may be undefined, too. */
export type Lifted<T> = T extends bigint
  ? Tokens
  : T extends Uint32Array
    ? number[]
    : T extends object
      ? { [K in keyof T]: Lifted<T[K]> | (object extends Pick<T, K> ? undefined : never) }
      : T;

/** Lift a result, in place: it was made for this call. */
export function lift<T>(value: T): Lifted<T>;
export function lift(value: unknown): unknown {
  if (typeof value === "bigint") return liftTokens(value);
  if (typeof value !== "object") return value;
  if (value instanceof Uint32Array) return [...value];
  if (Array.isArray(value)) {
    for (let at = 0; at < value.length; at++) value[at] = lift(value[at]);
  } else {
    const record = value as Record<string, unknown>;
    for (const field in record) record[field] = lift(record[field]);
  }
  return value;
}
