/** A budget as a bar: what is used, what is held beside it, and marks where the thread is warned. */
import { Registry, type Severity, type Tokens } from "thread-budget";
import { formatTokens, make } from "./dom.js";

/** Where threads are warned: this page leaves it to the registry. */
export const THRESHOLDS = new Registry().thresholds();

export type State = "" | Severity | "exhausted";

export class Gauge {
  readonly element: HTMLElement;
  readonly #used = make("div", { class: "used" });
  readonly #held = make("div", { class: "held" });

  /** A plain one has no numbers at its marks. */
  constructor(plain = false) {
    const ticks = THRESHOLDS.map(({ percent }) => {
      const tick = make("div", { class: "tick" }, make("span", {}, String(percent)));
      tick.style.left = `${percent}%`;
      return tick;
    });
    this.element = make(
      "div",
      { class: plain ? "gauge plain" : "gauge", role: "meter", "aria-valuemin": "0", "aria-valuemax": "100" },
      make("div", { class: "bar" }, this.#used, this.#held),
      ...ticks,
    );
  }

  /** `percentUsed` may pass 100; the bar ends there, the text does not. */
  show(name: string, percentUsed: number, used: Tokens, held: Tokens, limit: Tokens, state: State): void {
    const usedShare = Math.min(100, percentUsed);
    const heldShare = Number(limit) === 0 ? 0 : Math.min(100 - usedShare, (Number(held) / Number(limit)) * 100);
    this.#used.style.width = `${usedShare}%`;
    this.#held.style.width = `${heldShare}%`;
    this.element.dataset["state"] = state;
    this.element.setAttribute("aria-label", `Budget of ${name}`);
    this.element.setAttribute("aria-valuenow", String(Math.round(usedShare)));
    const heldText = Number(held) > 0 ? `, ${formatTokens(held)} held` : "";
    this.element.setAttribute(
      "aria-valuetext",
      `${Math.round(percentUsed)} % used, ${formatTokens(used)} of ${formatTokens(limit)} tokens${heldText}`,
    );
  }
}
