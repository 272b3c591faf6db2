/** Agents and sub-agents to try budgets on: threads of one registry, a form to act on one, and messages. */
import { BudgetExhaustedError, InvalidInputError, Registry, ThreadBudgetError, type Hold, type ThreadBudget, type ThreadOptions } from "thread-budget";
import { byId, figures, formatTokens, make, message } from "./dom.js";
import { Gauge, THRESHOLDS, type State } from "./gauge.js";

/** What the page starts with. */
const AGENTS: [name: string, options: ThreadOptions][] = [
  ["planner", { maxTokens: 200_000 }],
  ["researcher", { maxTokens: 80_000, parent: "planner" }],
  ["reader", { maxTokens: 40_000, parent: "researcher" }],
  ["writer", { maxTokens: 60_000, parent: "planner" }],
];
/** Of a request's tokens, for show: most of them are the prompt. */
const PROMPT_SHARE = 0.8;
const MESSAGES_KEPT = 60;

/** A request under way, which holds tokens. */
interface Request {
  readonly threadId: string;
  readonly promptTokens: number;
  readonly hold: Hold;
  /** Where its tokens are held now: an ancestor when its own thread was reset or cleaned up. */
  thread: Thread;
}

class Thread {
  readonly children: Thread[] = [];
  readonly list = make("ul", { class: "branch" });
  readonly item: HTMLLIElement;
  readonly radio: HTMLInputElement;
  readonly gauge = new Gauge();
  readonly badge = make("span", { class: "badge" });
  readonly numbers = make("span", { class: "numbers" });

  constructor(
    readonly id: string,
    readonly budget: ThreadBudget,
    readonly parent: Thread | undefined,
    onSelect: (thread: Thread) => void,
  ) {
    this.radio = make("input", { type: "radio", name: "thread", value: id, id: `thread-${id}` });
    this.radio.addEventListener("change", () => onSelect(this));
    const row = make(
      "div",
      { class: "thread" },
      this.radio,
      make("div", { class: "thread-head" }, make("label", { for: this.radio.id }, id), this.badge, this.numbers),
      this.gauge.element,
    );
    row.addEventListener("click", () => this.radio.click());
    this.radio.addEventListener("click", (event) => event.stopPropagation());
    row.querySelector("label")!.addEventListener("click", (event) => event.stopPropagation());
    this.item = make("li", {}, row, this.list);
  }

  /** The thread and all below it. */
  *all(): Generator<Thread> {
    yield this;
    for (const child of this.children) yield* child.all();
  }

  state(): State {
    if (this.budget.isExhausted()) return "exhausted";
    const crossed = this.budget.triggeredThresholds();
    return THRESHOLDS.findLast(({ percent }) => crossed.includes(percent))?.severity ?? "";
  }

  show(): void {
    const usage = this.budget.usage();
    const percent = this.budget.percentUsed();
    const state = this.state();
    this.gauge.show(this.id, percent, usage.totalTokens, this.budget.heldTokens(), usage.maxTokens, state);
    this.badge.textContent = state;
    this.badge.dataset["state"] = state;
    this.numbers.replaceChildren(make("b", {}, `${Math.round(percent)} %`), ` ${formatTokens(usage.totalTokens)} of ${formatTokens(usage.maxTokens)}`);
  }
}

export class Playground {
  #registry!: Registry;
  #roots!: Thread[];
  #selected!: Thread;
  /** By number. */
  readonly #inFlight = new Map<number, Request>();
  #requests = 0;

