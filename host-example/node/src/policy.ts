import cores from "../build/policy/cores.js";
import { instantiate } from "../build/policy/component.js";
import type * as wit from "../build/policy/interfaces/thread-budget-router-policy.js";
import { compiler } from "./cores.js";
import { ThreadBudgetError } from "./errors.js";

export type * from "../build/policy/interfaces/thread-budget-router-policy.js";

/** The component that decides what becomes of a request broke off. The request fails; the next is not affected. */
export class PolicyLostError extends ThreadBudgetError {
  override readonly name = "PolicyLostError";
  readonly code = "policy-lost";

  /** @internal */
  constructor(cause: unknown) {
    super(`the policy broke off, and decides nothing more of this request (${cause})`, { cause });
  }
}

/** Tell what has happened, and hear what to do. */
export type Step = (event: wit.Event) => wit.Turn;

const core = compiler(cores);

/** The router's policy with its settings, which it has compiled. */
export class Policy {
  readonly #configuration: Uint8Array;

  /** @throws {RangeError} A setting is none, or has a value that it may not have. */
  constructor(settings: object) {
    try {
      this.#configuration = instantiate(core, {}).policy.compile(JSON.stringify(settings));
    } catch (reason) {
      // The contract's errors are plain values, since the component is transpiled so.
      throw typeof reason === "string" ? new RangeError(`settings: ${reason}`) : reason;
    }
  }

  /** Begin an exchange, with an instance of its own. */
  begin(): Step {
    const { policy } = instantiate(core, {});
    policy.configure(this.#configuration);
    return (event) => {
      try {
        return policy.step(BigInt(Math.floor(performance.now())), event);
      } catch (cause) {
        throw new PolicyLostError(cause);
      }
    };
  }
}
