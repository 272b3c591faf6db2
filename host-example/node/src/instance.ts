import cores from "../build/component/cores.js";
import { instantiate, type Root } from "../build/component/component.js";
import type { RegistryError } from "../build/component/interfaces/thread-budget-registry-types.js";
import { compiler } from "./cores.js";
import { InstanceLostError, liftError } from "./errors.js";
import { lift } from "./lift.js";
import { ThreadBudget } from "./thread-budget.js";

const core = compiler(cores);

/** Whether what was thrown is an error of the contract: a plain record, since the component is transpiled so. */
export function isRefusal(thrown: unknown): thrown is RegistryError {
  return typeof thrown === "object" && thrown !== null && "tag" in thrown;
}

/** An instance of the component, and the only way into it. */
export class Instance {
  readonly exports: Root = instantiate(core, {});
  #lost: InstanceLostError | undefined;

  /**
   * Call a function of an interface, or a method of a resource, with arguments that it takes. What it gives, and the
   * contract's errors, are this package's; anything else that is thrown loses the instance.
   */
  call(subject: object, name: string | symbol, lowered: unknown[]): unknown {
    try {
      const result = this.raw(() => (subject as Record<string | symbol, (...lowered: unknown[]) => unknown>)[name]!(...lowered));
      return result instanceof this.exports.registry.ThreadBudget ? new ThreadBudget(this, result) : lift(result);
    } catch (error) {
      throw isRefusal(error) ? liftError(error) : error;
    }
  }

  /** Make a call, with what the component itself takes and gives. */
  raw<T>(call: (exports: Root) => T): T {
    if (this.#lost) throw this.#lost;
    try {
      return call(this.exports);
    } catch (error) {
      if (isRefusal(error)) throw error;
      this.#lost = new InstanceLostError(error);
      throw this.#lost;
    }
  }

  /** Whether an earlier call broke off. */
  get isLost(): boolean {
    return this.#lost !== undefined;
  }
}