  constructor() {
    this.#restart();
    const tokens = byId<HTMLInputElement>("tokens");
    const showTokens = () => (byId("tokens-value").textContent = formatTokens(tokens.valueAsNumber));
    tokens.addEventListener("input", showTokens);
    showTokens();

    const onClick = (id: string, act: () => void) => byId(id).addEventListener("click", () => this.#act(act));
    onClick("consume", () => this.#selected.budget.consume(...split(tokens.valueAsNumber)));
    onClick("hold", () => this.#hold(tokens.valueAsNumber));
    onClick("check", () => {
      this.#registry.checkBudget(this.#selected.id, tokens.valueAsNumber);
      this.#say("fits", this.#selected.id, `A request of ${formatTokens(tokens.valueAsNumber)} tokens fits, here and above.`);
    });
    onClick("reset", () => this.#reset());
    onClick("cleanup", () => this.#cleanUp());
    byId("restart").addEventListener("click", () => this.#restart());
    byId("open").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#act(() => this.#openBelowSelected());
    });
  }

  #restart(): void {
    this.#registry = new Registry();
    this.#roots = [];
    this.#inFlight.clear();
    this.#requests = 0;
    byId("messages").replaceChildren();
    byId("messages-empty").hidden = false;
    const tree = make("ul", { class: "branch" });
    byId("tree").replaceChildren(tree);
    const threads = new Map<string, Thread>();
    for (const [name, options] of AGENTS) threads.set(name, this.#open(name, options, threads.get(options.parent ?? "")));
    this.#select(threads.get("researcher")!);
    this.#showAll();
  }

  #open(name: string, options: ThreadOptions, parent: Thread | undefined): Thread {
    const thread = new Thread(name, this.#registry.openThread(name, options), parent, (thread) => {
      this.#select(thread);
      this.#showSelected();
    });
    (parent?.children ?? this.#roots).push(thread);
    (parent?.list ?? byId("tree").firstElementChild!).append(thread.item);
    return thread;
  }

  #openBelowSelected(): void {
    const name = byId<HTMLInputElement>("open-name");
    if (this.#registry.hasBudget(name.value)) {
      this.#say("refused", name.value, "There is a thread of that name; choose another.");
      return;
    }
    const parent = this.#selected;
    const thread = this.#open(name.value, { parent: parent.id, maxTokens: byId<HTMLInputElement>("open-limit").valueAsNumber }, parent);
    name.value = "";
    this.#select(thread);
    thread.radio.focus();
  }

  #hold(tokens: number): void {
    const thread = this.#selected;
    const [promptTokens, completionTokens] = split(tokens);
    const number = this.#requests + 1;
    const hold = this.#registry.hold(thread.id, `request-${number}`, promptTokens, completionTokens, 0);
    // Here a request goes out as soon as it has what it needs.
    hold.sent();
    this.#requests = number;
    this.#inFlight.set(number, { threadId: thread.id, promptTokens, hold, thread });
    if (hold.completionTokens < completionTokens) {
      this.#say("cut down", thread.id, `Of its answer, ${formatTokens(hold.completionTokens)} tokens fit instead of ${formatTokens(completionTokens)}.`);
    }
  }

  #reset(): void {
    this.#registry.resetThread(this.#selected.id);
    const old = this.#selected;
    const fresh = new Thread(old.id, this.#registry.getBudget(old.id), old.parent, (thread) => {
      this.#select(thread);
      this.#showSelected();
    });
    fresh.children.push(...old.children);
    fresh.list.append(...old.list.children);
    const siblings = old.parent?.children ?? this.#roots;
    siblings[siblings.indexOf(old)] = fresh;
    old.item.replaceWith(fresh.item);
    old.budget[Symbol.dispose]();
    this.#moveHolds(new Set([old]), old.parent);
    this.#select(fresh);
    this.#say("reset", fresh.id, "It starts from zero. What it used stays with those above it.");
  }

  #cleanUp(): void {
    const gone = this.#selected;
    const siblings = gone.parent?.children ?? this.#roots;
    if (!gone.parent && siblings.length === 1) {
      this.#say("refused", gone.id, "It is the last one; start over instead.");
      return;
    }
    const all = new Set(gone.all());
    const final = this.#registry.cleanupThread(gone.id)!;
    for (const thread of all) thread.budget[Symbol.dispose]();
    this.#moveHolds(all, gone.parent);
    siblings.splice(siblings.indexOf(gone), 1);
    gone.item.remove();
    this.#select(gone.parent ?? siblings[0]!);
    this.#say("cleaned up", gone.id, `It used ${formatTokens(final.usage.totalTokens)} tokens in ${formatTokens(final.usage.requestCount)} requests.`);
  }

  /** Holds of threads that are gone go on in the nearest ancestor that is left; without one they end. */
  #moveHolds(gone: Set<Thread>, ancestor: Thread | undefined): void {
    for (const [number, request] of this.#inFlight) {
      if (!gone.has(request.thread)) continue;
      if (ancestor) request.thread = ancestor;
      else this.#inFlight.delete(number);
    }
  }

  #select(thread: Thread): void {
    this.#selected = thread;
    thread.radio.checked = true;
  }

  /** Do it, say it when it is refused, and show what has come of it. */
  #act(act: () => void): void {
    try {
      act();
    } catch (error) {
      if (!(error instanceof ThreadBudgetError || error instanceof InvalidInputError || error instanceof RangeError)) throw error;
      this.#say("refused", error instanceof BudgetExhaustedError ? error.threadId : this.#selected.id, error.message);
    }
    for (const thread of this.#all()) {
      const warnings = this.#registry.pendingWarnings(thread.id);
      for (const { severity, message, runway } of warnings) {
        const more = runway === undefined ? "" : ` Of requests like the latest, ${formatTokens(runway)} more fit.`;
        this.#say(severity, thread.id, message + more);
      }
      this.#registry.acknowledgeWarnings(thread.id, warnings);
    }
    this.#showAll();
  }

  *#all(): Generator<Thread> {
    for (const root of this.#roots) yield* root.all();
  }

  #say(kind: string, threadId: string, text: string): void {
    byId("messages-empty").hidden = true;
    const messages = byId("messages");
    messages.prepend(message(kind, threadId, text));
    while (messages.children.length > MESSAGES_KEPT) messages.lastElementChild!.remove();
    byId("log").scrollTop = 0;
  }

  #showAll(): void {
    for (const thread of this.#all()) thread.show();
    this.#showSelected();
  }

  #showSelected(): void {
    const { id, budget } = this.#selected;
    const usage = budget.usage();
    byId("selected-title").textContent = id;
    const state = this.#selected.state();
    byId("selected-state").textContent = state;
    byId("selected-state").dataset["state"] = state;
    byId("selected-figures").replaceChildren(
      ...figures([
        ["used", formatTokens(usage.totalTokens)],
        ["held", formatTokens(budget.heldTokens())],
        ["left", formatTokens(usage.remaining)],
        ["requests", formatTokens(usage.requestCount)],
      ]),
    );
    this.#showInFlight();
  }

  #showInFlight(): void {
    const entries = [...this.#inFlight].map(([number, { threadId, promptTokens, hold, thread }]) => {
      const completionTokens = Number(hold.completionTokens);
      const name = `request ${number} of ${threadId}`;
      const end = (label: string, title: string, end: () => void) => {
        const button = make("button", { type: "button", class: "small", "aria-label": `${label}: ${title} ${name}` }, label);
        button.addEventListener("click", () => {
          this.#inFlight.delete(number);
          this.#act(end);
          const next = byId("held").querySelector("button") ?? byId("hold");
          next.focus();
        });
        return button;
      };
      const where = thread.id === threadId ? "" : `, now of ${thread.id}`;
      return make(
        "li",
        {},
        make("span", { class: "swatch held" }),
        make("span", {}, `#${number} ${threadId}, ${formatTokens(promptTokens + completionTokens)}${where}`),
        end("Used all", "settle", () => hold.settle(promptTokens, completionTokens)),
        end("Half", "settle", () => hold.settle(Math.round(promptTokens / 2), Math.round(completionTokens / 2))),
        end("No answer", "settle what may be billed of", () => hold[Symbol.dispose]()),
        end("Release", "give back", () => hold.release()),
      );
    });
    byId("held").replaceChildren(...entries);
  }
}

function split(tokens: number): [prompt: number, completion: number] {
  const prompt = Math.round(tokens * PROMPT_SHARE);
  return [prompt, Math.round(tokens) - prompt];
}
