import cores from "../build/component/cores.js";
import { instantiate, type Root } from "../build/component/component.js";
import { InstanceLostError, liftError } from "./errors.js";
import { lift } from "./lift.js";
import { ThreadBudget } from "./thread-budget.js";

/** Compiled once, however many registries there are. */
const compiled = new Map<string, WebAssembly.Module>();

function core(name: string): WebAssembly.Module {
  let module = compiled.get(name);
  if (!module) {
    const bytes = cores[name];
    if (!bytes) throw new Error(`the component has no core module ${name}; build the package anew`);
    compiled.set(name, (module = new WebAssembly.Module(bytes)));
  }
  return module;
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
    if (this.#lost) throw this.#lost;
    try {
      const result = (subject as Record<string | symbol, (...lowered: unknown[]) => unknown>)[name]!(...lowered);
      return result instanceof this.exports.registry.ThreadBudget ? new ThreadBudget(this, result) : lift(result);
    } catch (error) {
      // The contract's errors are plain records, since the component is transpiled so.
      if (typeof error === "object" && error !== null && "tag" in error) throw liftError(error as Parameters<typeof liftError>[0]);
      this.#lost = new InstanceLostError(error);
      throw this.#lost;
    }
  }

  /** Whether an earlier call broke off. */
  get isLost(): boolean {
    return this.#lost !== undefined;
  }
}
