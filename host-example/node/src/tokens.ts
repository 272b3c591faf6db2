/**
 * A number of tokens, 0 to 2^64-1.
 *
 * Results are a `number` as long as that is exact (up to `Number.MAX_SAFE_INTEGER`, 2^53-1) and a `bigint`
 * beyond. Arguments may be either; a `number` has to be a whole one within that range. Comparisons work on
 * both; for arithmetic take `Number(tokens)`, exact up to 2^53-1, or `BigInt(tokens)`, always exact.
 */
export type Tokens = number | bigint;

const LARGEST = 2n ** 64n - 1n;
const LARGEST_NUMBER = BigInt(Number.MAX_SAFE_INTEGER);

/** @internal A count as the component takes it. `name` says in errors which one is wrong. */
export function lowerTokens(tokens: Tokens, name: string): bigint {
  if (typeof tokens === "number") {
    if (Number.isSafeInteger(tokens) && tokens >= 0) return BigInt(tokens);
    throw new RangeError(`${name} is ${tokens}, expected a whole number from 0 to 2^53-1, or a bigint up to 2^64-1`);
  }
  if (typeof tokens === "bigint") {
    if (tokens >= 0n && tokens <= LARGEST) return tokens;
    throw new RangeError(`${name} is ${tokens}, expected 0 to 2^64-1`);
  }
  throw new TypeError(`${name} is ${kindOf(tokens)}, expected a number or a bigint`);
}

/** @internal A count as the component returns it. */
export function liftTokens(tokens: bigint): Tokens {
  return tokens <= LARGEST_NUMBER ? Number(tokens) : tokens;
}

/** @internal What a value of the wrong type is, for a message. */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  return Array.isArray(value) ? "an array" : `of type ${typeof value}`;
}
