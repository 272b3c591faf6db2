/** The calls of the contract as methods: their arguments are lowered, their results lifted. */
import type * as wit from "../build/component/interfaces/thread-budget-registry-registry.js";
import type { Lifted } from "./lift.js";
import type { Parameters } from "./lower.js";
import type { ThreadBudget } from "./thread-budget.js";

/** The functions of an interface, or the methods of a resource, as methods of this package. */
export type Methods<T> = { [K in keyof T as T[K] extends (...given: never) => unknown ? K : never]: Method<T[K]> };

/** The arguments of a function of the component, as this package takes them. */
export type Given<F> = F extends (...given: infer A) => unknown ? { [K in keyof A]: Argument<A[K]> } : never;

type Method<F> = F extends (...given: never) => infer R ? (...given: Given<F>) => Result<R> : never;
type Argument<T> = T extends (infer Item)[] ? readonly Lifted<Item>[] : Lifted<T>;
type Result<R> = R extends wit.ThreadBudget ? ThreadBudget : Lifted<R>;

/** Give a class a method for each of the calls. `make` makes one, with arguments that the component takes. */
export function addCalls<Self extends object>(
  prototype: Self,
  calls: Readonly<Record<string, Parameters>>,
  make: (self: Self, name: string, lowered: unknown[]) => unknown,
): void {
  for (const [name, parameters] of Object.entries(calls)) {
    if (name in prototype) continue;
    const lowers = Object.entries(parameters);
    const method = function (this: Self, ...given: unknown[]): unknown {
      return make(this, name, lowers.map(([parameter, lower], at) => lower(given[at], parameter)));
    };
    Object.defineProperty(prototype, name, { value: method, configurable: true, writable: true });
  }
}
