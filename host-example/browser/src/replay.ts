/** A recording put through the component, forwards and backwards, a slice of time at a time. */
import { BudgetExhaustedError, Registry, type Severity, type Tokens } from "thread-budget";
import type { UsageRecord } from "./recording.js";

export interface ReplaySettings {
  maxTokensPerThread: number;
  /** Refuse what does not fit instead of recording it. */
  enforce: boolean;
}

/** What the largest threads are shown with. */
export interface ThreadTotal {
  threadId: string;
  totalTokens: Tokens;
  percentUsed: number;
  severity: Severity | undefined;
}

/** How many threads used which share of their limit: bins of 5 %, the last one for 100 % and more. */
export const SHARES = 21;
/** How many columns the timeline has. */
export const COLUMNS = 240;

const LARGEST_SHOWN = 6;
const MESSAGES_SHOWN = 6;

/** What has come of the records so far. */
class Progress {
  position = 0;
  refused = 0;
  prompt = 0;
  completion = 0;
  readonly warnings: Record<Severity, number> = { warning: 0, critical: 0, final: 0 };
  /** By column of the timeline. */
  readonly marks: Record<Severity | "refused", Uint32Array> = {
    warning: new Uint32Array(COLUMNS),
    critical: new Uint32Array(COLUMNS),
    final: new Uint32Array(COLUMNS),
    refused: new Uint32Array(COLUMNS),
  };
  /** The share each thread is counted in. */
  readonly threads = new Map<string, number>();
  readonly shares = new Uint32Array(SHARES);
  /** The largest, descending. */
  readonly largest: ThreadTotal[] = [];
  /** The latest warnings and refusals, the newest first. */
  readonly messages: { severity: Severity | "refused"; threadId: string; text: string }[] = [];
}

export class Replay {
  /** What the records use, by column of the timeline, whether played or not. */
  readonly columns: { prompt: Float64Array; completion: Float64Array };
  #registry: Registry;
  #progress = new Progress();

  constructor(
    readonly records: readonly UsageRecord[],
    readonly settings: ReplaySettings,
  ) {
    this.columns = { prompt: new Float64Array(COLUMNS), completion: new Float64Array(COLUMNS) };
    records.forEach(({ promptTokens, completionTokens }, at) => {
      const column = this.#column(at);
      this.columns.prompt[column]! += Number(promptTokens);
      this.columns.completion[column]! += Number(completionTokens);
    });
    this.#registry = this.#fresh();
  }

  get progress(): Readonly<Progress> {
    return this.#progress;
  }

  /** Go towards a position until it is reached or the time is up, and say whether it was reached. */
  seek(target: number, milliseconds: number): boolean {
    if (target < this.#progress.position) {
      // Budgets only grow: going back is starting over.
      this.#registry = this.#fresh();
      this.#progress = new Progress();
    }
    const end = performance.now() + milliseconds;
    while (this.#progress.position < target) {
      this.#play(this.records[this.#progress.position]!);
      this.#progress.position += 1;
      if (this.#progress.position % 64 === 0 && performance.now() >= end) return this.#progress.position >= target;
    }
    return true;
  }

  #fresh(): Registry {
    return new Registry({ maxTokensPerThread: this.settings.maxTokensPerThread });
  }

  #column(at: number): number {
    return Math.floor((at * COLUMNS) / this.records.length);
  }

  #play({ threadId, promptTokens, completionTokens }: UsageRecord): void {
    const progress = this.#progress;
    const column = this.#column(progress.position);
    if (this.settings.enforce) {
      try {
        this.#registry.checkBudget(threadId, saturatingSum(promptTokens, completionTokens));
      } catch (error) {
        if (!(error instanceof BudgetExhaustedError)) throw error;
        progress.refused += 1;
        progress.marks.refused[column]! += 1;
        this.#say("refused", threadId, error.message);
        // One that was there already is where it was.
        if (!progress.threads.has(threadId)) this.#rank(threadId, error.used, undefined);
        return;
      }
    }
    const { usage, severity, crossed } = this.#registry.consume(threadId, promptTokens, completionTokens);
    progress.prompt += Number(promptTokens);
    progress.completion += Number(completionTokens);
    for (const threshold of crossed) {
      const { severity, message } = this.#registry.budgetWarning(threshold);
      progress.warnings[severity] += 1;
      progress.marks[severity][column]! += 1;
      this.#say(severity, threadId, message);
    }
    this.#rank(threadId, usage.totalTokens, severity);
  }

  #say(severity: Severity | "refused", threadId: string, text: string): void {
    this.#progress.messages.unshift({ severity, threadId, text });
    this.#progress.messages.length = Math.min(this.#progress.messages.length, MESSAGES_SHOWN);
  }

  /** Count the thread where it belongs now, and keep the largest in order. */
  #rank(threadId: string, totalTokens: Tokens, severity: Severity | undefined): void {
    const { threads, shares, largest } = this.#progress;
    const limit = this.settings.maxTokensPerThread;
    const percentUsed = limit === 0 ? 0 : (Number(totalTokens) / limit) * 100;
    const share = Math.min(SHARES - 1, Math.floor(percentUsed / 5));
    const before = threads.get(threadId);
    if (before !== share) {
      if (before !== undefined) shares[before]! -= 1;
      shares[share]! += 1;
      threads.set(threadId, share);
    }

    const known = largest.findIndex((thread) => thread.threadId === threadId);
    if (known >= 0) largest.splice(known, 1);
    const place = largest.findIndex((thread) => thread.totalTokens < totalTokens);
    if (place >= 0 || largest.length < LARGEST_SHOWN) {
      largest.splice(place < 0 ? largest.length : place, 0, { threadId, totalTokens, percentUsed, severity });
      largest.length = Math.min(largest.length, LARGEST_SHOWN);
    }
  }
}

function saturatingSum(a: Tokens, b: Tokens): bigint {
  const sum = BigInt(a) + BigInt(b);
  return sum < 2n ** 64n ? sum : 2n ** 64n - 1n;
}
