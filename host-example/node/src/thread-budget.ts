/// <reference lib="esnext.disposable" preserve="true" />
import type * as wit from "../build/component/interfaces/thread-budget-registry-registry.js";
import * as calls from "./arguments.js";
import { addCalls, type Methods } from "./calls.js";
import type { Instance } from "./instance.js";

export interface ThreadBudget extends Methods<wit.ThreadBudget> {}

/**
 * A live view of one thread's budget: it sees what others consume and they see what it consumes. After
 * `resetThread`, `cleanupThread` or `clear` it goes on counting on its own, detached from the registry.
 *
 * `using`, or `[Symbol.dispose]()`, frees it; one that is forgotten is freed when it is collected.
 */
export class ThreadBudget implements Disposable {
  readonly #instance: Instance;
  #resource: wit.ThreadBudget | undefined;

  /** @internal */
  constructor(instance: Instance, resource: wit.ThreadBudget) {
    this.#instance = instance;
    this.#resource = resource;
  }

  static {
    addCalls(ThreadBudget.prototype, calls.threadBudget, (self, name, lowered) => {
      if (!self.#resource) throw new TypeError("the handle was given back already");
      return self.#instance.call(self.#resource, name, lowered);
    });
  }

  [Symbol.dispose](): void {
    const resource = this.#resource;
    this.#resource = undefined;
    // What a lost instance holds goes with it.
    if (resource && !this.#instance.isLost) this.#instance.call(resource, Symbol.dispose, []);
  }
}
